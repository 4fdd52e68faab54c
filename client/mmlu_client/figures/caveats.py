"""What a reader has to know before a figure is believed, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.summary import Summary
from mmlu_client.figures.tolerance import precisions
from mmlu_client.figures.work import counted, own_counters
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable


def mark_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say what the marks in the table mean."""
    return [*mfu_lines([summary]), *partial_lines(run, summary)]


def mfu_lines(summaries: Sequence[Summary]) -> list[str]:
    """Say what the mark at any of their MFUs means."""
    if not any(summary.mfu_is_too_high for summary in summaries):
        return []
    return [
        "MFU *: too high, because other programs had the cores whenever the peak was measured, which is too "
        "low therefore; measure on a machine that is idle, or give the server --peak-flops"
    ]


def partial_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say what the mark at the table's accuracy means."""
    if not summary.is_partial:
        return []
    data = run.manifest.data.name
    parts = [f"acc*: {summary.answered:,} of {summary.benchmark_questions:,} questions of {data}"]
    if summary.answered < summary.questions:
        parts.append(f"{summary.failed:,} failed, {summary.unanswered:,} were not asked or not answered")
    if summary.questions < summary.benchmark_questions:
        parts.append(f"the run was to ask {summary.questions:,} ({', '.join(_restrictions(run))})")
    return ["; ".join(parts)]


def _restrictions(run: FinishedRun) -> list[str]:
    """Return the flags that leave some of the data's questions out."""
    data, requests = run.manifest.data, run.manifest.load.request_count
    named = sum(data.subject_sizes.values()) < data.benchmark_questions
    return [
        *(["--subjects"] if named else []),
        *([f"--limit {data.limit}"] if data.limit is not None else []),
        *([f"--request-count {requests}"] if requests is not None else []),
    ]


def alarms(run: FinishedRun, summary: Summary) -> list[str]:
    """Say what takes all meaning from a figure."""
    return [*validation_lines(run, summary), *tie_lines(summary, all_tie=True)]


def validation_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say that engine and reference differ by more than they may, where they do."""
    if summary.validated is not False:
        return []
    return [f"VALIDATION FAILED: {validation_failure(run, summary)}"]


def validation_failure(run: FinishedRun, summary: Summary) -> str:
    """Say why `validated` is false."""
    found = []
    for who, count in (("engine", summary.not_finite), ("reference", summary.val_not_finite)):
        if count:
            found.append(f"the {who}'s log-probabilities are not finite on {count:,} questions")
    for which, difference, tolerance in (
        ("at most", summary.largest_logprob_difference, summary.largest_logprob_tolerance),
        ("in the median", summary.median_logprob_difference, summary.median_logprob_tolerance),
    ):
        if difference is not None and tolerance is not None and difference > tolerance:
            found.append(
                f"log-probabilities of engine and reference are {difference:.2g} nats apart {which}, "
                f"{' and '.join(dict.fromkeys(precisions(run.model)))} may be {tolerance:g}"
            )
    return f"{'; '.join(found)}: the engine is wrong, or the reference is"


def tie_lines(summary: Summary, *, all_tie: bool) -> list[str]:
    """Name the phases in which every question ties, or those in which some do."""
    lines = []
    for who, tied, answered in (
        ("", summary.tied, summary.answered),
        (" by the reference", summary.val_tied, summary.val_answered),
    ):
        if tied and (tied == answered) == all_tie:
            name = "NOTHING WAS MEASURED" if all_tie else "ties"
            lines.append(
                f"{name}{who}: on {tied:,} of {answered:,} questions letters tie for the largest "
                "log-probability; the first of them counts as chosen"
            )
    return lines


def failure_lines(run: FinishedRun) -> list[str]:
    """Say how many questions failed in each phase, and how the first did."""
    lines = []
    for who, phase in (("", INFER), (" by the reference", VAL)):
        records = run.records.phase(phase)
        failed = records.where(~records.is_scored)
        if len(failed):
            lines.append(f"failed{who}: {len(failed):,} questions, the first {first_failure(failed)}")
    return lines


def first_failure(failed: RecordTable) -> str:
    """Name the first of these questions, and its error."""
    return f"{failed['subject'][0]} {failed['index'][0]}: {failed['error'][0]}"


def truncation_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say how many prompts were too long, and lost a part."""
    if not summary.truncated:
        return []
    if summary.tasks is not None:
        return [
            f"truncated: of {summary.truncated} of {summary.answered} documents a context was longer than "
            f"the {run.model.max_prompt_tokens} tokens that {run.manifest.max_prompt_tokens.source} allows, "
            "and lost its beginning, as with lm-eval's hf"
        ]
    return [
        f"truncated: {summary.truncated} of {summary.answered} prompts were longer than the "
        f"{run.model.max_prompt_tokens} tokens that {run.manifest.max_prompt_tokens.source} allows, and lost "
        f"shots or their beginning: the accuracy is not that of {summary.few_shots} shots throughout"
    ]


def scoring_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say on how many questions a letter's log-probability is not known, and whether answers repeat."""
    lines, model = [], run.model
    if model.told_tokens is not None and summary.tasks is None:
        lines.append(
            f"below the {model.told_tokens}th: on {summary.bounded:,} of {summary.answered:,} questions a "
            f"letter is none of the {model.told_tokens} most likely tokens, of which alone the server tells: "
            "it is below them, and its log-probability is not known"
        )
    if model.unrepeatable:
        lines.append(
            f"not repeatable: asked again among others, a known prompt's log-probabilities were up to "
            f"{model.unrepeatable:.2g} nats apart"
        )
    return lines


def counter_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say what the servers' own metrics told, or why nothing follows from them."""
    if not run.counter_readings:
        return []
    if (counters := counted(run.counter_readings, INFER)) is None:
        return ["the server's own metrics: not known of all of the run, so nothing is taken from them"]
    infer = run.records.phase(INFER)
    if own_counters(run, infer.where(infer.is_scored)) is None:
        return [
            f"the server's own metrics: {counters.prompt_tokens:,.0f} prompt tokens, and the run's are "
            f"{summary.logical_tokens:,}: others asked it too, or prompts failed; nothing is taken from them"
        ]
    return [
        f"the server's own metrics: of {counters.prompt_tokens:,.0f} prompt tokens "
        f"{counters.cached_tokens:,.0f} were in its cache; {counters.queue_seconds:.3f} s in its queue"
    ]


def missing_lines(run: FinishedRun) -> list[str]:
    """Say that readings of devices are missing, where some are."""
    missing = run.unreadable + sum(end.lost_readings for end in run.manifest.ends)
    if not missing:
        return []
    return [
        f"memory and energy are incomplete: {missing} readings of devices could not be "
        "written, or not be read"
    ]


def reference_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Say why the table has no figures of the reference, where it has none and could have some."""
    if summary.val_answered is not None or summary.tasks is not None:
        return []
    if run.manifest.url.startswith(("http://", "https://")):  # of servers over HTTP none has a reference
        return []
    return ["p_val_*: / because no reference was asked; --validate asks one"]
