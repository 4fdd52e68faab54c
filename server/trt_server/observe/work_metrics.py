"""What engines compute, and in which time."""

from __future__ import annotations

from collections.abc import Sequence

from scoring.v1 import scoring_pb2 as pb

from trt_server.observe.prometheus import CollectorRegistry, Counter, Histogram
from trt_server.scheduling.stages import STAGE_NAMES

# From 1 ms to a minute there are 24 a decade, each a tenth above the one before, so that a median that is
# interpolated in one is off by a twentieth at the most.
STAGE_BUCKETS = (
    *(float(f"{base}e{exponent}") for exponent in range(-6, -3) for base in (1, 2.5, 5)),
    *(float(f"{10 ** (step / 24 - 3):.3g}") for step in range(116)),
    *(100.0, 250.0, 500.0),
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKEN_KINDS = ("logical", "computed", "padding")
STAGES = (*STAGE_NAMES, "total")


class WorkMetrics:
    """Counts what was computed, and how long it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "trt_server_tokens",
            "Tokens: logical (asked for), computed (run by the engine), padding (run and thrown away).",
            ["engine", "device", "kind"],
            registry=registry,
        )
        self._flops = Counter(
            "trt_server_flops",
            "Floating-point operations of computed tokens.",
            ["engine", "device"],
            registry=registry,
        )
        self._core = Counter(
            "trt_server_core_seconds",
            "Seconds of the engine's compute alone, on each device.",
            ["engine", "device"],
            registry=registry,
        )
        self._stage = Histogram(
            "trt_server_stage_seconds",
            "Seconds of a request in each stage.",
            ["engine", "stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "trt_server_batch_size",
            "Prompts in a batch the engine ran.",
            ["engine"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )

    def begin(self, engine: str, devices: Sequence[str]) -> None:
        """Start an engine's counters at 0, or a rate would miss the first of their events."""
        for stage in STAGES:
            self._stage.labels(engine, stage)
        self._batch.labels(engine)
        for device in devices:
            for kind in TOKEN_KINDS:
                self._tokens.labels(engine, device, kind)
            for metric in (self._flops, self._core):
                metric.labels(engine, device)

    def observe_batch(self, engine: str, prompts: int) -> None:
        """Count a batch of so many prompts."""
        self._batch.labels(engine).observe(prompts)

    def observe(self, engine: str, device: str, response: pb.ScoreResponse) -> tuple[int, float]:
        """Count a request that was scored; return its FLOPs, and its seconds of compute."""
        logical = sum(score.tokens.logical for score in response.scores)
        computed = sum(score.tokens.computed for score in response.scores)
        flops = sum(score.flops for score in response.scores)
        core_seconds = response.timing.core_ns / 1e9
        padding = response.batch.padding_tokens
        for kind, tokens in zip(TOKEN_KINDS, (logical, computed, padding), strict=True):
            self._tokens.labels(engine, device, kind).inc(tokens)
        self._flops.labels(engine, device).inc(flops)
        self._core.labels(engine, device).inc(core_seconds)
        for stage in STAGES:
            self._stage.labels(engine, stage).observe(getattr(response.timing, f"{stage}_ns") / 1e9)
        return flops, core_seconds
