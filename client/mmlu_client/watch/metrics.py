"""A run's Prometheus metrics, with all names and help texts."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import numpy as np
from trt_common.metrics import LATENCY_BUCKETS

from mmlu_client.data.item import Item, subject_counts
from mmlu_client.figures.span import spans
from mmlu_client.figures.stages import latency
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.record import AnsweredRequest
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.model import ServedModel
from mmlu_client.watch.prometheus import CollectorRegistry, Counter, Gauge, Histogram, Info

OUTCOMES = ("correct", "wrong", "failed")
# Of documents whose task does not say whether they are right.
SCORED = "scored"
KINDS = ("logical", "computed")


class Metrics:
    """The metrics of one run over all its starts, in a registry of their own.

    They are those of the compiled engine's answers.
    """

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
        self._possible_flops = Counter(
            "mmlu_client_possible_flops",
            "Core seconds times the peak of the server they were spent on: what MFU is a share of.",
            registry=r,
        )
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
        # By the number of the client's start and the name of the server.
        self._peaks: dict[tuple[int, str], float] = {}
        self._core_seconds: dict[tuple[int, str], float] = collections.defaultdict(float)
        self._earlier_seconds = 0.0

    def describe(
        self,
        questions: Sequence[Item],
        model: ServedModel,
        *,
        data: str,
        prompt_format: str,
        batch_size: int,
        reuse_prefix: bool,
        outcomes: Sequence[str] = OUTCOMES,
    ) -> None:
        """Set what does not change once the model is known, and make all counters begin at 0.

        A counter that appeared later would hide its first increase from `rate`.

        Args:
            questions: What will be asked.
            model: The model and its engine.
            data: The name of the questions.
            prompt_format: The name of the prompt format.
            batch_size: The number of prompts in a request.
            reuse_prefix: Whether prefixes may be reused.
            outcomes: The outcomes that a question may have.
        """
        for subject, count in subject_counts(questions).items():
            self._planned.labels(subject).set(count)
            for outcome in outcomes:
                self._questions.labels(subject, outcome)
        for kind in KINDS:
            self._tokens.labels(kind)
        self._info.info(
            {
                "model": model.id,
                "engine": model.engine.name,
                "precision": model.engine.precision,
                "device": model.device.name,
                "data": data,
                "prompt_format": prompt_format,
                "bs": str(batch_size),
                "reuse_prefix": str(reuse_prefix).lower(),
            }
        )

    def add_server(self, name: str, session: int, peak_flops: float | None) -> None:
        """Set the peak of a server, before the first record that it answered in this start of the client.

        Where a server comes back in the same start with a larger peak, that peak counts from the beginning.

        Args:
            name: The name of the server.
            session: The number of the client's start.
            peak_flops: The peak in FLOP/s; None: not known, and nothing is a share of it.
        """
        if peak_flops is None:
            return
        place = session, name
        grown = peak_flops - self._peaks.get(place, peak_flops)
        self._peaks[place] = peak_flops
        self._possible_flops.inc(grown * self._core_seconds[place])

    def add_earlier(self, records: RecordTable) -> None:
        """Count the records of earlier starts of the client."""
        scored, correct = records.is_scored, records.correct
        wrong = np.where(records.is_graded, "wrong", SCORED)
        outcomes = np.where(correct, "correct", np.where(scored, wrong, "failed"))
        for (subject, outcome), count in collections.Counter(
            zip(records["subject"], outcomes, strict=True)
        ).items():
            self._questions.labels(subject, outcome).inc(count)
        for kind in KINDS:
            self._tokens.labels(kind).inc(float(records[f"tokens.{kind}"].sum()))
        self._flops.inc(float(records["flops"].sum(dtype=float)))
        requests = records.requests()
        places = zip(requests["session"].tolist(), requests["server"].tolist(), strict=True)
        # Of a server that does not tell it, 0.
        seconds = (requests["server_ns.core"] / 1e9).tolist()
        for place, core, waited in zip(places, seconds, latency(requests).tolist(), strict=True):
            self._count_request(place, core, waited)
        self._earlier_seconds = sum(span.whole_seconds for span in spans(records).values())
        self.set_whole_seconds(0.0)

    def add(self, records: Sequence[AnyRecord]) -> None:
        """Count records."""
        for record in records:
            self._questions.labels(record.subject, _outcome(record)).inc()
            self._tokens.labels("logical").inc(record.tokens.logical or 0)
            self._tokens.labels("computed").inc(record.tokens.computed or 0)
            self._flops.inc((record.flops or 0) if record.tokens.computed is not None else 0)

    def add_request(self, session: int, request: AnsweredRequest) -> None:
        """Count a request that was answered with scores.

        Args:
            session: The number of the client's start.
            request: The request.
        """
        times, stages = request.client_ns, request.server_ns
        if request.server is not None and times is not None:
            waited, core = (
                (times.received - times.due) / 1e9,
                stages.core / 1e9 if stages is not None else 0.0,
            )
            self._count_request((session, request.server), core, waited)

    def _count_request(self, place: tuple[int, str], core_seconds: float, latency_seconds: float) -> None:
        self._core.inc(core_seconds)
        self._core_seconds[place] += core_seconds
        self._possible_flops.inc(core_seconds * self._peaks.get(place, 0.0))
        self._latency.observe(latency_seconds)

    def watch_in_flight(self, requests: Callable[[], float]) -> None:
        """Set the function that returns the number of requests in flight; it is called at every scrape."""
        self._in_flight.set_function(requests)

    def set_whole_seconds(self, seconds: float) -> None:
        """Set the whole time of this start of the client, in seconds."""
        self._seconds.set(self._earlier_seconds + seconds)


def _outcome(record: AnyRecord) -> str:
    if not record.is_scored:
        return "failed"
    if record.correct is None:
        return SCORED
    return "correct" if record.correct else "wrong"
