"""What the server says about the model it serves."""

from __future__ import annotations

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
    """Memory in bytes; None where the device does not tell."""

    name: str
    memory_used: int | None
    memory_peak: int | None
    memory_total: int | None


@dataclass(frozen=True)
class ServedModel:
    """peak_flops: FLOP/s, dense, for the precision in use. notice: what its accuracy's reader has to know."""

    id: str
    architecture: str
    fingerprint: str
    parameters: int
    vocabulary_size: int
    engine: EngineInfo
    device: Device
    peak_flops: float
    peak_source: str
    max_prompt_tokens: int
    max_batch_size: int
    stream_window: int
    notice: str
    server_version: str

    def same_answers(self, other: ServedModel) -> bool:
        """Whether both would answer every prompt alike."""
        mine, theirs = (
            (self.fingerprint, self.engine.fingerprint),
            (other.fingerprint, other.engine.fingerprint),
        )
        return mine == theirs
