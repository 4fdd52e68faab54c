"""JSON files → dataclasses, and what is said of a file that holds something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from trt_common.private_file import open_regular

from mmlu_client.errors import InputError
from mmlu_client.rundir.json_object import JsonError, read_as

Read = TypeVar("Read")

# Of objects and lists in each other: what is read is walked through by functions that call themselves.
MOST_NESTING = 100
TOO_DEEP = "it is nested too deeply"


class UnreadableError(InputError):
    """A file cannot be read.

    Attributes:
        error: what the operating system says.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot read {path}: {error.strerror}")
        self.error = error


def read_json_file(
    path: Path, kind: type[Read], what: str, *, version: tuple[str, int] | None = None, remedy: str = ""
) -> Read:
    """Read the object in a file.

    Args:
        path: the file.
        kind: a dataclass with a field for each key.
        what: what the file should be, for messages.
        version: the key that tells which version wrote the file, and this client's; None: it has none.
        remedy: what to do where the file holds something else.

    Raises:
        UnreadableError: it cannot be read.
        InputError: it holds something else, or another version wrote it.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogatepass", opener=open_regular) as file:
            found = json.load(file)
        _check_nesting(found)
        if version is not None and isinstance(found, Mapping):
            key, number = version
            if found.get(key, number) != number:
                raise InputError(
                    f"{path} was written by another version of mmlu-client: read it with that one"
                )
        read: Read = read_as(kind, found)
    except OSError as error:
        raise UnreadableError(path, error) from None
    except RecursionError:
        raise InputError(f"{path} is not {what}: {TOO_DEEP}{remedy and f'; {remedy}'}") from None
    except (JsonError, ValueError) as error:
        raise InputError(f"{path} is not {what}: {error}{remedy and f'; {remedy}'}") from None
    return read


def _check_nesting(found: Any) -> None:
    level = [found]
    for _ in range(MOST_NESTING):
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [value for each in inner for value in (each.values() if isinstance(each, dict) else each)]
    if level:
        raise JsonError(TOO_DEEP)
