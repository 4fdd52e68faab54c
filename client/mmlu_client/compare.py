"""Runs side by side: ratios with intervals, what their manifests differ in, where their answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmlu_client.accuracy import agreement_of, differing, paired
from mmlu_client.finished_run import FinishedRun
from mmlu_client.record_table import RecordTable
from mmlu_client.records import INFER
from mmlu_client.report import markdown_table
from mmlu_client.resume import differences
from mmlu_client.stages import latency
from mmlu_client.statistics import Interval, ratio_interval
from mmlu_client.summary import Summary, summarize
from mmlu_client.text import number

FIGURES = {
    "acc": ".4f", "acc_macro": ".4f", "acc_vocab": ".4f", "p_infer_whole": ",.1f", "p_infer_core": ",.1f",
    "mfu": ".4f", "request_throughput": ",.2f", "latency_p50_seconds": ".4f", "latency_p99_seconds": ".4f",
    "mean_batch_size": ".2f", "padding_share": ".4f", "prefix_hit_ratio": ".4f", "mem_used_gib": ".2f",
    "joules_per_token": ".4g", "e2e_time": ",.1f",
}  # fmt: skip
# Of no interest beside the figures: they differ between any two runs.
ALWAYS_DIFFERENT = (
    "started", "sessions", "command_line", "flags", "device.memory", "device.energy", "device.power",
    "device.temperature", "device.sm_clock", "engine.load_seconds", "engine.build_seconds",
    "reference.load_seconds", "reference.build_seconds",
)  # fmt: skip
SHOWN = 20


def comparison(runs: Sequence[FinishedRun]) -> str:
    """Markdown: a table of figures, then for each run after the first how it compares with the first."""
    first, *others = runs
    summaries = [summarize(run) for run in runs]
    parts = [_figures(runs, summaries)]
    for other in others:
        parts.append(f"## {other.folder} against {first.folder}")
        parts += [_ratios(first, other), _manifests(first, other), _answers(first, other)]
    return "\n\n".join(parts)


def _figures(runs: Sequence[FinishedRun], summaries: Sequence[Summary]) -> str:
    rows: list[tuple[str, ...]] = [("figure", *(str(run.folder) for run in runs))]
    values = [asdict(summary) for summary in summaries]
    rows.append(("engine", *(f"{each.engine_label} {each.precision} bs {each.bs}" for each in summaries)))
    rows.append(("questions answered", *(f"{each.answered} of {each.questions}" for each in summaries)))
    rows.append(("prompts truncated", *(str(each.truncated) for each in summaries)))
    rows += [(name, *(number(each[name], form) for each in values)) for name, form in FIGURES.items()]
    return markdown_table(rows)


def _ratios(first: FinishedRun, other: FinishedRun) -> str:
    """Ratios of request means; their 95 % intervals by the delta method."""
    mine, theirs = (_samples(run.records.phase(INFER)) for run in (first, other))
    lines = [
        f"- {name}: × {number(_ratio(theirs[name], mine[name]), '.3f')} "
        f"({_shown(ratio_interval(theirs[name], mine[name]))})"
        for name in mine
    ]
    head = "Means over requests, as ratios with 95 % intervals (requests taken as independent of each other):"
    return f"{head}\n\n" + "\n".join(lines)


def _samples(infer: RecordTable) -> dict[str, NDArray[np.float64]]:
    requests = infer.requests()
    return {"latency": latency(requests), "core seconds": requests["server_ns.core"] / 1e9}


def _manifests(first: FinishedRun, other: FinishedRun) -> str:
    found = [
        (name, str(before), str(after))
        for name, before, after in differences(_comparable(first), _comparable(other))
        if not name.startswith(ALWAYS_DIFFERENT)
    ]
    if not found:
        return "The manifests tell of the same model, engine, device, data and flags."
    return "What the manifests differ in:\n\n" + markdown_table(
        [("what", str(first.folder), str(other.folder)), *found]
    )


def _comparable(run: FinishedRun) -> dict[str, Any]:
    """The manifest with each server in a few words."""
    servers = dict.fromkeys(f"{server['name']} on {server['device']}" for server in run.servers)
    return {**run.manifest, "servers": ", ".join(servers)}


def _answers(first: FinishedRun, other: FinishedRun) -> str:
    left, right = paired(first.records.phase(INFER), other.records.phase(INFER))
    found = agreement_of(left, right)
    statement = found.statement(str(first.folder), str(other.folder))
    rows = differing(left, right)
    text = f"Answers: {statement}."
    if not len(left):
        return text
    text += (
        f" The same letter on {found.same_prediction} of {found.questions}; "
        f"log-probabilities differ by at most {number(found.largest_difference, '.2g')}."
    )
    if not len(rows):
        return text
    shown = [
        (f"{left['subject'][row]} {left['index'][row]}", left["answer"][row], left["predicted"][row],
         right["predicted"][row])
        for row in rows[:SHOWN]
    ]  # fmt: skip
    table = markdown_table([("question", "answer", str(first.folder), str(other.folder)), *shown])
    more = f"\n\nand {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{text}\n\n{table}{more}"


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> float | None:
    return float(above.mean() / below.mean()) if len(above) and len(below) and below.mean() else None


def _shown(interval: Interval | None) -> str:
    return "/" if interval is None else f"{interval.low:.3f} … {interval.high:.3f}"
