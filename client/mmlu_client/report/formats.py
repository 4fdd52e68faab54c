"""Figures in the formats that other programs read: FlagPerf, lm-evaluation-harness, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mmlu_client.figures.caveats import mark_lines
from mmlu_client.figures.summary import Summary
from mmlu_client.figures.sweep_point import Point
from mmlu_client.report.compare import Contrast, Effect, Side
from mmlu_client.report.compare_tasks import MetricContrast
from mmlu_client.report.harness_files import harness_results
from mmlu_client.report.table import table
from mmlu_client.rundir.finished_run import FinishedRun


def formatted(run: FinishedRun, summary: Summary, form: str) -> str:
    """Return a run's figures in the format that `--format` names."""
    if form == "flagperf":
        return flagperf(run, summary)
    if form == "lm-eval":
        return json.dumps(harness_results(run), indent=2)
    if form == "json":
        return json.dumps(summary.figures(), indent=2)
    return comma_separated([summary.flat()])


def formatted_sweep(points: Sequence[Point], form: str) -> str:
    """Return a sweep's figures in the format that `--format` names.

    FlagPerf's lines are printed for each load, lm-eval's document is one line for each load, and JSON and CSV
    have one row for each load.
    """
    if form == "flagperf":
        return "\n\n".join(flagperf(point.run, point.summary) for point in points)
    if form == "lm-eval":
        return "\n".join(json.dumps({"load": point.name, **harness_results(point.run)}) for point in points)
    if form == "json":
        return json.dumps(sweep_rows(points, Summary.figures), indent=2)
    return comma_separated(sweep_rows(points, Summary.flat))


def sweep_rows(
    points: Sequence[Point], figures: Callable[[Summary], dict[str, Any]]
) -> list[dict[str, object]]:
    """Return a row for each load: its name, its concurrency or rate, and the figures of its summary."""
    return [
        {
            "load": point.name,
            "concurrency": None if point.plan.mode == "open" else point.plan.concurrency,
            "request_rate": point.plan.rate if point.plan.mode == "open" else None,
            **figures(point.summary),
        }
        for point in points
    ]


def formatted_comparison(sides: Sequence[Side], contrasts: Sequence[Contrast], form: str) -> str:
    """Return a comparison as a JSON document, or as CSV with a row for each run."""
    if form == "csv":
        empty = dict.fromkeys(_flat(contrasts[0]))
        against = [empty, *map(_flat, contrasts)]
        return comma_separated(
            [
                {"run": side.label, "folder": str(side.run.folder), **side.summary.flat(), **columns}
                for side, columns in zip(sides, against, strict=True)
            ]
        )
    document = {
        "runs": [
            {"run": side.label, "folder": str(side.run.folder), "summary": side.summary.figures()}
            for side in sides
        ],
        "comparisons": [_nested(contrast) for contrast in contrasts],
    }
    return json.dumps(document, indent=2)


def _nested(contrast: Contrast) -> dict[str, object]:
    found = contrast.agreement
    return {
        "run": contrast.other.label,
        "against": contrast.first.label,
        "ratios": {name: _effect(effect) for name, effect in contrast.ratios.items()},
        "accuracy_differences": {name: _effect(effect) for name, effect in contrast.accuracies.items()},
        "subject_differences": {name: _effect(effect) for name, effect in contrast.subjects.items()},
        "answers": {**asdict(found), "share": found.share, "mcnemar_p": found.p_value},
        "manifest": [
            {"name": name, "first": before, "other": after} for name, before, after in contrast.manifest
        ],
        "other_letters": [asdict(each) for each in contrast.letters],
        **({"tasks": [_metric(each) for each in contrast.metrics]} if contrast.metrics else {}),
    }


def _metric(contrast: MetricContrast) -> dict[str, object]:
    return {**asdict(contrast), "difference": contrast.difference}


def _effect(effect: Effect) -> dict[str, float | None]:
    spread = effect.interval
    return {
        "value": effect.value,
        "low": spread.low if spread else None,
        "high": spread.high if spread else None,
    }


def _flat(contrast: Contrast) -> dict[str, object]:
    """Return the columns of a CSV row that come after the run's own figures."""
    effects = {
        **{f"ratio_{name}": effect for name, effect in contrast.ratios.items()},
        **{f"difference_{name}": effect for name, effect in contrast.accuracies.items()},
    }
    columns = {
        f"{name}{'' if part == 'value' else f'_{part}'}": value
        for name, effect in effects.items()
        for part, value in _effect(effect).items()
    }
    found = contrast.agreement
    return {
        **columns,
        "compared_questions": found.questions,
        "same_letter": found.same_prediction,
        "only_first_correct": found.only_first,
        "only_this_correct": found.only_second,
        "paired_p": found.p_value,
        "largest_difference": found.largest_difference,
    }


def flagperf(run: FinishedRun, summary: Summary) -> str:
    """Return FlagPerf's last line, a dict with its keys and three decimals, and its row in Markdown.

    A query is a token. Accuracy is that of the whole vocabulary's arg-max in both. `flops` is FLOP/s: two for
    each parameter and token of core throughput, the reference's where the engine was not asked. It is null
    where a prefix was reused, which FlagPerf does not know.
    """
    core = summary.p_val_core if summary.p_infer_core is None else summary.p_infer_core
    is_whole, parameters = summary.computed_tokens == summary.logical_tokens, run.model.parameters
    line = {
        "vendor": vendor(run.model.device.name),
        "compiler": summary.engine_label,
        "precision": summary.precision,
        "batchsize": summary.bs,
        "flops": 2 * parameters * core if core is not None and parameters is not None and is_whole else None,
        "e2e_time(second)": _rounded(summary.e2e_time),
        "p_validation_whole(qps)": _rounded(summary.p_val_whole),
        "p_validation_core(qps)": _rounded(summary.p_val_core),
        "p_inference_whole(qps)": _rounded(summary.p_infer_whole),
        "*p_inference_core(qps)": _rounded(summary.p_infer_core),
        "val_average_acc": _rounded(summary.acc_val_vocab),
        "infer_average_acc": _rounded(summary.acc_vocab),
    }
    row = table(replace(summary, acc=summary.acc_vocab), run.model.notice)
    return "\n\n".join([f"{line}", row, *mark_lines(run, summary)])


def vendor(device: str) -> str:
    """Return the maker of a device, as far as its name tells."""
    known = {
        "nvidia": "nvidia",
        "tesla": "nvidia",
        "geforce": "nvidia",
        "intel": "intel",
        "amd": "amd",
        "arm": "arm",
    }
    return next((maker for word, maker in known.items() if word in device.lower()), "unknown")


def comma_separated(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the rows as CSV with a head of all their keys."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
