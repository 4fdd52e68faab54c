"""Records → figures. docs/figures.md has the formulas in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mmlu_client.figures.accuracy import (
    Accuracy,
    accuracy_of,
    agreement_of,
    group_accuracies,
    macro_accuracy,
    subject_accuracies,
    vocabulary_accuracy_of,
)
from mmlu_client.figures.arithmetic import gib, mean, ratio
from mmlu_client.figures.catalogue import FIGURES, Show
from mmlu_client.figures.ending import early_end
from mmlu_client.figures.span import Span, spans, steady_rows
from mmlu_client.figures.stages import STAGES, good_requests, latency, stage_seconds
from mmlu_client.figures.statistics import Interval, percentile
from mmlu_client.figures.tolerance import tolerance_of
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.watch.self_check import SelfCheck

# Subject or group → its figures, which are named as the run's are.
AccuracyFigures: TypeAlias = dict[str, dict[str, float | int | None]]


@dataclass(frozen=True)
class Summary:
    """The figures of a run, each as its entry in the catalogue says; None: not measured."""

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
    acc_low: float | None
    acc_high: float | None
    acc_macro: float | None
    acc_vocab: float | None
    acc_val_vocab: float | None
    acc_val_stderr: float | None
    acc_val_low: float | None
    acc_val_high: float | None
    agreement: float | None
    largest_logprob_difference: float | None
    largest_logprob_tolerance: float | None
    median_logprob_difference: float | None
    median_logprob_tolerance: float | None
    validated: bool | None
    only_reference_correct: int | None
    only_engine_correct: int | None
    mcnemar_p: float | None
    mfu_flagperf: float | None
    mfu_whole: float | None
    peak_flops: float | None
    peak_least_flops: float | None
    peak_measurements: int | None
    peak_contended: bool | None
    whole_over_core: float | None
    benchmark_questions: int
    questions: int
    answered: int
    failed: int
    not_finite: int
    unanswered: int
    tied: int
    ended_early: str | None
    val_answered: int | None
    val_failed: int | None
    val_not_finite: int | None
    val_tied: int | None
    logical_tokens: int
    computed_tokens: int
    prompt_format: str
    few_shots: int
    mean_shots: float | None
    truncated: int
    reuse_prefix: bool
    p_computed_core: float | None
    prefix_hit_ratio: float | None
    padding_share: float | None
    flops: int
    whole_seconds: float | None
    core_seconds: float
    ramp_seconds: float | None
    steady_seconds: float | None
    drain_seconds: float | None
    p_infer_steady: float | None
    server_load_seconds: float
    server_build_seconds: float
    requests: int
    request_throughput: float | None
    latency_mean_seconds: float | None
    latency_p50_seconds: float | None
    latency_p90_seconds: float | None
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None
    latency_max_seconds: float | None
    latency_steady_p50_seconds: float | None
    latency_steady_p99_seconds: float | None
    stage_tokenize_seconds: float | None
    stage_client_queue_seconds: float | None
    stage_network_seconds: float | None
    stage_server_tokenize_seconds: float | None
    stage_server_queue_seconds: float | None
    stage_assemble_seconds: float | None
    stage_copy_in_seconds: float | None
    stage_core_seconds: float | None
    stage_copy_out_seconds: float | None
    stage_server_other_seconds: float | None
    goodput_share: float | None
    goodput_request_throughput: float | None
    mean_batch_size: float | None
    merged_share: float | None
    joules_per_token: float | None
    joules_per_question: float | None
    client_is_bottleneck: bool | None
    client_late_share: float | None
    client_lag_share: float | None
    client_busy_share: float | None
    client_starved_share: float | None
    sessions: int
    interruptions: int
    outage_seconds: float
    acc_by_group: AccuracyFigures | None
    acc_by_subject: AccuracyFigures

    @property
    def is_partial(self) -> bool:
        """Whether acc is of fewer questions than the data has."""
        return self.acc is not None and self.answered < self.benchmark_questions

    def figures(self) -> dict[str, Any]:
        """Every figure under its key, in the order of summary.json."""
        return {figure.key: getattr(self, figure.key) for figure in FIGURES}

    def flat(self) -> dict[str, Any]:
        """The figures that can be a cell of a table."""
        return {figure.key: getattr(self, figure.key) for figure in FIGURES if not figure.is_nested}

    def cell(self, key: str, show: Show) -> str:
        """A figure as a table shows it, with the mark of one that a line below the table explains."""
        mark = " *" if key == "mfu" and self.mfu_is_too_high else ""
        return f"{show(getattr(self, key))}{mark}"

    @property
    def mfu_is_too_high(self) -> bool:
        """Whether it is a share of a peak that is too low."""
        return self.mfu is not None and bool(self.peak_contended)

    @property
    def engine_label(self) -> str:
        """The engine as tables name it: figures with reuse or of merged requests never lack the word."""
        marks = [
            *(["prefix reuse"] if self.reuse_prefix else []),
            *(["merged requests"] if self.merged_share else []),
            *(["fails validation"] if self.validated is False else []),
        ]
        return f"{self.engine} ({', '.join(marks)})" if marks else self.engine


@dataclass(frozen=True)
class _Throughput:
    """Of one phase. tokens: logical ones of answered prompts; core: the engine's seconds."""

    tokens: int
    core: float
    whole: float | None

    @property
    def per_core(self) -> float | None:
        return ratio(self.tokens, self.core)

    @property
    def per_whole(self) -> float | None:
        return ratio(self.tokens, self.whole)


def summarize(run: FinishedRun) -> Summary:
    """Every figure of a run, of its records and its manifest alone."""
    infer, val = run.records.phase(INFER), run.records.phase(VAL)
    scored, requests = infer.where(infer.is_scored), infer.requests()
    by_session = spans(infer)
    speed, speed_val = _throughput(infer, by_session), _throughput(val, spans(val))
    flops, computed = int(scored["flops"].sum()), int(scored["tokens.computed"].sum())
    possible = float(run.possible_flops(requests).sum())
    validated = run.manifest.validate and len(val) > 0
    acc, acc_val = accuracy_of(infer), accuracy_of(val)
    return Summary(
        **_engine(run),
        p_val_whole=speed_val.per_whole if validated else None,
        p_val_core=speed_val.per_core if validated else None,
        p_infer_whole=speed.per_whole,
        p_infer_core=speed.per_core,
        mfu=ratio(flops, possible),
        acc=acc.share,
        acc_val=acc_val.share if validated else None,
        acc_stderr=acc.stderr,
        **_interval("acc", acc.interval),
        acc_macro=macro_accuracy(infer),
        acc_vocab=vocabulary_accuracy_of(infer).share,
        acc_val_vocab=vocabulary_accuracy_of(val).share if validated else None,
        acc_val_stderr=acc_val.stderr if validated else None,
        **_interval("acc_val", acc_val.interval if validated else None),
        **_agreement(run, val, infer, validated),
        mfu_flagperf=mfu_flagperf(speed.per_core, run.model.parameters, ratio(possible, speed.core))
        if computed == speed.tokens
        else None,
        mfu_whole=mfu(flops, speed.whole, run.peak_flops),
        peak_flops=ratio(possible, speed.core),
        **_peak_measurements(run),
        whole_over_core=ratio(speed.per_whole, speed.per_core),
        benchmark_questions=run.manifest.data.benchmark_questions,
        questions=run.manifest.data.questions,
        answered=len(scored),
        failed=len(infer) - len(scored),
        not_finite=int(infer.is_not_finite.sum()),
        unanswered=run.manifest.data.questions - len(infer),
        tied=int(infer.tied.sum()),
        ended_early=early_end(run, run.manifest.data.questions - len(infer)),
        val_answered=acc_val.answered if validated else None,
        val_failed=len(val) - acc_val.answered if validated else None,
        val_not_finite=int(val.is_not_finite.sum()) if validated else None,
        val_tied=int(val.tied.sum()) if validated else None,
        logical_tokens=speed.tokens,
        computed_tokens=computed,
        prompt_format=run.manifest.prompt_format,
        few_shots=run.manifest.few_shots,
        mean_shots=mean(scored["shots"]),
        truncated=int(scored["truncated"].sum()),
        reuse_prefix=run.manifest.reuse_prefix,
        p_computed_core=ratio(computed, speed.core),
        prefix_hit_ratio=1 - computed / speed.tokens if speed.tokens else None,
        padding_share=padding_share(scored, requests),
        flops=flops,
        whole_seconds=speed.whole,
        core_seconds=speed.core,
        **_steady(scored, by_session),
        **_latency(run, requests, steady_rows(requests, by_session), speed.whole),
        mean_batch_size=None
        if run.manifest.reuse_prefix and mixes_prefixes(scored)
        else mean_batch_size(requests),
        merged_share=merged_share(requests),
        joules_per_token=ratio(run.joules, speed.tokens),
        joules_per_question=ratio(run.joules, len(scored)),
        **_client(run),
        **_parts(infer),
    )


def mfu(flops: int, seconds: float | None, peak_flops: float) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B): FLOPs done over FLOPs possible."""
    return ratio(flops, seconds * peak_flops if seconds else None)


def mfu_flagperf(core_throughput: float | None, parameters: int, peak_flops: float | None) -> float | None:
    """FlagPerf's: two FLOPs a parameter and token; embedding, head and attention are not looked at.

    peak_flops: of servers with several peaks the mean, each for its core seconds, as in `mfu`.
    """
    return None if core_throughput is None else ratio(2 * parameters * core_throughput, peak_flops)


def mixes_prefixes(scored: RecordTable) -> bool:
    """Whether the prompts of a request begin with several shared prefixes.

    With reuse a server runs those as several batches, and tells the largest alone.
    """
    names = ("request.id", "subject", "shots", "tokens.shared_prefix")
    prompts = set(zip(*(scored[name].tolist() for name in names), strict=True))
    prefixes = {(request, tokens and (subject, shots, tokens)) for request, subject, shots, tokens in prompts}
    return len(prefixes) > len({request for request, _ in prefixes})


def mean_batch_size(requests: RecordTable) -> float | None:
    """Prompts a batch that the engine ran. A request of r prompts in a batch of b is r/b of that batch."""
    prompts, batch = requests["request.prompts"], requests["batch.prompts"]
    known = batch > 0
    return ratio(float(prompts.sum()), float((prompts[known] / batch[known]).sum()))


def merged_share(requests: RecordTable) -> float | None:
    """Of the requests, those whose batch held others' prompts too: bs is not what the engine ran."""
    return mean(requests["batch.prompts"] > requests["request.prompts"])


def padding_share(scored: RecordTable, requests: RecordTable) -> float | None:
    """Of the tokens the engine ran, those that were padding."""
    padding = float(requests["batch.padding_tokens"].sum())
    return ratio(padding, padding + float(scored["tokens.computed"].sum()))


def _throughput(table: RecordTable, by_session: Mapping[int, Span]) -> _Throughput:
    scored = table.where(table.is_scored)
    return _Throughput(
        tokens=int(scored["tokens.logical"].sum()),
        core=float(table.requests()["server_ns.core"].sum()) / 1e9,
        whole=sum(span.whole_seconds for span in by_session.values()) if by_session else None,
    )


def _engine(run: FinishedRun) -> dict[str, Any]:
    engine = run.model.engine
    return {
        "engine": engine.name,
        "precision": engine.precision,
        "bs": run.manifest.bs,
        "e2e_time": run.load_seconds + run.build_seconds + run.client_seconds,
        "server_load_seconds": run.load_seconds,
        "server_build_seconds": run.build_seconds,
        "mem_used_gib": gib(run.memory_used),
        "mem_total_gib": gib(run.memory_total),
    }


def _peak_measurements(run: FinishedRun) -> dict[str, Any]:
    found = run.peak_measurements
    return {
        "peak_least_flops": found.least_flops if found else None,
        "peak_measurements": found.count if found else None,
        "peak_contended": found.contended if found else None,
    }


def _interval(name: str, interval: Interval | None) -> dict[str, Any]:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def _parts(infer: RecordTable) -> dict[str, Any]:
    subjects = subject_accuracies(infer)
    groups = group_accuracies(subjects)
    return {
        "acc_by_group": _accuracy_figures(groups) if groups else None,
        "acc_by_subject": _accuracy_figures(subjects),
    }


def _accuracy_figures(accuracies: Mapping[str, Accuracy]) -> AccuracyFigures:
    return {
        name: {
            "acc": each.share,
            "acc_stderr": each.stderr,
            **_interval("acc", each.interval),
            "correct": each.correct,
            "answered": each.answered,
        }
        for name, each in accuracies.items()
    }


def _agreement(run: FinishedRun, val: RecordTable, infer: RecordTable, validated: bool) -> dict[str, Any]:
    found = agreement_of(val, infer) if validated else None
    tolerance = tolerance_of(run.precisions)
    agrees = tolerance.holds(found) if found else None
    if validated and (infer.is_not_finite.any() or val.is_not_finite.any()):
        agrees = False
    return {
        "validated": agrees,
        "agreement": found.share if found else None,
        "largest_logprob_difference": found.largest_difference if found else None,
        "largest_logprob_tolerance": tolerance.largest if found else None,
        "median_logprob_difference": found.median_difference if found else None,
        "median_logprob_tolerance": tolerance.median if found else None,
        "only_reference_correct": found.only_first if found else None,
        "only_engine_correct": found.only_second if found else None,
        "mcnemar_p": found.p_value if found else None,
    }


def _steady(scored: RecordTable, by_session: dict[int, Span]) -> dict[str, Any]:
    if not by_session:
        return dict.fromkeys(("ramp_seconds", "steady_seconds", "drain_seconds", "p_infer_steady"))
    steady = sum(span.steady_seconds for span in by_session.values())
    tokens = float(steady_rows(scored, by_session)["tokens.logical"].sum())
    return {
        "ramp_seconds": sum(span.ramp_seconds for span in by_session.values()),
        "steady_seconds": steady,
        "drain_seconds": sum(span.drain_seconds for span in by_session.values()),
        "p_infer_steady": ratio(tokens, steady),
    }


def _latency(
    run: FinishedRun, requests: RecordTable, steady: RecordTable, whole: float | None
) -> dict[str, Any]:
    seconds, calm = latency(requests), latency(steady)
    stages = stage_seconds(requests)
    good = int(good_requests(requests, run.slos).sum()) if run.slos else None
    return {
        "requests": len(requests),
        "request_throughput": ratio(len(requests), whole),
        "latency_mean_seconds": mean(seconds),
        **{f"latency_p{share}_seconds": percentile(seconds, share) for share in (50, 90, 95, 99)},
        "latency_max_seconds": percentile(seconds, 100),
        **{f"latency_steady_p{share}_seconds": percentile(calm, share) for share in (50, 99)},
        **{f"stage_{name}_seconds": mean(stages[name]) for name in STAGES},
        "goodput_share": ratio(good, len(requests)),
        "goodput_request_throughput": ratio(good, whole),
    }


def _client(run: FinishedRun) -> dict[str, Any]:
    check: SelfCheck | None = run.self_check
    return {
        "client_is_bottleneck": check.is_bottleneck if check else None,
        "client_late_share": check.late_share if check else None,
        "client_lag_share": check.lag_share if check else None,
        "client_busy_share": check.busy_share if check else None,
        "client_starved_share": check.starved_share if check else None,
        "sessions": len(run.manifest.sessions),
        "interruptions": run.interruptions,
        "outage_seconds": run.outage_seconds,
    }
