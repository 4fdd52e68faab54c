"""records.jsonl while it is written: a record is on disk before it counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from trt_common.locked_file import try_lock
from trt_common.private_file import open_private

from mmlu_client.errors import RunError
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.whole_lines import append_lines, cut_torn_line


class RecordFile:
    """This is records.jsonl, open for appending by this client alone.

    What `append` has returned from is with the operating system, in whole lines.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and cut off what a killed client left of its last line.

        Raises:
            RunError: the file cannot be written, or another client writes it.
        """
        self._path = path
        try:
            self._file = open(path, "ab", buffering=0, opener=open_private)  # noqa: SIM115
            if not try_lock(self._file.fileno()):
                raise RunError(f"another mmlu-client is writing {path}: let it end first")
            cut_torn_line(path)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None

    def append(self, records: Sequence[AnyRecord]) -> None:
        """Write the records, each as a line.

        Raises:
            RunError: the disk is full or gone; then none of these records is in the file.
        """
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
