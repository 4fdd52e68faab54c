"""counters.jsonl: what the servers' own metrics counted before and after each phase."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trt_common.private_file import open_private

from mmlu_client.rundir.json_lines import read_json_lines
from mmlu_client.rundir.whole_lines import append_lines
from mmlu_client.service.counters import Counters


@dataclass(frozen=True)
class CounterReading:
    """What one server's metrics said.

    Attributes:
        phase: VAL or INFER.
        session: which start of the client, from 0.
        source: the address of the metrics.
        counters: as they were.
    """

    phase: str
    session: int
    source: str
    counters: Counters


def append_reading(path: Path, reading: CounterReading) -> None:
    """Append a reading to the file.

    Raises:
        OSError: it cannot be written.
    """
    line = json.dumps(asdict(reading), separators=(",", ":")) + "\n"
    with open(path, "ab", buffering=0, opener=open_private) as file:
        append_lines(file, line)


def read_counter_log(path: Path) -> list[CounterReading]:
    """Read the readings; none where there is no such file. What is no reading is left out.

    Raises:
        InputError: the file cannot be read.
    """
    return read_json_lines(path, CounterReading)[0]
