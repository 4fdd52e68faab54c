"""What the server says about the model it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineInfo:
    name: str
    version: str
    precision: str
    fingerprint: str
    load_seconds: float
    build_seconds: float


@dataclass(frozen=True)
class Device:
    """Memory in bytes, energy as a counter; None where the device does not tell.

    id: equal where two servers share the device. part: what the server may use of it, None for all.
    """

    name: str
    memory_used: int | None
    memory_peak: int | None
    memory_total: int | None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    id: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class ServedTokenizer:
    """files: file name → content. sample_ids: of sample_text, as the server makes them; both empty where it
    does not tell."""

    files: Mapping[str, bytes]
    fingerprint: str
    sample_text: str
    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class PeakMeasurements:
    """How often a peak was measured, and the least of the rates, FLOP/s.

    contended: other processes had the cores in every one of them, so that even the largest is too low.
    """

    count: int
    least_flops: float
    contended: bool


@dataclass(frozen=True)
class ServedModel:
    """peak_flops: FLOP/s, dense, for the precision in use, of each of its devices; peak_measurements: None
    where it is known without. device: all of them together. reference: None where none is loaded. notice:
    what its accuracy's reader has to know.
    """

    id: str
    architecture: str
    fingerprint: str
    parameters: int
    vocabulary_size: int
    engine: EngineInfo
    reference: EngineInfo | None
    device: Device
    peak_flops: float
    peak_source: str
    max_prompt_tokens: int
    max_batch_size: int
    stream_window: int
    notice: str
    server_version: str
    devices: tuple[Device, ...] = ()
    peak_measurements: PeakMeasurements | None = None

    def difference(self, other: ServedModel) -> str | None:
        """What makes the other's answers another model's or engine's; None where nothing does."""
        if self.fingerprint != other.fingerprint:
            return f"model {self.id} ({self.fingerprint}) and {other.id} ({other.fingerprint})"
        if self.engine.fingerprint != other.engine.fingerprint:
            mine, theirs = (f"{each.name} ({each.fingerprint})" for each in (self.engine, other.engine))
            return f"engine {mine} and {theirs}"
        return None
