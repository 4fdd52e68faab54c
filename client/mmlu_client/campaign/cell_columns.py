"""How tables for people show a campaign's cells: which columns there are, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_client.campaign.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome import CampaignOutcome
from mmlu_client.figures.summary import Summary
from mmlu_client.figures.task_results import task_figures
from mmlu_client.report.compare import Effect
from mmlu_client.report.compare_text import with_interval
from mmlu_client.report.task_table import metric_value
from mmlu_client.text import labelled, milliseconds, number, p_value, percent, significant

NOT_MEASURED = "/"
# Metrics of tasks that a cell names; its own page has them all.
MOST_METRICS = 3


@dataclass(frozen=True)
class CellColumn:
    """This is a column of a table of cells.

    Attributes:
        head: above it.
        show: what stands there of a cell.
        key: what the cell is sorted by; None: it has no value there.
        about: what the column says, in a line.
    """

    head: str
    show: Callable[[CellOutcome], str]
    key: Callable[[CellOutcome], float | str | None]
    about: str


def cell_columns(outcome: CampaignOutcome) -> list[CellColumn]:
    """Return the columns behind a cell's name, without those of which no cell has anything."""
    cells = outcome.cells
    has_baseline = bool(outcome.manifest.baseline)
    columns = [
        CellColumn("state", lambda cell: cell.state, lambda cell: cell.state, "how far it has come"),
        CellColumn("engine", shown_engine, shown_engine, "the engine, and the precision that it computed in"),
    ]
    if any(cell.summary and cell.summary.acc is not None for cell in cells) or not _have(cells, "tasks"):
        columns += [_accuracy()]
        columns += [_difference(), _paired()] if has_baseline else []
    if _have(cells, "tasks"):
        columns.append(CellColumn("metrics", _metrics, _first_metric, "the first metrics of its tasks"))
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
    columns.append(
        _figure("e2e", "e2e_time", _seconds, "from the client's start to its figures, and the server's load")
    )
    return columns


def joules(per_token: float | None) -> str:
    """Return joules a token as joules per 1000 tokens."""
    return significant(None if per_token is None else per_token * 1000, 4)


def shown_effect(effect: Effect | None, form: str, sign: str = "") -> str:
    """Return `+0.012 (-0.003 … +0.027)` or `× 1.03 (1.01 … 1.05)`; `/` where there is nothing to compare."""
    return NOT_MEASURED if effect is None else with_interval(effect, form, sign)


def shown_accuracy(cell: CellOutcome) -> str:
    """Return `0.933* (0.887 … 0.961)`, labelled with the model's notice.

    The mark says that not all of the data's questions were answered.
    """
    summary = cell.summary
    if summary is None or summary.acc is None:
        return NOT_MEASURED
    text = f"{summary.acc:.3f}{'*' if summary.is_partial else ''}"
    if summary.acc_low is not None and summary.acc_high is not None:
        text += f" ({summary.acc_low:.3f} … {summary.acc_high:.3f})"
    return labelled(text, cell.notice)


def shown_engine(cell: CellOutcome) -> str:
    """Return `onnxruntime fp32`, with the words that have to stand beside its figures."""
    summary = cell.summary
    return NOT_MEASURED if summary is None else f"{summary.engine_label} {summary.precision or NOT_MEASURED}"


def _have(cells: Sequence[CellOutcome], key: str) -> bool:
    return any(cell.summary and getattr(cell.summary, key) is not None for cell in cells)


def _accuracy() -> CellColumn:
    return CellColumn(
        "acc (95 % interval)",
        shown_accuracy,
        lambda cell: cell.summary.acc if cell.summary else None,
        "right / answered questions, with Wilson's 95 % interval",
    )


def _difference() -> CellColumn:
    return CellColumn(
        "to baseline",
        lambda cell: shown_effect(_effect(cell, "acc"), "+.4f"),
        lambda cell: effect.value if (effect := _effect(cell, "acc")) else None,
        "accuracy less the baseline's on the questions that both answered, with its 95 % interval",
    )


def _paired() -> CellColumn:
    return CellColumn(
        "paired test", _shown_p, _p_value, "McNemar's exact test on the questions that both answered"
    )


def _ratio(head: str, key: str) -> CellColumn:
    return CellColumn(
        head,
        lambda cell: shown_effect(_effect(cell, key), ",.2f", "× "),
        lambda cell: effect.value if (effect := _effect(cell, key)) else None,
        "the column before as a multiple of the baseline's, with its 95 % interval",
    )


def _figure(head: str, key: str, show: Callable[[Any], str], about: str) -> CellColumn:
    return CellColumn(
        head,
        lambda cell: cell.summary.cell(key, show) if cell.summary else NOT_MEASURED,
        lambda cell: getattr(cell.summary, key) if cell.summary else None,
        about,
    )


def _count(value: float | None) -> str:
    return number(value, ",.0f")


def _seconds(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.1f} s"


def _effect(cell: CellOutcome, key: str) -> Effect | None:
    found = cell.comparison
    return None if found is None else found.differences.get(key, found.ratios.get(key))


def _p_value(cell: CellOutcome) -> float | None:
    return cell.comparison.agreement.p_value if cell.comparison else None


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
