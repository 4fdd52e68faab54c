"""JSON files → dataclasses, and what is said of a file that holds something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mmlu_client.errors import InputError
from mmlu_client.rundir.json_object import JsonError, read_as

Read = TypeVar("Read")


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
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
        if version is not None and isinstance(found, Mapping):
            key, number = version
            if found.get(key, number) != number:
                raise InputError(
                    f"{path} was written by another version of mmlu-client: read it with that one"
                )
        read: Read = read_as(kind, found)
    except OSError as error:
        raise UnreadableError(path, error) from None
    except (JsonError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not {what}: {error}{remedy and f'; {remedy}'}") from None
    return read
