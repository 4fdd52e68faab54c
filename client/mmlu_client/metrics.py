"""What Prometheus scrapes of a run: every name and help text in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from mmlu_client.model import ServedModel
from mmlu_client.question_file import Selection
from mmlu_client.records import Record

LATENCY_BUCKETS = tuple(float(f"{base}e{exponent}") for exponent in range(-4, 3) for base in (1, 2.5, 5))
OUTCOMES = ("correct", "wrong", "failed")
KINDS = ("logical", "computed")


class Metrics:
    """One run's metrics, in one registry of their own. They count the compiled engine's answers."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self._questions = Counter(
            "mmlu_client_questions", "Questions recorded, by outcome.", ["subject", "outcome"], registry=r
        )
        self._planned = Gauge(
            "mmlu_client_questions_planned", "Questions this run is to ask.", ["subject"], registry=r
        )
        self._tokens = Counter(
            "mmlu_client_tokens",
            "Tokens of answered prompts: logical (asked for), computed (run by the engine).",
            ["kind"],
            registry=r,
        )
        self._flops = Counter(
            "mmlu_client_flops", "Floating-point operations of computed tokens.", registry=r
        )
        self._core = Counter(
            "mmlu_client_core_seconds", "Seconds of the engine's compute alone, as replies tell.", registry=r
        )
        self._peak = Gauge("mmlu_client_peak_flops", "FLOP/s that MFU is a share of.", registry=r)
        self._latency = Histogram(
            "mmlu_client_request_seconds",
            "Seconds from when a request was due to its reply.",
            buckets=LATENCY_BUCKETS,
            registry=r,
        )
        self._in_flight = Gauge(
            "mmlu_client_requests_in_flight", "Requests that wait for their reply.", registry=r
        )
        self._seconds = Gauge(
            "mmlu_client_run_seconds",
            "Seconds from the first prompt issued to the last reply so far: whole time.",
            registry=r,
        )
        self._info = Info("mmlu_client", "What is measured, and on what.", registry=r)

    def describe(
        self,
        questions: Selection,
        model: ServedModel,
        *,
        data: str,
        prompt_format: str,
        batch_size: int,
    ) -> None:
        """Set what stands fixed once the model is known; counters begin at 0, or a rate misses the first."""
        for subject, count in questions.counts().items():
            self._planned.labels(subject).set(count)
            for outcome in OUTCOMES:
                self._questions.labels(subject, outcome)
        for kind in KINDS:
            self._tokens.labels(kind)
        self._peak.set(model.peak_flops)
        self._info.info(
            {
                "model": model.id,
                "engine": model.engine.name,
                "precision": model.engine.precision,
                "device": model.device.name,
                "data": data,
                "prompt_format": prompt_format,
                "bs": str(batch_size),
            }
        )

    def add(self, records: Sequence[Record]) -> None:
        """Count the records of one request."""
        for record in records:
            outcome = "failed" if record.score is None else "correct" if record.correct else "wrong"
            self._questions.labels(record.question.subject, outcome).inc()
            if record.score is not None:
                self._tokens.labels("logical").inc(record.score.logical_tokens)
                self._tokens.labels("computed").inc(record.score.computed_tokens)
                self._flops.inc(record.score.flops)
        exchange = records[0].exchange if records else None
        if exchange is not None and exchange.timing is not None:
            self._core.inc(exchange.timing.core / 1e9)
            self._latency.observe((exchange.received_ns - exchange.due_ns) / 1e9)

    def watch_in_flight(self, requests: Callable[[], float]) -> None:
        """Asked at every scrape."""
        self._in_flight.set_function(requests)

    def set_whole_seconds(self, seconds: float) -> None:
        self._seconds.set(seconds)
