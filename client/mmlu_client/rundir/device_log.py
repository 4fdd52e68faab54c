"""device.jsonl: what the servers' devices told while a run was on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trt_common.private_file import open_private

from mmlu_client.rundir.json_lines import read_json_lines
from mmlu_client.rundir.whole_lines import append_lines
from mmlu_client.service.model import Device


@dataclass(frozen=True)
class Reading:
    """What one server said of one device.

    Attributes:
        phase: VAL or INFER.
        session: which start of the client, from 0.
        server: the server's name.
        monotonic_ns: when the answer came, in nanoseconds of the client's monotonic clock.
        device: the readings.
    """

    phase: str
    session: int
    server: str
    monotonic_ns: int
    device: Device

    @property
    def device_key(self) -> str:
        """The device's identity, the same for every server that is on it, where it is known."""
        return self.device.id or f"{self.server} {self.device.name}"


def append_readings(path: Path, readings: Sequence[Reading]) -> None:
    """Append readings to the file, all of them or none.

    Raises:
        OSError: they cannot be written.
    """
    lines = "".join(json.dumps(asdict(reading), separators=(",", ":")) + "\n" for reading in readings)
    with open(path, "ab", buffering=0, opener=open_private) as file:
        append_lines(file, lines)


def read_device_log(path: Path) -> tuple[list[Reading], int]:
    """Read the readings.

    Returns:
        Every reading, and how many lines are none. There are none of both where there is no such file.

    Raises:
        InputError: the file cannot be read.
    """
    return read_json_lines(path, Reading)
