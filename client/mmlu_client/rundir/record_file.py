"""records.jsonl while it is written: a record is on disk before it counts."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from mmlu_client.errors import RunError
from mmlu_client.rundir.record import Record
from mmlu_client.rundir.whole_lines import append_lines, cut_torn_line


class RecordFile:
    """Appends. What `append` has returned from is with the operating system, whole lines only."""

    def __init__(self, path: Path) -> None:
        """Cuts off what a killed client left of its last line.

        Raises RunError where the file cannot be written, or another client writes it.
        """
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cut_torn_line(path)
        except BlockingIOError:
            raise RunError(f"another mmlu-client is writing {path}: let it end first") from None
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None

    def append(self, records: Sequence[Record]) -> None:
        """Raises RunError when the disk is full or gone; nothing of these records is kept then."""
        lines = "".join(
            f"{json.dumps(vars(record), default=vars, separators=(',', ':'))}\n" for record in records
        )
        try:
            append_lines(self._file, lines)
        except OSError as error:
            raise RunError(
                f"cannot write {self._path}: {error.strerror}; what was scored before is in it"
            ) from None

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
