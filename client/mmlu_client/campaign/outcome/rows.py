"""A campaign's cells as rows: the columns, their types, and the files that hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from trt_common.one_line import printable

from mmlu_client.campaign.campaign_manifest import CampaignManifest
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome.comparison import Comparison
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.figures.catalogue import DIFFERENCES, FIGURES, RATIOS
from mmlu_client.figures.statistics import Interval
from mmlu_client.figures.summary import Summary
from mmlu_client.report.compare import Effect
from mmlu_client.report.formats import comma_separated
from mmlu_client.rundir.record_table import PLAIN_TYPES

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Value]

# What stands before the names of the columns of a comparison with the baseline.
BASELINE = "baseline"
# Its FLOPs may be more than 64 bits hold.
AS_FLOAT = ("flops",)


@dataclass(frozen=True)
class Column:
    """A column of the rows.

    Attributes:
        name: of it.
        kind: what its values are, where they are not None.
    """

    name: str
    kind: type


def columns(outcome: CampaignOutcome) -> list[Column]:
    """Return the columns of a campaign, which are the same however far it has come, but for tasks' metrics.

    Returns:
        The cell and its coordinates; how it has fared; what it was asked of; every figure of summary.json
        that is a single value, in its order; the metrics of tasks; and the comparison with the baseline,
        where the campaign has one.
    """
    return [
        *_of_cell(outcome.manifest),
        *_of_server(),
        *_of_figures(),
        *_of_tasks(outcome.cells),
        *(_of_comparison(outcome.cells) if outcome.manifest.baseline else []),
    ]


def rows(outcome: CampaignOutcome) -> list[Row]:
    """Return a row for each cell, in the file's order, each with every column; None: there is no value."""
    kinds = {column.name: column.kind for column in columns(outcome)}
    found = []
    for cell in outcome:
        values = _values(cell)
        found.append({name: _as(kind, values.get(name)) for name, kind in kinds.items()})
    return found


def parquet(outcome: CampaignOutcome) -> bytes:
    """Return the rows as a Parquet file."""
    schema = pa.schema([(column.name, PLAIN_TYPES[column.kind]) for column in columns(outcome)])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows(outcome), schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def csv_rows(outcome: CampaignOutcome) -> str:
    """Return the rows as CSV with a head; nothing stands for None."""
    return comma_separated(rows(outcome)) + "\n"


def json_rows(outcome: CampaignOutcome) -> str:
    """Return the rows as a JSON list of objects."""
    return json.dumps(rows(outcome), indent=2, ensure_ascii=False) + "\n"


def _of_cell(manifest: CampaignManifest) -> Iterator[Column]:
    yield Column("name", str)
    for coordinate in manifest.coordinates:
        yield Column(coordinate, str)
    yield Column("state", str)
    yield Column("attempts", int)
    for name in ("error", "where", "started", "ended", "folder"):
        yield Column(name, str)


def _of_server() -> Iterator[Column]:
    yield Column("data", str)
    yield Column("model_id", str)
    yield Column("parameters", int)
    for name in ("model_notice", "engine_version", "device"):
        yield Column(name, str)


def _of_figures() -> Iterator[Column]:
    hints = get_type_hints(Summary)
    for figure in FIGURES:
        if not figure.is_nested:
            kinds = get_args(hints[figure.key]) or (hints[figure.key],)
            kind = next(each for each in kinds if each is not NoneType)
            yield Column(figure.key, float if figure.key in AS_FLOAT else kind)


def _of_tasks(cells: Sequence[CellOutcome]) -> Iterator[Column]:
    """Yield the columns of tasks' metrics: numbers, unless a cell has something else there."""
    known = {figure.key for figure in FIGURES}
    found: dict[str, type] = {}
    for cell in cells:
        for name, value in (cell.summary.flat() if cell.summary else {}).items():
            if name not in known:
                is_number = value is None or isinstance(value, int | float)
                found[name] = float if is_number and found.get(name, float) is float else str
    for name, kind in found.items():
        yield Column(name, kind)


def _of_comparison(cells: Sequence[CellOutcome]) -> Iterator[Column]:
    yield Column(BASELINE, str)
    for figure in DIFFERENCES:
        has_interval = figure.key == "acc"
        yield from _of_effect(f"{figure.key}_difference", has_interval=has_interval)
    for figure in RATIOS:
        yield from _of_effect(f"{figure.key}_ratio", has_interval=figure.has_interval)
    for name in ("compared_questions", "same_letter", "only_baseline_correct", "only_this_correct"):
        yield Column(f"{BASELINE}.{name}", int)
    for name in ("mcnemar_p", "largest_logprob_difference"):
        yield Column(f"{BASELINE}.{name}", float)
    for name in dict.fromkeys(
        name for cell in cells if cell.comparison for name in _values_of_metrics(cell.comparison)
    ):
        yield Column(f"{BASELINE}.{name}", float)


def _of_effect(name: str, *, has_interval: bool) -> Iterator[Column]:
    for end in ("", "_low", "_high") if has_interval else ("",):
        yield Column(f"{BASELINE}.{name}{end}", float)


def _values(cell: CellOutcome) -> Mapping[str, Any]:
    last, served = cell.last, cell.measured.served if cell.measured else None
    values = {
        "name": cell.entry.name,
        **cell.entry.coordinates,
        "state": cell.state,
        "attempts": len(cell.progress.attempts) if cell.progress else 0,
        "error": cell.error,
        "where": last.where if last else None,
        "started": last.started if last else None,
        "ended": last.ended if last else None,
        "folder": cell.folder.as_posix(),
        BASELINE: cell.entry.baseline,
    }
    if served is not None:
        values |= {
            "data": served.data,
            "model_id": served.model_id,
            "model_notice": served.notice or None,
            "parameters": served.parameters,
            "engine_version": served.engine_version,
            "device": served.device or None,
        }
    if cell.summary is not None:
        values |= cell.summary.flat()
    if cell.comparison is not None:
        values |= {f"{BASELINE}.{name}": value for name, value in _values_against(cell.comparison).items()}
    return values


def _values_against(found: Comparison) -> dict[str, Any]:
    effects = {
        **{f"{name}_difference": effect for name, effect in found.differences.items()},
        **{f"{name}_ratio": effect for name, effect in found.ratios.items()},
    }
    values: dict[str, Any] = {}
    for name, effect in effects.items():
        values |= _values_of_effect(name, effect)
    agreement = found.agreement
    return {
        **values,
        "compared_questions": agreement.questions,
        "same_letter": agreement.same_prediction,
        "only_baseline_correct": agreement.only_first,
        "only_this_correct": agreement.only_second,
        "mcnemar_p": agreement.p_value,
        "largest_logprob_difference": agreement.largest_difference,
        **_values_of_metrics(found),
    }


def _values_of_metrics(found: Comparison) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in found.metrics:
        name = f"{each.task}/{each.metric}"
        values |= _values_of_effect(f"{name}_difference", Effect(each.difference, each.interval))
        values[f"{name}_mcnemar_p"] = each.p_value
    return values


def _values_of_effect(name: str, effect: Effect) -> dict[str, float | None]:
    spread: Interval | None = effect.interval
    return {
        name: effect.value,
        f"{name}_low": spread.low if spread else None,
        f"{name}_high": spread.high if spread else None,
    }


def _as(kind: type, value: Any) -> Value:
    """Return a value as its column holds it; None for what is no number where one has to be."""
    if value is None:
        return None
    if kind is str:
        # What UTF-8 has no bytes for becomes an escape.
        return printable(str(value)).encode("utf-8", "backslashreplace").decode()
    if kind is float:
        return float(value) if math.isfinite(value) else None
    converted: Value = kind(value)
    return converted
