"""mmlu-client with Python's own memory traced: `python traced_client.py FLAGS`.

Its last line on stdout, in bytes: what it held when its last record was written, the most that it held when
any was written, and the most ever.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Sequence

from mmlu_client.cli import main
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.record_file import RecordFile


class Traced:
    last = 0
    most = 0


def trace() -> None:
    append = RecordFile.append

    def appended(self: RecordFile, records: Sequence[AnyRecord]) -> None:
        append(self, records)
        Traced.last = tracemalloc.get_traced_memory()[0]
        Traced.most = max(Traced.most, Traced.last)

    RecordFile.append = appended  # type: ignore[method-assign]
    tracemalloc.start()


if __name__ == "__main__":
    trace()
    try:
        main(sys.argv[1:])
    finally:
        print(Traced.last, Traced.most, tracemalloc.get_traced_memory()[1])
