"""How tables for people show a campaign's cells: which columns there are, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.figures.statistics import Interval
from mmlu_client.figures.summary import Summary
from mmlu_client.figures.task_results import task_figures
from mmlu_client.report.compare import Effect
from mmlu_client.report.task_table import metric_value
from mmlu_client.text import milliseconds, number, p_value, percent, significant

NOT_MEASURED = "/"
# Metrics of tasks that a cell names; its own page has them all.
MOST_METRICS = 3


@dataclass(frozen=True)
class Shown:
    """What a table says of a cell in one column.

    Attributes:
        main: the figure.
        interval: its 95 % interval; empty: it has none.
        note: what a reader has to know of it; empty: nothing.
    """

    main: str
    interval: str = ""
    note: str = ""

    def __str__(self) -> str:
        return "".join([self.main, *(f" ({part})" for part in (self.interval, self.note) if part)])


@dataclass(frozen=True)
class Bar:
    """A figure with the ends of its interval, as a table draws it."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class CellColumn:
    """A column of a table of cells.

    Attributes:
        head: above it.
        about: what it says, in a line.
        show: what stands there of a cell.
        key: what the cell is sorted by; None: it has no value there.
        bar: what is drawn there of a cell; None: nothing.
        level: where a bar says that there is no difference; None: nowhere.
    """

    head: str
    about: str
    show: Callable[[CellOutcome], Shown]
    key: Callable[[CellOutcome], float | str | None]
    bar: Callable[[CellOutcome], Bar | None] = lambda _: None
    level: float | None = None


def cell_columns(outcome: CampaignOutcome) -> list[CellColumn]:
    """Return the columns behind a cell's name, without those of which no cell has anything."""
    cells = outcome.cells
    has_baseline = bool(outcome.manifest.baseline)
    columns = [_text("state", "how far it has come", lambda cell: cell.state)]
    if any(cell.summary and cell.summary.acc is not None for cell in cells) or not _have(cells, "tasks"):
        columns += [_accuracy()]
        columns += [_difference(), _paired()] if has_baseline else []
    if _have(cells, "tasks"):
        about = "the first metrics of its tasks"
        columns.append(CellColumn("metrics", about, lambda cell: Shown(_metrics(cell)), _first_metric))
    columns.append(_figure("tok/s whole", "p_infer_whole", _count, "logical tokens / whole seconds"))
    columns += [_ratio("whole × baseline", "p_infer_whole")] if has_baseline else []
    columns.append(_figure("tok/s core", "p_infer_core", _count, "logical tokens / core seconds"))
    columns += [_ratio("core × baseline", "p_infer_core")] if has_baseline else []
    columns += [
        _figure("MFU", "mfu", percent, "FLOPs / (core seconds × peak)"),
        _figure("p50", "latency_p50_seconds", milliseconds, "median latency of a request"),
        _figure("p99", "latency_p99_seconds", milliseconds, "99th percentile of the latency of a request"),
        _figure("GiB", "mem_used_gib", lambda value: number(value, ",.2f"), "memory that the server held"),
    ]
    if _have(cells, "joules_per_token"):
        columns.append(_figure("J/1000 tok", "joules_per_token", joules, "joules per 1000 logical tokens"))
        columns += [_ratio("J × baseline", "joules_per_token")] if has_baseline else []
    columns += [
        _figure("e2e", "e2e_time", _seconds, "from the client's start to its figures, and the server's load"),
        _text("engine", "the engine, and the precision that it computed in", shown_engine),
    ]
    return columns


def joules(per_token: float | None) -> str:
    """Return joules a token as joules per 1000 tokens."""
    return significant(None if per_token is None else per_token * 1000, 4)


def shown_effect(effect: Effect | None, form: str, sign: str = "") -> Shown:
    """Return `+0.012` or `× 1.03` with its interval; `/` where there is nothing to compare."""
    if effect is None or effect.value is None:
        return Shown(NOT_MEASURED)
    return Shown(f"{sign}{effect.value:{form}}", _shown_interval(effect.interval, form))


def shown_accuracy(cell: CellOutcome) -> Shown:
    """Return `0.933*` with its interval, labelled with the first words of the model's notice.

    The mark says that not all of the data's questions were answered.
    """
    bar, summary = _accuracy_bar(cell), cell.summary
    if summary is None or summary.acc is None:
        return Shown(NOT_MEASURED)
    return Shown(
        f"{summary.acc:.3f}{'*' if summary.is_partial else ''}",
        _shown_interval(Interval(bar.low, bar.high), ".3f") if bar else "",
        cell.notice.partition(":")[0].strip(),
    )


def shown_engine(cell: CellOutcome) -> str:
    """Return `onnxruntime fp32`, with the words that have to stand beside its figures."""
    summary = cell.summary
    return NOT_MEASURED if summary is None else f"{summary.engine_label} {summary.precision or NOT_MEASURED}"


def _have(cells: Sequence[CellOutcome], key: str) -> bool:
    return any(cell.summary and getattr(cell.summary, key) is not None for cell in cells)


def _shown_interval(found: Interval | None, form: str) -> str:
    return f"{found.low:{form}} … {found.high:{form}}" if found else ""


def _text(head: str, about: str, text: Callable[[CellOutcome], str]) -> CellColumn:
    return CellColumn(head, about, lambda cell: Shown(text(cell)), text)


def _accuracy() -> CellColumn:
    return CellColumn(
        "acc",
        "right / answered questions, with Wilson's 95 % interval",
        shown_accuracy,
        lambda cell: cell.summary.acc if cell.summary else None,
        _accuracy_bar,
    )


def _accuracy_bar(cell: CellOutcome) -> Bar | None:
    found = cell.summary
    if found is None or found.acc is None or found.acc_low is None or found.acc_high is None:
        return None
    return Bar(found.acc_low, found.acc, found.acc_high)


def _difference() -> CellColumn:
    return _compared(
        "acc - baseline",
        "acc less the baseline's on the questions that both answered, with its 95 % interval",
        "acc",
        lambda effect: shown_effect(effect, "+.4f"),
        0.0,
    )


def _ratio(head: str, key: str) -> CellColumn:
    about = "the column before as a multiple of the baseline's, with its 95 % interval"
    return _compared(head, about, key, lambda effect: shown_effect(effect, ",.2f", "× "), 1.0)


def _compared(
    head: str, about: str, key: str, show: Callable[[Effect | None], Shown], level: float
) -> CellColumn:
    def value(cell: CellOutcome) -> float | None:
        effect = cell.effect(key)
        return effect.value if effect else None

    def bar(cell: CellOutcome) -> Bar | None:
        effect = cell.effect(key)
        if effect is None or effect.value is None or effect.interval is None:
            return None
        return Bar(effect.interval.low, effect.value, effect.interval.high)

    return CellColumn(head, about, lambda cell: show(cell.effect(key)), value, bar, level)


def _paired() -> CellColumn:
    about = "McNemar's exact test on the questions that both answered"
    return CellColumn("paired test", about, lambda cell: Shown(_shown_p(cell)), _p_value)


def _figure(head: str, key: str, show: Callable[[Any], str], about: str) -> CellColumn:
    return CellColumn(
        head,
        about,
        lambda cell: Shown(cell.summary.cell(key, show) if cell.summary else NOT_MEASURED),
        lambda cell: getattr(cell.summary, key) if cell.summary else None,
    )


def _count(value: float | None) -> str:
    return number(value, ",.0f")


def _seconds(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.1f} s"


def _p_value(cell: CellOutcome) -> float | None:
    effect = cell.effect("acc")
    has_difference = effect is not None and effect.value is not None
    return cell.comparison.agreement.p_value if cell.comparison and has_difference else None


def _shown_p(cell: CellOutcome) -> str:
    found = _p_value(cell)
    return NOT_MEASURED if found is None else p_value(found)


def _metrics(cell: CellOutcome) -> str:
    found = _figures_of_tasks(cell.summary)
    shown = [f"{each.task} {each.metric} {metric_value(each.value)}" for each in found[:MOST_METRICS]]
    more = [f"and {len(found) - MOST_METRICS} more"] if len(found) > MOST_METRICS else []
    return "; ".join([*shown, *more]) or NOT_MEASURED


def _first_metric(cell: CellOutcome) -> float | None:
    found = _figures_of_tasks(cell.summary)
    return found[0].value if found else None


def _figures_of_tasks(summary: Summary | None) -> list[Any]:
    return list(task_figures(summary.tasks)) if summary and summary.tasks else []
