"""Figures as the suite's table, and the lines that explain it."""

from __future__ import annotations

from typing import TypeAlias

from trt_common.one_line import printable

from mmlu_client.figures.accuracy import agreement_of
from mmlu_client.figures.caveats import (
    alarms,
    counter_lines,
    failure_lines,
    mark_lines,
    missing_lines,
    reference_lines,
    scoring_lines,
    tie_lines,
    truncation_lines,
)
from mmlu_client.figures.ending import ending_lines
from mmlu_client.figures.machine import peak_measurements
from mmlu_client.figures.measured_phase import core_seconds
from mmlu_client.figures.self_check import self_check
from mmlu_client.figures.summary import AccuracyFigures, Summary
from mmlu_client.report.task_table import task_rows
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.stages import STAGES
from mmlu_client.text import accuracy, labelled, memory, milliseconds, number, percent, significant, teraflops

COLUMNS = (
    "tool", "precision", "bs", "e2e_time", "p_val_whole", "p_val_core", "p_infer_whole", "p_infer_core",
    "MFU", "acc", "mem",
)  # fmt: skip


Row: TypeAlias = tuple[str, ...]


def summary_page(run: FinishedRun, summary: Summary) -> str:
    """Return summary.md: the suite's table, what is needed to read it, and accuracy by group and subject."""
    lines = "\n".join(f"- {line}" for line in notes(run, summary))
    tables = [markdown_table(rows) for rows in part_rows(summary, run.model.notice)]
    parts = [table(summary, run.model.notice), lines, *tables]
    return printable("\n\n".join(parts) + "\n")


def part_rows(summary: Summary, notice: str) -> list[list[Row]]:
    """Return the tables of what makes up a run, the head first: its tasks', or else its accuracies."""
    return [tasks] if (tasks := task_rows(summary, notice)) else accuracy_rows(summary, notice)


def accuracy_rows(summary: Summary, notice: str) -> list[list[Row]]:
    """Return a table of MMLU's groups, where the data have any, and one of subjects, the head first."""
    return [_accuracy_rows(name, figures, notice) for name, figures in accuracy_parts(summary)]


def accuracy_parts(summary: Summary) -> list[tuple[str, AccuracyFigures]]:
    """Return the accuracies by group and by subject, where there are any, under names for people."""
    groups = {
        "STEM" if name == "stem" else name.replace("_", " "): figures
        for name, figures in (summary.acc_by_group or {}).items()
    }
    parts = (("group", groups), ("subject", summary.acc_by_subject))
    return [(name, figures) for name, figures in parts if figures]


def _accuracy_rows(name: str, figures: AccuracyFigures, notice: str) -> list[Row]:
    head = (name, labelled("accuracy", notice), "±", "right", "answered")
    rows = [
        (
            part,
            number(each["acc"], ".3f"),
            number(each["acc_stderr"], ".4f"),
            number(each["correct"], ","),
            number(each["answered"], ","),
        )
        for part, each in figures.items()
    ]
    return [head, *rows]


def cells(summary: Summary, notice: str) -> Row:
    """Return the suite's row in the order of COLUMNS; `/` stands for what was not measured."""
    return (
        summary.engine_label,
        summary.precision or "/",
        str(summary.bs),
        number(summary.e2e_time, ".3f"),
        number(summary.p_val_whole, ".2f"),
        number(summary.p_val_core, ".2f"),
        number(summary.p_infer_whole, ".2f"),
        number(summary.p_infer_core, ".2f"),
        summary.cell("mfu", percent),
        accuracy(summary.acc, notice, "*" if summary.is_partial else ""),
        memory(summary.mem_used_gib, summary.mem_total_gib),
    )


def table(summary: Summary, notice: str) -> str:
    """Return the suite's table in Markdown."""
    return markdown_table([COLUMNS, cells(summary, notice)])


def remarks(run: FinishedRun, summary: Summary) -> list[str]:
    """Return lines on what went wrong, and on figures that mean something else than they seem to."""
    return [
        *failure_lines(run),
        *ending_lines(run, summary.ended_early),
        *tie_lines(summary, all_tie=False),
        *truncation_lines(run, summary),
        *scoring_lines(run, summary),
        *_uncounted_lines(run, summary),
        *_peak_lines(run, summary),
        *missing_lines(run),
    ]


def markdown_table(rows: list[Row]) -> str:
    """Return the rows, of which the first is the head, as a table in Markdown."""
    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in ruled
    )


def notes(run: FinishedRun, summary: Summary) -> list[str]:
    """Return all lines that explain the table."""
    model = run.model
    lines = [
        *alarms(run, summary),
        *mark_lines(run, summary),
        *reference_lines(run, summary),
        *_accuracy_lines(run, summary),
        *tie_lines(summary, all_tie=False),
        *scoring_lines(run, summary),
        f"{what(summary)}: {summary.questions:,} of the {summary.benchmark_questions:,} of "
        f"{run.manifest.data.name}; answered {summary.answered:,}, failed {summary.failed:,}, "
        f"unanswered {summary.unanswered:,}",
        *failure_lines(run),
        *ending_lines(run, summary.ended_early),
        *_prompt_lines(run, summary),
        f"model: {model.id} ({model.architecture or '/'}, {number(model.parameters, ',')} parameters)",
        f"engine: {model.engine.name} {model.engine.version}, {model.engine.precision or '/'}; "
        f"load {number(summary.server_load_seconds, '.2f')} s, build "
        f"{number(summary.server_build_seconds, '.2f')} s",
        f"device: {model.device.name or '/'}; {_peaks(run)}",
        *_time_lines(run, summary),
        f"MFU by FlagPerf's 2 × parameters: {percent(summary.mfu_flagperf)}; over whole time: "
        f"{percent(summary.mfu_whole)}",
        *_peak_lines(run, summary),
        *_reuse_lines(summary),
        *counter_lines(run, summary),
        *_uncounted_lines(run, summary),
        *_context_lines(summary),
        *_merging_lines(summary),
        *_latency_lines(run, summary),
        f"prompts in the engine's batches: {number(summary.mean_batch_size, '.2f')}; padding "
        f"{percent(summary.padding_share)} of what it ran; {_saved(summary)}",
        *_optional_lines(run, summary),
    ]
    return [f"**{model.notice}**", *lines] if model.notice else lines


def _peak_lines(run: FinishedRun, summary: Summary) -> list[str]:
    if max(each or 0.0 for each in (summary.mfu, summary.mfu_whole, summary.mfu_flagperf)) <= 1:
        return []
    if run.model.peak_source.startswith("measured"):
        why = (
            "the peak was measured on a machine that was busier then than in the run; start the server anew, "
            "or give it --peak-flops"
        )
    else:
        why = "the peak is not this device's (trt-server --peak-flops sets it)"
    if (summary.mfu or 0.0) <= 1 and (summary.mfu_whole or 0.0) <= 1:
        why += "; or FlagPerf's arithmetic alone, which counts embedding and head for every token"
    return [f"MFU above 100 %: {why}"]


def _uncounted_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say why there is no MFU where the person gave what it needs."""
    model = run.model
    if model.parameters is None or model.peak_flops is None or summary.flops is not None:
        return []
    if summary.prefix_hit_ratio:
        why = "which tokens were reused is not told for each prompt"
    else:
        why = (
            "the server does not say how many tokens it computed: ask with --bs 1, or name its metrics with "
            "--server-metrics"
        )
    return [f"no FLOPs, and so no MFU: {why}"]


def what(summary: Summary) -> str:
    """Return what was asked, in the plural."""
    return "questions" if summary.tasks is None else "documents"


def _prompt_lines(run: FinishedRun, summary: Summary) -> list[str]:
    return [
        f"prompts: format {summary.prompt_format}, {_shots(summary)} shots asked for, "
        f"{number(summary.mean_shots, '.2f')} kept on average; at most {run.model.max_prompt_tokens} tokens, "
        f"the limit of {run.manifest.max_prompt_tokens.source}",
        *truncation_lines(run, summary),
    ]


def _shots(summary: Summary) -> str:
    return "each task's own" if summary.few_shots is None else str(summary.few_shots)


def _peaks(run: FinishedRun) -> str:
    """Return the peaks that MFU was computed with.

    Of a server that reported several in one start of the client it is the largest.
    """
    peaks = sorted({each.peak_flops / 1e12 for each in run.manifest.servers if each.peak_flops is not None})
    if not peaks:
        return "peak /"
    source = f"({run.model.peak_source}{_spread(run)})"
    if len(peaks) == 1:
        return f"peak {significant(peaks[0], 4)} TFLOP/s {source}"
    return (
        f"peaks {significant(peaks[0], 4)} … {significant(peaks[-1], 4)} TFLOP/s over servers and their "
        f"starts, each for its own work {source}"
    )


def _spread(run: FinishedRun) -> str:
    found = peak_measurements(run.manifest)
    if found is None:
        return ""
    if found.count == 1:
        return "; one measurement"
    return f"; the largest of {found.count} measurements, the least {teraflops(found.least_flops)}"


def _reuse_lines(summary: Summary) -> list[str]:
    if not summary.reuses_prefixes:
        return []
    if summary.computed_tokens is None:
        return [
            f"with prefix reuse: p_infer_* count {summary.logical_tokens:,} tokens of which "
            f"{percent(summary.prefix_hit_ratio)} were not computed"
        ]
    kept = "" if summary.prefix_hit_ratio else "; the server kept no prefix: see its --prefix-cache-bytes"
    return [
        f"with prefix reuse: p_infer_* count {summary.logical_tokens:,} tokens of which "
        f"{summary.computed_tokens:,} were computed, {number(summary.p_computed_core, ',.0f')} a second of "
        f"core time; MFU counts these alone{kept}"
    ]


def _saved(summary: Summary) -> str:
    return f"{'shared' if summary.shares_contexts else 'reused'} {percent(summary.prefix_hit_ratio)}"


def _context_lines(summary: Summary) -> list[str]:
    if not summary.shares_contexts:
        return []
    return [
        f"with shared contexts: p_infer_* count {summary.logical_tokens:,} tokens, as if each choice of a "
        f"document had been asked alone, of which {summary.computed_tokens:,} were computed, "
        f"{number(summary.p_computed_core, ',.0f')} a second of core time; MFU counts these alone"
    ]


def _merging_lines(summary: Summary) -> list[str]:
    if not summary.merged_share:
        return []
    return [
        f"merged requests: {percent(summary.merged_share)} of requests shared a batch with others, so "
        f"p_infer_* and MFU are those of {number(summary.mean_batch_size, '.2f')} prompts a batch, not of "
        f"bs {summary.bs}; a server started without --max-queue-delay-us merges nothing"
    ]


def _accuracy_lines(run: FinishedRun, summary: Summary) -> list[str]:
    notice = run.model.notice
    if summary.acc is None and summary.tasks is not None:
        return []
    lines = [
        f"accuracy: {accuracy(summary.acc, notice)} ± {number(summary.acc_stderr, '.4f')}, "
        f"95 % interval {interval(summary.acc_low, summary.acc_high)}; "
        f"mean of subjects {number(summary.acc_macro, '.3f')}; "
        f"arg-max of the whole vocabulary {number(summary.acc_vocab, '.3f')}"
    ]
    if summary.val_answered is None:
        return lines
    reference = run.model.reference
    name = f"{reference.name} {reference.version}, {reference.precision}" if reference else "reference"
    found = agreement_of(run.records.phase(VAL), run.records.phase(INFER))
    return [
        *lines,
        f"reference ({name}): accuracy {accuracy(summary.acc_val, notice)} ± "
        f"{number(summary.acc_val_stderr, '.4f')}; answered {summary.val_answered}, "
        f"failed {summary.val_failed}",
        "memory and load time have the reference in them",
        f"against the reference: the same letter on {percent(summary.agreement)}; log-probabilities differ "
        f"by at most {significant(summary.largest_logprob_difference, 2)} nats, in the median by "
        f"{significant(summary.median_logprob_difference, 2)}; "
        f"{found.statement('the reference', 'the engine')}",
    ]


def _time_lines(run: FinishedRun, summary: Summary) -> list[str]:
    return [
        f"time: whole {number(summary.whole_seconds, '.3f')} s, core {number(summary.core_seconds, '.3f')} "
        f"s; whole/core throughput {percent(summary.whole_over_core)}",
        f"load: {run.manifest.load.description}; ramp {number(summary.ramp_seconds, '.3f')} s, steady "
        f"{number(summary.steady_seconds, '.3f')} s at {number(summary.p_infer_steady, ',.0f')} tokens/s, "
        f"drain {number(summary.drain_seconds, '.3f')} s; "
        f"{number(summary.request_throughput, '.2f')} requests/s",
    ]


def _latency_lines(run: FinishedRun, summary: Summary) -> list[str]:
    lines = [
        f"latency of a request, from when it was due: p50 {milliseconds(summary.latency_p50_seconds)}, "
        f"p90 {milliseconds(summary.latency_p90_seconds)}, p99 {milliseconds(summary.latency_p99_seconds)}, "
        f"longest {milliseconds(summary.latency_max_seconds)} (percentiles linear between ranks)",
        "its stages on average: "
        + ", ".join(
            f"{name.replace('_', ' ')} {milliseconds(getattr(summary, f'stage_{name}_seconds'))}"
            for name in STAGES
        ),
    ]
    if slos := run.manifest.slos:
        lines.append(
            f"goodput ({', '.join(map(str, slos))} ms): {percent(summary.goodput_share)} of requests, "
            f"{number(summary.goodput_request_throughput, '.2f')} a second"
        )
    return lines


def _optional_lines(run: FinishedRun, summary: Summary) -> list[str]:
    lines = []
    if summary.joules_per_token is not None:
        lines.append(
            f"energy: {significant(summary.joules_per_token, 4)} J a token, "
            f"{significant(summary.joules_per_question, 4)} J a question"
        )
    lines += missing_lines(run)
    if (check := self_check(run)) is not None:
        lines.append(f"self-check: {check.statement()}")
    if len(names := run.manifest.server_names) > 1:
        lines += [server_line(run, name) for name in names]
    if summary.interruptions:
        lines.append(f"interruptions: {summary.interruptions}, {summary.outage_seconds:.1f} s in all")
    if summary.timeouts:
        lines.append(f"time-outs: {summary.timeouts} answers took too long and were asked for again")
    if summary.refusals:
        lines.append(f"full queues: {summary.refusals} requests were refused and asked again")
    if summary.sessions > 1:
        lines.append(
            f"sessions: the client was started {summary.sessions} times; time between is not counted"
        )
    return lines


def server_line(run: FinishedRun, name: str) -> str:
    """Return what the engine of one of several servers did."""
    infer = run.records.phase(INFER)
    mine = infer.where(infer["server"] == name)
    return f"server {name}: {_work(mine)}"


def _work(records: RecordTable) -> str:
    requests = records.requests()
    return (
        f"{len(requests)} requests, {int(records.is_scored.sum())} questions, "
        f"core {number(core_seconds(requests), '.3f')} s"
    )


def interval(low: float | None, high: float | None) -> str:
    """Return the two ends of an interval as text."""
    return "/" if low is None or high is None else f"{low:.3f} … {high:.3f}"
