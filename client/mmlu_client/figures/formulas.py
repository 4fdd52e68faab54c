"""Records → figures. docs/figures.md has the formulas in words."""

from __future__ import annotations

from collections.abc import Mapping
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
from mmlu_client.figures.batches import mean_batch_size, merged_share, mixes_prefixes, padding_share
from mmlu_client.figures.end_to_end import build_seconds, client_seconds, load_seconds
from mmlu_client.figures.ending import early_end
from mmlu_client.figures.machine import (
    joules,
    memory_total,
    memory_used,
    peak_flops,
    peak_measurements,
    possible_flops,
)
from mmlu_client.figures.measured_phase import MeasuredPhase
from mmlu_client.figures.self_check import self_check
from mmlu_client.figures.span import steady_rows
from mmlu_client.figures.stages import good_requests, latency, stage_seconds
from mmlu_client.figures.statistics import Interval, percentile
from mmlu_client.figures.summary import AccuracyFigures, Summary
from mmlu_client.figures.task_results import figures_of, task_results
from mmlu_client.figures.tolerance import precisions, tolerance_of
from mmlu_client.figures.work import Work, work_of
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.messages import SERVER_STAGES
from mmlu_client.service.stages import STAGES


def summarize(run: FinishedRun) -> Summary:
    """Compute every figure of a run, from its records and its manifest alone."""
    infer, val = MeasuredPhase(run.records.phase(INFER)), MeasuredPhase(run.records.phase(VAL))
    work, results = work_of(run, infer.scored), task_results(run)
    return Summary(
        **_engine(run),
        **_throughput(infer, work),
        **_utilisation(run, infer, work),
        **_accuracy(run, infer.records, is_tasks=results is not None),
        **_reference(run, val),
        **_agreement(run, val.records, infer.records),
        **_counts(run, infer),
        **_prompts(run, infer.scored),
        **_steady(infer),
        **_latency(run, infer, work.queue_seconds),
        **_batches(run, infer),
        **_energy(run, infer),
        **_client(run),
        **_parts(run, infer.records, is_tasks=results is not None),
        tasks=figures_of(results) if results is not None else None,
    )


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


def _engine(run: FinishedRun) -> dict[str, Any]:
    engine, load, build = run.model.engine, load_seconds(run.manifest), build_seconds(run.manifest)
    return {
        "engine": engine.name,
        "precision": engine.precision or None,
        "bs": run.manifest.bs,
        "e2e_time": load + build + client_seconds(run) if load is not None and build is not None else None,
        "server_load_seconds": load,
        "server_build_seconds": build,
        "mem_used_gib": gib(memory_used(run.readings)),
        "mem_total_gib": gib(memory_total(run.readings)),
    }


def _throughput(infer: MeasuredPhase, work: Work) -> dict[str, Any]:
    computed = work.computed_tokens
    return {
        "p_infer_whole": infer.tokens_per_whole_second,
        "p_infer_core": infer.tokens_per_core_second,
        "whole_over_core": ratio(infer.tokens_per_whole_second, infer.tokens_per_core_second),
        "logical_tokens": infer.tokens,
        "computed_tokens": computed,
        "p_computed_core": ratio(computed, infer.core_seconds),
        "prefix_hit_ratio": 1 - computed / infer.tokens if computed is not None and infer.tokens else None,
        "whole_seconds": infer.whole_seconds,
        "core_seconds": infer.core_seconds,
    }


def _utilisation(run: FinishedRun, infer: MeasuredPhase, work: Work) -> dict[str, Any]:
    possible = float(possible_flops(run, infer.requests).sum()) or None
    peak, measured = ratio(possible, infer.core_seconds), peak_measurements(run.manifest)
    is_whole = work.computed_tokens == infer.tokens
    return {
        "flops": work.flops,
        "mfu": ratio(work.flops, possible),
        "mfu_flagperf": mfu_flagperf(infer.tokens_per_core_second, run.model.parameters, peak)
        if is_whole
        else None,
        "mfu_whole": mfu(work.flops, infer.whole_seconds, peak_flops(run.manifest)),
        "peak_flops": peak,
        "peak_least_flops": measured.least_flops if measured else None,
        "peak_measurements": measured.count if measured else None,
        "peak_contended": measured.contended if measured else None,
    }


def _accuracy(run: FinishedRun, infer: RecordTable, *, is_tasks: bool) -> dict[str, Any]:
    found = _meant_accuracy(run, infer)
    return {
        "acc": found.share,
        "acc_stderr": found.stderr,
        **_interval("acc", found.interval),
        "acc_macro": macro_accuracy(infer) if found.answered else None,
        "acc_vocab": None if is_tasks else vocabulary_accuracy_of(infer).share,
    }


def _meant_accuracy(run: FinishedRun, infer: RecordTable) -> Accuracy:
    """Count right answers where their share means something: of questions, or of one task, group or tag.

    Every document must have been told right or wrong; of tasks that have nothing to do with each other the
    share over all documents would say nothing.
    """
    found, tasks = accuracy_of(infer), run.manifest.tasks
    if tasks is not None and (len(tasks["names"]) > 1 or found.answered < int(infer.is_scored.sum())):
        return Accuracy(0, 0)
    return found


def _reference(run: FinishedRun, val: MeasuredPhase) -> dict[str, Any]:
    """Compute the figures of the reference, all of them None where it was not asked."""
    found = accuracy_of(val.records)
    figures = {
        "p_val_whole": val.tokens_per_whole_second,
        "p_val_core": val.tokens_per_core_second,
        "acc_val": found.share,
        "acc_val_vocab": vocabulary_accuracy_of(val.records).share,
        "acc_val_stderr": found.stderr,
        **_interval("acc_val", found.interval),
        "val_answered": found.answered,
        "val_failed": len(val.records) - found.answered,
        "val_not_finite": int(val.records.is_not_finite.sum()),
        "val_tied": int(val.records.tied.sum()),
    }
    return figures if _is_validated(run, val.records) else dict.fromkeys(figures)


def _is_validated(run: FinishedRun, val: RecordTable) -> bool:
    return run.manifest.validate and len(val) > 0


def _counts(run: FinishedRun, infer: MeasuredPhase) -> dict[str, Any]:
    data, records = run.manifest.data, infer.records
    unanswered = data.questions - len(records)
    return {
        "benchmark_questions": data.benchmark_questions,
        "questions": data.questions,
        "answered": len(infer.scored),
        "failed": len(records) - len(infer.scored),
        "not_finite": int(records.is_not_finite.sum()),
        "unanswered": unanswered,
        "tied": int(records.tied.sum()),
        "bounded": int(records.is_bounded.sum()),
        "ended_early": early_end(run, unanswered),
    }


def _prompts(run: FinishedRun, scored: RecordTable) -> dict[str, Any]:
    return {
        "prompt_format": run.manifest.prompt_format,
        "few_shots": run.manifest.few_shots,
        "mean_shots": mean(scored["shots"]),
        "truncated": int(scored["truncated"].sum()),
        "reuse_prefix": run.manifest.reuse_prefix,
    }


def _batches(run: FinishedRun, infer: MeasuredPhase) -> dict[str, Any]:
    is_mixed = run.manifest.reuse_prefix and mixes_prefixes(infer.scored)
    return {
        "mean_batch_size": None if is_mixed else mean_batch_size(infer.requests),
        "merged_share": merged_share(infer.requests),
        "padding_share": padding_share(infer.scored, infer.requests),
    }


def _energy(run: FinishedRun, infer: MeasuredPhase) -> dict[str, Any]:
    spent = joules(run.readings, INFER)
    return {
        "joules_per_token": ratio(spent, infer.tokens),
        "joules_per_question": ratio(spent, len(infer.scored)),
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


def _agreement(run: FinishedRun, val: RecordTable, infer: RecordTable) -> dict[str, Any]:
    validated = _is_validated(run, val)
    found = agreement_of(val, infer) if validated else None
    tolerance = tolerance_of(precisions(run.model))
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


def _steady(infer: MeasuredPhase) -> dict[str, Any]:
    spans = infer.spans
    if not spans:
        return dict.fromkeys(("ramp_seconds", "steady_seconds", "drain_seconds", "p_infer_steady"))
    steady = sum(span.steady_seconds for span in spans.values())
    tokens = float(steady_rows(infer.scored, spans)["tokens.logical"].sum())
    return {
        "ramp_seconds": sum(span.ramp_seconds for span in spans.values()),
        "steady_seconds": steady,
        "drain_seconds": sum(span.drain_seconds for span in spans.values()),
        "p_infer_steady": ratio(tokens, steady),
    }


def _latency(run: FinishedRun, infer: MeasuredPhase, queue_seconds: float | None) -> dict[str, Any]:
    requests, whole, slos = infer.requests, infer.whole_seconds, run.manifest.slos
    seconds, calm = latency(requests), latency(steady_rows(requests, infer.spans))
    means = {name: mean(each) for name, each in stage_seconds(requests).items()}
    if SERVER_STAGES["queue"].key not in means:
        means[SERVER_STAGES["queue"].key] = queue_seconds
    good = int(good_requests(requests, slos).sum()) if slos else None
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
    check, ends = self_check(run), run.manifest.ends
    return {
        "client_is_bottleneck": check.is_bottleneck if check else None,
        "client_late_share": check.late_share if check else None,
        "client_lag_share": check.lag_share if check else None,
        "client_busy_share": check.busy_share if check else None,
        "client_starved_share": check.starved_share if check else None,
        "sessions": len(run.manifest.sessions),
        "interruptions": sum(end.interruptions for end in ends),
        "outage_seconds": float(sum(end.outage_seconds for end in ends)),
        "timeouts": sum(end.timeouts for end in ends),
        "refusals": sum(end.refusals for end in ends),
    }
