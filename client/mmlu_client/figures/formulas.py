"""Records → figures. docs/figures.md has the formulas in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmlu_client.data.family import MMLU
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
from mmlu_client.figures.ending import early_end
from mmlu_client.figures.span import Span, spans, steady_rows
from mmlu_client.figures.stages import good_requests, latency, stage_seconds
from mmlu_client.figures.statistics import Interval, percentile
from mmlu_client.figures.summary import AccuracyFigures, Summary
from mmlu_client.figures.task_results import figures_of, task_results
from mmlu_client.figures.tolerance import tolerance_of
from mmlu_client.figures.work import work_of
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.messages import SERVER_STAGES
from mmlu_client.service.stages import STAGES
from mmlu_client.watch.self_check import SelfCheck


@dataclass(frozen=True)
class _Throughput:
    """This is the speed of one phase.

    Attributes:
        tokens: logical ones of answered prompts.
        core: the engine's seconds; None where the server does not tell them.
        whole: the phase's seconds; None where nothing was asked.
    """

    tokens: int
    core: float | None
    whole: float | None

    @property
    def per_core(self) -> float | None:
        return ratio(self.tokens, self.core)

    @property
    def per_whole(self) -> float | None:
        return ratio(self.tokens, self.whole)


def summarize(run: FinishedRun) -> Summary:
    """Compute every figure of a run, from its records and its manifest alone."""
    infer, val = run.records.phase(INFER), run.records.phase(VAL)
    scored, requests = infer.where(infer.is_scored), infer.requests()
    by_session = spans(infer)
    speed, speed_val = _throughput(infer, by_session), _throughput(val, spans(val))
    work = work_of(run, scored)
    computed, flops = work.computed_tokens, work.flops
    possible = float(run.possible_flops(requests).sum()) or None
    validated = run.manifest.validate and len(val) > 0
    acc, acc_val = _meant_accuracy(run, infer), accuracy_of(val)
    results = task_results(run)
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
        acc_macro=macro_accuracy(infer) if acc.answered else None,
        acc_vocab=vocabulary_accuracy_of(infer).share if results is None else None,
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
        bounded=int(infer.is_bounded.sum()),
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
        prefix_hit_ratio=1 - computed / speed.tokens if computed is not None and speed.tokens else None,
        padding_share=padding_share(scored, requests),
        flops=flops,
        whole_seconds=speed.whole,
        core_seconds=speed.core,
        **_steady(scored, by_session),
        **_latency(run, requests, steady_rows(requests, by_session), speed.whole, work.queue_seconds),
        mean_batch_size=None
        if run.manifest.reuse_prefix and mixes_prefixes(scored)
        else mean_batch_size(requests),
        merged_share=merged_share(requests),
        joules_per_token=ratio(run.joules, speed.tokens),
        joules_per_question=ratio(run.joules, len(scored)),
        **_client(run),
        **_parts(run, infer, is_tasks=results is not None),
        tasks=figures_of(results) if results is not None else None,
    )


def _meant_accuracy(run: FinishedRun, infer: RecordTable) -> Accuracy:
    """Count right answers where their share means something: of questions, or of one task, group or tag.

    Every document must have been told right or wrong; of tasks that have nothing to do with each other the
    share over all documents would say nothing.
    """
    found, tasks = accuracy_of(infer), run.manifest.tasks
    if tasks is not None and (len(tasks["names"]) > 1 or found.answered < int(infer.is_scored.sum())):
        return Accuracy(0, 0)
    return found


def mfu(flops: int | None, seconds: float | None, peak_flops: float | None) -> float | None:
    """Compute model FLOPs utilisation: FLOPs done over FLOPs possible.

    Chowdhery et al. 2022, PaLM, appendix B.

    Args:
        flops: what was done; None: not known.
        seconds: how long it took.
        peak_flops: what the device can do, in FLOP/s; None: not known.
    """
    return ratio(flops, seconds * peak_flops if seconds and peak_flops else None)


def mfu_flagperf(
    core_throughput: float | None, parameters: int | None, peak_flops: float | None
) -> float | None:
    """Compute FlagPerf's MFU: two FLOPs a parameter and token; embedding, head and attention do not count.

    Args:
        core_throughput: tokens a second.
        parameters: how many the model has; None: not known.
        peak_flops: FLOP/s; of servers with several peaks the mean, each for its core seconds, as in `mfu`.
    """
    if core_throughput is None or parameters is None:
        return None
    return ratio(2 * parameters * core_throughput, peak_flops)


def mixes_prefixes(scored: RecordTable) -> bool:
    """Tell whether the prompts of a request begin with several shared prefixes.

    With reuse a server runs those as several batches, and tells the largest alone.
    """
    names = ("request.id", "subject", "shots", "tokens.shared_prefix")
    prompts = set(zip(*(scored[name].tolist() for name in names), strict=True))
    prefixes = {(request, tokens and (subject, shots, tokens)) for request, subject, shots, tokens in prompts}
    return len(prefixes) > len({request for request, _ in prefixes})


def mean_batch_size(requests: RecordTable) -> float | None:
    """Compute the prompts in a batch that the engine ran.

    A request of r prompts in a batch of b is r/b of that batch.
    """
    prompts, batch = requests["request.prompts"], requests["batch.prompts"]
    known = batch > 0
    return ratio(float(prompts.sum()), float((prompts[known] / batch[known]).sum()))


def merged_share(requests: RecordTable) -> float | None:
    """Compute the share of the requests whose batch held others' prompts too.

    With those, bs is not what the engine ran.
    """
    return mean(requests["batch.prompts"] > requests["request.prompts"]) if requests.knows("batch") else None


def padding_share(scored: RecordTable, requests: RecordTable) -> float | None:
    """Compute the share of padding in the tokens that the engine ran; None where it is not told."""
    if not requests.knows("batch"):
        return None
    padding = float(requests["batch.padding_tokens"].sum())
    return ratio(padding, padding + float(scored["tokens.computed"].sum()))


def _throughput(table: RecordTable, by_session: Mapping[int, Span]) -> _Throughput:
    scored = table.where(table.is_scored)
    return _Throughput(
        tokens=int(scored["tokens.logical"].sum()),
        core=core_seconds(table.requests()),
        whole=sum(span.whole_seconds for span in by_session.values()) if by_session else None,
    )


def core_seconds(requests: RecordTable) -> float | None:
    """Add up the engine's seconds; None where the server does not tell them."""
    return float(requests["server_ns.core"].sum()) / 1e9 if requests.knows("server_ns") else None


def _engine(run: FinishedRun) -> dict[str, Any]:
    engine, load, build = run.model.engine, run.load_seconds, run.build_seconds
    return {
        "engine": engine.name,
        "precision": engine.precision or None,
        "bs": run.manifest.bs,
        "e2e_time": load + build + run.client_seconds if load is not None and build is not None else None,
        "server_load_seconds": load,
        "server_build_seconds": build,
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


def _parts(run: FinishedRun, infer: RecordTable, *, is_tasks: bool) -> dict[str, Any]:
    subjects = subject_accuracies(infer)
    # Other benchmarks, and tasks, have subjects of the same names.
    is_mmlu = not is_tasks and run.manifest.data.family == MMLU.name
    groups = group_accuracies(subjects) if is_mmlu else {}
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
    run: FinishedRun,
    requests: RecordTable,
    steady: RecordTable,
    whole: float | None,
    queue_seconds: float | None,
) -> dict[str, Any]:
    seconds, calm = latency(requests), latency(steady)
    means = {name: mean(each) for name, each in stage_seconds(requests).items()}
    if SERVER_STAGES["queue"].key not in means:
        means[SERVER_STAGES["queue"].key] = queue_seconds
    good = int(good_requests(requests, run.slos).sum()) if run.slos else None
    return {
        "requests": len(requests),
        "request_throughput": ratio(len(requests), whole),
        "latency_mean_seconds": mean(seconds),
        **{f"latency_p{share}_seconds": percentile(seconds, share) for share in (50, 90, 95, 99)},
        "latency_max_seconds": percentile(seconds, 100),
        **{f"latency_steady_p{share}_seconds": percentile(calm, share) for share in (50, 99)},
        **{f"stage_{name}_seconds": means.get(name) for name in STAGES},
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
        "timeouts": run.timeouts,
        "refusals": run.refusals,
    }
