"""The config file that `--config` names: flags and their values in YAML."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TextIO

import configargparse
import yaml

from trt_common.command_line.nearest import suggestion
from trt_common.small_file import read_small_file


class ConfigFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """The reader of config files; a flag without a value, or with an empty one, is as if it were not there.

    Attributes:
        keys: returns the flags, without dashes, that a file may set.
    """

    keys: Callable[[], Collection[str]] = list

    def get_syntax_description(self) -> str:
        """Return what a config file has to look like, in words."""
        return "YAML, as `flag: value`"

    def parse(self, stream: TextIO) -> dict[str, str | list[Any]]:
        """Return the flags that a file sets, without dashes, and their values.

        Raises:
            ConfigFileParserException: it is not YAML of that form, or it sets what is no flag.
        """
        try:
            content = yaml.safe_load(stream)
        except (yaml.YAMLError, ValueError, OSError) as error:
            raise _wrong(stream, f"is not YAML: {error}") from None
        except RecursionError:
            raise _wrong(stream, "is nested too deeply") from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise _wrong(stream, "has to hold lines like `flag: value`")
        known = self.keys()
        for key in map(str, content):
            if key not in known:
                raise _wrong(
                    stream, f"sets `{key}`, which is no flag that a file can set{suggestion(key, known)}"
                )
        for key, value in content.items():
            # Aliases of aliases would be a text of gigabytes.
            if any(isinstance(each, dict | list) for each in (value if isinstance(value, list) else [value])):
                raise _wrong(stream, f"gives `{key}` what is neither a value nor a list of values")
        return {
            str(flag): value if isinstance(value, list) else str(value)
            for flag, value in content.items()
            if value not in (None, "")
        }


def _wrong(stream: TextIO, what: str) -> Exception:
    return configargparse.ConfigFileParserException(f"the config file {stream.name} {what}")  # type: ignore[no-any-return]


def open_config(path: str) -> TextIO:
    """Open a config file as UTF-8, whatever the locale.

    Raises:
        OSError: it cannot be read, or `read_small_file` refuses it.
    """
    content = io.BytesIO(read_small_file(Path(path)))
    # What errors call it.
    content.name = path
    return io.TextIOWrapper(content, encoding="utf-8")
