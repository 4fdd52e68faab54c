"""mmlu-client with Python's own memory traced: `python traced_client.py FLAGS`.

Its last line on stdout: the most bytes held when a record was written, and the most ever.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Sequence

from mmlu_client.cli import main
from mmlu_client.record_file import RecordFile
from mmlu_client.records import Record


class Traced:
    most = 0


def trace() -> None:
    append = RecordFile.append

    def appended(self: RecordFile, records: Sequence[Record]) -> None:
        append(self, records)
        Traced.most = max(Traced.most, tracemalloc.get_traced_memory()[0])

    RecordFile.append = appended  # type: ignore[method-assign]
    tracemalloc.start()


if __name__ == "__main__":
    trace()
    try:
        main(sys.argv[1:])
    finally:
        print(Traced.most, tracemalloc.get_traced_memory()[1])
