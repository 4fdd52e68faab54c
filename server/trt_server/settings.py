"""Every choice a start is made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENGINES = ("auto", "tensorrt", "onnxruntime", "torch")
REFERENCES = ("torch",)
PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True)
class Settings:
    """Ports: 0 takes a free one. threads 0: every core the process may use. precision, max_batch_size and
    prefix_cache_bytes None: the engine's own. max_prompt_tokens None: as long as the model's positions reach,
    within reason. devices: GPUs by CUDA's numbers; None: the first, or the CPU. Of `build` alone: targets,
    compute capabilities as "sm80", None for the device here; layers, a folder for what the plan runs."""

    model: str
    engine: str
    devices: tuple[int, ...] | None
    targets: tuple[str, ...] | None
    layers: Path | None
    reference: str | None
    precision: str | None
    host: str
    grpc_port: int
    metrics_port: int
    tls_cert: Path | None
    tls_key: Path | None
    tf32: bool
    threads: int
    max_batch_size: int | None
    max_prompt_tokens: int | None
    max_batch_tokens: int | None
    max_queue_delay_us: int
    prefix_cache_bytes: int | None
    max_queue_size: int
    stream_window: int
    peak_flops: float | None
    drain_timeout: float
    log_format: str
    log_level: str
