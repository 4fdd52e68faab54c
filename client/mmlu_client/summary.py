"""Records → figures. docs/figures.md has the formulas in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmlu_client.model import ServedModel
from mmlu_client.records import Exchange, Record

GIB = 2**30


@dataclass(frozen=True)
class RunClock:
    """Seconds. whole: first prompt issued to last reply received. client: process start to report."""

    whole: float | None
    client: float
    interruptions: int
    outage: float


@dataclass(frozen=True)
class Summary:
    """Throughput in tokens a second, times in seconds, memory in GiB, shares 0 to 1; None: not measured."""

    engine: str
    precision: str
    bs: int
    e2e_time: float
    p_val_whole: float | None
    p_val_core: float | None
    p_infer_whole: float | None
    p_infer_core: float | None
    mfu: float | None
    acc: float | None
    acc_val: float | None
    mem_used_gib: float | None
    mem_total_gib: float | None
    acc_stderr: float | None
    acc_macro: float | None
    acc_vocab: float | None
    mfu_flagperf: float | None
    mfu_whole: float | None
    whole_over_core: float | None
    questions: int
    answered: int
    failed: int
    unanswered: int
    logical_tokens: int
    computed_tokens: int
    prefix_hit_ratio: float | None
    flops: int
    whole_seconds: float | None
    core_seconds: float
    server_load_seconds: float
    server_build_seconds: float
    latency_p50_seconds: float | None
    latency_p90_seconds: float | None
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None
    mean_batch_size: float | None
    interruptions: int
    outage_seconds: float


def summarize(
    records: Sequence[Record], questions: int, batch_size: int, model: ServedModel, clock: RunClock
) -> Summary:
    """questions: how many the run was to ask; those without a record are `unanswered`."""
    scored = [record for record in records if record.score is not None]
    exchanges = {record.exchange.id: record.exchange for record in scored if record.exchange}.values()
    logical = sum(record.score.logical_tokens for record in scored if record.score)
    computed = sum(record.score.computed_tokens for record in scored if record.score)
    flops = sum(record.score.flops for record in scored if record.score)
    core = sum(exchange.timing.core for exchange in exchanges if exchange.timing) / 1e9
    p_whole, p_core = _ratio(logical, clock.whole), _ratio(logical, core)
    accuracy = _mean([record.correct for record in scored])
    latencies = [(exchange.received_ns - exchange.sent_ns) / 1e9 for exchange in exchanges]
    device = model.device
    return Summary(
        engine=model.engine.name,
        precision=model.engine.precision,
        bs=batch_size,
        e2e_time=model.engine.load_seconds + model.engine.build_seconds + clock.client,
        p_val_whole=None,
        p_val_core=None,
        p_infer_whole=p_whole,
        p_infer_core=p_core,
        mfu=mfu(flops, core, model.peak_flops),
        acc=accuracy,
        acc_val=None,
        mem_used_gib=_gib(device.memory_used if device.memory_peak is None else device.memory_peak),
        mem_total_gib=_gib(device.memory_total),
        acc_stderr=standard_error(accuracy, len(scored)),
        acc_macro=macro_accuracy(scored),
        acc_vocab=_mean([record.top_is_answer for record in scored]),
        mfu_flagperf=mfu_flagperf(p_core, model.parameters, model.peak_flops)
        if computed == logical
        else None,
        mfu_whole=mfu(flops, clock.whole, model.peak_flops),
        whole_over_core=_ratio(p_whole, p_core),
        questions=questions,
        answered=len(scored),
        failed=len(records) - len(scored),
        unanswered=questions - len(records),
        logical_tokens=logical,
        computed_tokens=computed,
        prefix_hit_ratio=1 - computed / logical if logical else None,
        flops=flops,
        whole_seconds=clock.whole,
        core_seconds=core,
        server_load_seconds=model.engine.load_seconds,
        server_build_seconds=model.engine.build_seconds,
        latency_p50_seconds=percentile(latencies, 50),
        latency_p90_seconds=percentile(latencies, 90),
        latency_p95_seconds=percentile(latencies, 95),
        latency_p99_seconds=percentile(latencies, 99),
        mean_batch_size=mean_batch_size(exchanges),
        interruptions=clock.interruptions,
        outage_seconds=clock.outage,
    )


def mfu(flops: int, seconds: float | None, peak_flops: float) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B): FLOPs done over FLOPs possible."""
    return _ratio(flops, seconds * peak_flops if seconds else None)


def mfu_flagperf(core_throughput: float | None, parameters: int, peak_flops: float) -> float | None:
    """FlagPerf's: two FLOPs a parameter and token; embedding, head and attention are not looked at."""
    return None if core_throughput is None else _ratio(2 * parameters * core_throughput, peak_flops)


def standard_error(share: float | None, count: int) -> float | None:
    """Of a mean of `count` yes-or-no outcomes: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count) if share is not None and count else None


def macro_accuracy(scored: Iterable[Record]) -> float | None:
    """The mean of the subjects' accuracies."""
    subjects: dict[str, list[bool]] = {}
    for record in scored:
        subjects.setdefault(record.question.subject, []).append(record.correct)
    return _mean([sum(correct) / len(correct) for correct in subjects.values()])


def mean_batch_size(exchanges: Iterable[Exchange]) -> float | None:
    """Prompts a batch that the engine ran. A request of r prompts in a batch of b is r/b of that batch."""
    pairs = [(exchange.prompts, exchange.batch.prompts) for exchange in exchanges if exchange.batch]
    batches = sum(prompts / batch for prompts, batch in pairs if batch)
    return _ratio(sum(prompts for prompts, _ in pairs), batches)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Linear between the two nearest ranks (numpy's default)."""
    return float(np.percentile(values, share)) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _gib(size: int | None) -> float | None:
    return None if size is None else size / GIB
