"""Every figure of a run: its key, its unit, what it means, and how tables show and compare it.

The order is that of summary.json. docs/figures.md has the formulas in words; its table of keys is made from
this one (`python -m tools.figures`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from mmlu_client.service.stages import STAGES
from mmlu_client.text import bottleneck, exact, milliseconds, number, percent, significant, teraflops

Show: TypeAlias = Callable[[Any], str]
# The other run's figure over the first's, or the other's less the first's.
Comparison: TypeAlias = Literal["ratio", "difference"]


def fixed(form: str) -> Show:
    """Show a number in a format of Python's."""
    return partial(number, form=form)


@dataclass(frozen=True)
class Column:
    """How the table of a sweep, which has less room, shows a figure.

    Attributes:
        head: the column's head.
        show: how its cells are shown.
    """

    head: str
    show: Show


@dataclass(frozen=True)
class Figure:
    """One figure of summary.json.

    Attributes:
        key: its name in summary.json, and in Summary.
        unit: of its value; empty for a text, a flag or what is nested.
        section: the section of docs/figures.md that explains it; empty where the meaning says all.
        meaning: what it is, in a line of Markdown.
        show: how a comparison shows a value.
        label: what a comparison calls it; empty: its key and unit.
        compared: how a run is held against another; None: it is not.
        has_interval: whether a ratio has a bootstrap interval, and a bar in the chart of speed.
        higher_is_better: None where neither is.
        has_row: whether the table of a comparison shows it, if it is compared at all.
        is_rare: 0 in most runs, in which a comparison leaves it out.
        is_nested: no single value, and so no cell of a table.
        column: how a sweep's table shows it; None: it does not.
        is_of_tasks: only runs of lm-eval's tasks have it: summary.json of others lacks its key.
    """

    key: str
    unit: str
    section: str
    meaning: str
    show: Show = exact
    label: str = ""
    compared: Comparison | None = None
    has_interval: bool = False
    has_row: bool = True
    higher_is_better: bool | None = None
    is_rare: bool = False
    is_nested: bool = False
    column: Column | None = None
    is_of_tasks: bool = False

    @property
    def row_name(self) -> str:
        """What stands before its values in the table of a comparison."""
        return self.label or (f"{self.key}, {self.unit}" if self.unit not in ("", SHARE) else self.key)

    @property
    def chart_name(self) -> str:
        """What charts call it."""
        return self.label or (self.column.head if self.column else self.key)


SHARE, SECONDS, TOKENS_A_SECOND, GIB, NATS = "share", "s", "tokens/s", "GiB", "nats"
QUESTIONS, TOKENS, REQUESTS, REQUESTS_A_SECOND = "questions", "tokens", "requests", "requests/s"
FLOPS_A_SECOND = "FLOP/s"

TIMES, THROUGHPUT, MFU, PROMPTS = "Times", "Throughput, tokens a second", "FLOPs and MFU", "Prompts"
ACCURACY, MEMORY, LATENCY, ENERGY = "Accuracy", "Memory", "Latency", "Energy"
REFERENCE, STARTS, TASKS = "Reference and engine", "Runs of several starts", "Tasks of lm-eval"


def _latency(name: str, meaning: str, *, label: str = "", head: str = "") -> Figure:
    """Describe a figure of latency.

    Args:
        name: the middle of its key.
        meaning: what it is.
        label: what a comparison calls it; empty where it is not compared.
        head: its column's head in a sweep's table; empty where it has none.
    """
    return Figure(
        f"latency_{name}_seconds",
        SECONDS,
        LATENCY,
        meaning,
        show=milliseconds,
        label=label,
        compared="ratio" if label else None,
        has_interval=bool(label),
        has_row=name != "mean",
        higher_is_better=False,
        column=Column(head, milliseconds) if head else None,
    )


def _stage(name: str, about: str) -> Figure:
    is_core = name == "core"
    return Figure(
        f"stage_{name}_seconds",
        SECONDS,
        LATENCY,
        f"mean of a request's stage `{name}`: {about}",
        show=milliseconds,
        label="core of a request" if is_core else "",
        compared="ratio" if is_core else None,
        has_interval=is_core,
        higher_is_better=False,
    )


FIGURES = (
    Figure("engine", "", "", "the engine that ran"),
    Figure("precision", "", "", "the precision that it computed in"),
    Figure("bs", "prompts", "", "prompts a request, as it was asked"),
    Figure("e2e_time", SECONDS, TIMES,
           "from the client's start to its figures, and the server's load and build seconds",
           show=fixed(",.1f"), compared="ratio", higher_is_better=False),
    Figure("p_val_whole", TOKENS_A_SECOND, THROUGHPUT,
           "`p_infer_whole` of the reference", higher_is_better=True),
    Figure("p_val_core", TOKENS_A_SECOND, THROUGHPUT,
           "`p_infer_core` of the reference", higher_is_better=True),
    Figure("p_infer_whole", TOKENS_A_SECOND, THROUGHPUT, "logical tokens / whole seconds", show=fixed(",.1f"),
           compared="ratio", has_interval=True, higher_is_better=True,
           column=Column("tokens/s whole", fixed(",.0f"))),
    Figure("p_infer_core", TOKENS_A_SECOND, THROUGHPUT, "logical tokens / summed core seconds",
           show=fixed(",.1f"),
           compared="ratio", has_interval=True, higher_is_better=True,
           column=Column("tokens/s core", fixed(",.0f"))),
    Figure("mfu", SHARE, MFU, "FLOPs / (core seconds × peak)", show=percent,
           compared="ratio", has_interval=True, higher_is_better=True, column=Column("MFU", percent)),
    Figure("acc", SHARE, ACCURACY, "right / answered questions, by the likeliest of its letters",
           show=fixed(".4f"),
           compared="difference", higher_is_better=True),
    Figure("acc_val", SHARE, ACCURACY, "`acc` of the reference", higher_is_better=True),
    Figure("mem_used_gib", GIB, MEMORY, "the most that the server's process held on its device",
           show=fixed(",.2f"),
           label="memory, GiB", compared="ratio", higher_is_better=False),
    Figure("mem_total_gib", GIB, MEMORY, "what the device has"),
    Figure("acc_stderr", SHARE, ACCURACY, "√(p(1−p)/n) of `acc`", higher_is_better=False),
    Figure("acc_low", SHARE, ACCURACY, "the lower end of `acc`'s 95 % interval"),
    Figure("acc_high", SHARE, ACCURACY, "the upper end of `acc`'s 95 % interval"),
    Figure("acc_macro", SHARE, ACCURACY, "the mean of the subjects' accuracies", show=fixed(".4f"),
           compared="difference", higher_is_better=True),
    Figure("acc_vocab", SHARE, ACCURACY, "accuracy by the arg-max of the whole vocabulary", show=fixed(".4f"),
           compared="difference", higher_is_better=True),
    Figure("acc_val_vocab", SHARE, ACCURACY, "`acc_vocab` of the reference", higher_is_better=True),
    Figure("acc_val_stderr", SHARE, ACCURACY, "`acc_stderr` of the reference", higher_is_better=False),
    Figure("acc_val_low", SHARE, ACCURACY, "`acc_low` of the reference"),
    Figure("acc_val_high", SHARE, ACCURACY, "`acc_high` of the reference"),
    Figure("agreement", SHARE, REFERENCE, "questions on which reference and engine choose the same letter",
           higher_is_better=True),
    Figure("largest_logprob_difference", NATS, REFERENCE,
           "the largest difference of a letter's log-probability",
           higher_is_better=False),
    Figure("largest_logprob_tolerance", NATS, REFERENCE, "how far apart the largest may be"),
    Figure("median_logprob_difference", NATS, REFERENCE,
           "the median over the questions of the largest difference",
           higher_is_better=False),
    Figure("median_logprob_tolerance", NATS, REFERENCE, "how far apart the median may be"),
    Figure("validated", "", REFERENCE, "whether the engine holds against the reference"),
    Figure("only_reference_correct", QUESTIONS, REFERENCE, "those that the reference alone gets right"),
    Figure("only_engine_correct", QUESTIONS, REFERENCE, "those that the engine alone gets right"),
    Figure("mcnemar_p", "probability", REFERENCE, "two-sided p of McNemar's exact test"),
    Figure("mfu_flagperf", SHARE, MFU,
           "2 × parameters × tokens / (core seconds × peak)", higher_is_better=True),
    Figure("mfu_whole", SHARE, MFU, "FLOPs / (whole seconds × peak)", higher_is_better=True),
    Figure("peak_flops", FLOPS_A_SECOND, MFU,
           "what `mfu` is a share of; where there were several peaks, the mean over core seconds",
           show=teraflops, label="peak, TFLOP/s"),
    Figure("peak_least_flops", FLOPS_A_SECOND, MFU,
           "the lowest that a measurement of the peak came out, of several servers the lowest of all; null "
           "where the peak is known without"),
    Figure("peak_measurements", "measurements", MFU,
           "how often the peak was measured, of several servers the fewest; null where it is known without"),
    Figure("peak_contended", "", MFU,
           "whether other programs had the cores whenever one of the peaks was measured, so that MFU is too "
           "high; null where it is known without"),
    Figure("whole_over_core", SHARE, THROUGHPUT, "`p_infer_whole` / `p_infer_core`", higher_is_better=True),
    Figure("benchmark_questions", QUESTIONS, ACCURACY, "how many the data has"),
    Figure("questions", QUESTIONS, ACCURACY, "those that were to be asked"),
    Figure("answered", QUESTIONS, ACCURACY, "those with scores", higher_is_better=True),
    Figure("failed", QUESTIONS, ACCURACY, "those that ended with an error", higher_is_better=False),
    Figure("not_finite", QUESTIONS, REFERENCE, "of the failed ones, those with scores that are no numbers",
           higher_is_better=False),
    Figure("unanswered", QUESTIONS, ACCURACY, "those that were not asked, or not answered before the end",
           higher_is_better=False),
    Figure("tied", QUESTIONS, ACCURACY, "those on which several letters have the largest log-probability",
           higher_is_better=False),
    Figure("bounded", QUESTIONS, ACCURACY,
           "answered ones on which a letter's log-probability is not known, but that it is below those of "
           "the most likely tokens, of which alone the server told", higher_is_better=False),
    Figure("ended_early", "", "",
           "why there are `unanswered` questions: `early stop`, `benchmark duration`, the signal or the "
           "error that ended the run, `killed` where the client could not say; null where all were asked. "
           "The report says it in a line"),
    Figure("val_answered", QUESTIONS, REFERENCE, "`answered` of the reference", higher_is_better=True),
    Figure("val_failed", QUESTIONS, REFERENCE, "`failed` of the reference", higher_is_better=False),
    Figure("val_not_finite", QUESTIONS, REFERENCE, "`not_finite` of the reference", higher_is_better=False),
    Figure("val_tied", QUESTIONS, ACCURACY, "`tied` of the reference", higher_is_better=False),
    Figure("logical_tokens", TOKENS, THROUGHPUT, "real tokens of the answered questions' prompts"),
    Figure("computed_tokens", TOKENS, THROUGHPUT, "those of them that the engine ran"),
    Figure("prompt_format", "", PROMPTS, "whose prompts were asked"),
    Figure("few_shots", "shots", PROMPTS, "shots that a prompt was to have"),
    Figure("mean_shots", "shots", PROMPTS, "shots that the answered prompts kept whole, on average"),
    Figure("truncated", QUESTIONS, PROMPTS, "answered ones whose prompt was too long, and lost a part"),
    Figure("reuse_prefix", "", THROUGHPUT, "whether shared prefixes were reused"),
    Figure("p_computed_core", TOKENS_A_SECOND, THROUGHPUT,
           "computed tokens / core seconds", higher_is_better=True),
    Figure("prefix_hit_ratio", SHARE, THROUGHPUT, "1 − computed / logical tokens: what was not computed",
           show=percent, label="prefix reused", is_rare=True),
    Figure("padding_share", SHARE, THROUGHPUT, "padding / (padding + computed tokens)",
           show=percent, label="padding", higher_is_better=False, is_rare=True),
    Figure("flops", "FLOPs", MFU, "what the answered questions took"),
    Figure("whole_seconds", SECONDS, TIMES, "the first prompt's tokenizing to the last reply"),
    Figure("core_seconds", SECONDS, TIMES, "the engine's run calls, added up"),
    Figure("ramp_seconds", SECONDS, LATENCY, "the first request due to the first reply"),
    Figure("steady_seconds", SECONDS, LATENCY, "what lies between ramp and drain"),
    Figure("drain_seconds", SECONDS, LATENCY, "the last request sent to the last reply"),
    Figure("p_infer_steady", TOKENS_A_SECOND, LATENCY,
           "tokens of the replies in the steady part / its seconds",
           higher_is_better=True),
    Figure("server_load_seconds", SECONDS, TIMES,
           "the server's loading of the model", higher_is_better=False),
    Figure("server_build_seconds", SECONDS, TIMES,
           "the server's building of the engine", higher_is_better=False),
    Figure("requests", REQUESTS, LATENCY, "answered ones"),
    Figure("request_throughput", REQUESTS_A_SECOND, LATENCY, "answered requests / whole seconds",
           show=fixed(",.2f"),
           label="requests/s", compared="ratio", has_interval=True, higher_is_better=True,
           column=Column("requests/s", fixed(".2f"))),
    _latency("mean", "mean of the answered requests", label="latency, mean"),
    _latency("p50", "the median", label="latency p50", head="p50"),
    _latency("p90", "the 90th percentile", label="latency p90", head="p90"),
    _latency("p95", "the 95th percentile"),
    _latency("p99", "the 99th percentile", label="latency p99", head="p99"),
    _latency("max", "the longest"),
    _latency("steady_p50", "the median of replies in the steady part"),
    _latency("steady_p99", "the 99th percentile of replies in the steady part"),
    *(_stage(name, about) for name, about in STAGES.items()),
    Figure("goodput_share", SHARE, LATENCY,
           "answered requests that keep every `--goodput` goal / answered requests",
           higher_is_better=True, column=Column("goodput", percent)),
    Figure("goodput_request_throughput", REQUESTS_A_SECOND, LATENCY,
           "answered requests that keep every `--goodput` goal / whole seconds", higher_is_better=True),
    Figure("mean_batch_size", "prompts", TIMES, "prompts in a batch that the engine ran", show=fixed(".2f"),
           label="prompts a batch", compared="ratio", column=Column("batch", fixed(".2f"))),
    Figure("merged_share", SHARE, TIMES, "requests whose batch held prompts of others / requests"),
    Figure("joules_per_token", "J", ENERGY, "the device's energy / logical tokens",
           show=partial(significant, digits=4), label="energy, J a token", compared="ratio",
           higher_is_better=False),
    Figure("joules_per_question", "J", ENERGY,
           "the device's energy / answered questions", higher_is_better=False),
    Figure("client_is_bottleneck", "", LATENCY,
           "whether the client, in its last start, was what kept the run back",
           column=Column("client", bottleneck)),
    Figure("client_late_share", SHARE, LATENCY,
           "time that requests stood ready and unsent", higher_is_better=False),
    Figure("client_lag_share", SHARE, LATENCY, "how late the client's event loop read replies",
           higher_is_better=False),
    Figure("client_busy_share", SHARE, LATENCY,
           "CPU time of the event loop's thread", higher_is_better=False),
    Figure("client_starved_share", SHARE, LATENCY, "time that due requests waited for their prompts",
           higher_is_better=False),
    Figure("sessions", "starts", STARTS, "how often the client was started"),
    Figure("interruptions", "times", STARTS, "how often a server was away, in starts that came to their end",
           higher_is_better=False),
    Figure("outage_seconds", SECONDS, STARTS,
           "how long together a server was away, in starts that came to their end",
           higher_is_better=False),
    Figure("timeouts", "times", STARTS,
           "how often an answer took longer than `--request-timeout` and was asked for again, in starts that "
           "came to their end", higher_is_better=False),
    Figure("refusals", "times", STARTS,
           "how often a server refused a request because its queue was full, so that it was asked again, in "
           "starts that came to their end", higher_is_better=False),
    Figure("acc_by_group", "", ACCURACY, "accuracy of MMLU's groups", is_nested=True),
    Figure("acc_by_subject", "", ACCURACY, "accuracy of the subjects", is_nested=True),
    Figure("tasks", "", TASKS,
           "the metrics of each of lm-eval's tasks and groups, as lm-eval's results file has them; only in "
           "runs with `--task`", is_nested=True, is_of_tasks=True),
)  # fmt: skip
BY_KEY = {figure.key: figure for figure in FIGURES}

# What a comparison holds against each other, and the table of a sweep shows, in the order of their rows and
# columns, which people read: the most important first.
COMPARED = tuple(
    BY_KEY[key]
    for key in (
        "acc", "acc_macro", "acc_vocab", "p_infer_whole", "p_infer_core", "mfu", "request_throughput",
        "latency_mean_seconds", "latency_p50_seconds", "latency_p90_seconds", "latency_p99_seconds",
        "stage_core_seconds", "mean_batch_size", "padding_share", "prefix_hit_ratio", "peak_flops",
        "mem_used_gib", "joules_per_token", "e2e_time",
    )
)  # fmt: skip
SWEPT = tuple(
    (BY_KEY[key], column)
    for key in (
        "request_throughput", "p_infer_whole", "p_infer_core", "mfu", "mean_batch_size",
        "latency_p50_seconds",
        "latency_p90_seconds", "latency_p99_seconds", "goodput_share", "client_is_bottleneck",
    )
    if (column := BY_KEY[key].column)
)  # fmt: skip
DIFFERENCES, RATIOS = (
    tuple(figure for figure in COMPARED if figure.compared == kind) for kind in ("difference", "ratio")
)
