"""A comparison as text for a terminal: for each run after the first a table and a few lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from mmlu_client.figures.catalogue import COMPARED, Figure
from mmlu_client.figures.caveats import mfu_lines
from mmlu_client.report.compare import Contrast, Effect, Side
from mmlu_client.report.compare_tasks import metric_rows
from mmlu_client.report.table import markdown_table
from mmlu_client.text import percent, significant, teraflops

WIDTH = 100
# The most characters of a manifest's value, and the most lines for all of them.
VALUE_LETTERS, MANIFEST_LINES = 36, 4
# Peaks that were measured on one idle machine differ by less than this.
PEAKS_DIFFER = 0.05


def comparison(sides: Sequence[Side], contrasts: Sequence[Contrast]) -> str:
    """Return the whole text, at most WIDTH columns wide, except for words that cannot be broken."""
    parts = ["\n".join(_named(side) for side in sides)]
    for contrast in contrasts:
        parts.append(table(contrast))
        if contrast.metrics:
            parts.append(markdown_table(task_rows_of(contrast)))
        parts.append("\n".join(_wrapped(line) for line in statements(contrast)))
    return "\n\n".join(parts)


def _named(side: Side) -> str:
    return f"{side.label}: {_shortened(str(side.run.folder), 50, from_the_left=True)}, {described(side)}"


def described(side: Side) -> str:
    """Return the model, the engine, the precision and the batch size of a run."""
    summary = side.summary
    return f"{side.run.model.id} on {summary.engine_label}, {summary.precision or '/'}, bs {summary.bs}"


def table(contrast: Contrast) -> str:
    """Return the table of figures in Markdown."""
    return markdown_table(table_rows(contrast))


def table_rows(contrast: Contrast) -> list[tuple[str, ...]]:
    """Return the rows of the table, the head first, without figures that one of the runs lacks."""
    first, other = contrast.first, contrast.other
    rows: list[tuple[str, ...]] = [
        ("figure", first.label, other.label, f"{other.label} to {first.label} (95 % interval)"),
        (
            "answered",
            *(f"{each.summary.answered} of {each.summary.questions}" for each in (first, other)),
            "",
        ),
    ]
    for figure in COMPARED:
        sides = (first, other)
        is_whole = all(side.figure(figure.key) is not None for side in sides)
        if figure.has_row and is_whole and any(_is_told(side, figure) for side in sides):
            shown = (side.summary.cell(figure.key, figure.show) for side in (first, other))
            rows.append((figure.row_name, *shown, effect_of(contrast, figure.key)))
    return rows


def task_rows_of(contrast: Contrast) -> list[tuple[str, ...]]:
    """Return the rows of the table of tasks' metrics, the head first; empty where there are none."""
    return metric_rows(contrast.metrics, contrast.first.label, contrast.other.label)


def effect_of(contrast: Contrast, key: str) -> str:
    """Return `× 1.03 (1.01 … 1.05)` or `+0.012 (-0.003 … +0.027)`; empty for one not compared."""
    if key in contrast.accuracies:
        return _with_interval(contrast.accuracies[key], "+.4f")
    return _with_interval(contrast.ratios[key], ",.3f", "× ") if key in contrast.ratios else ""


def statements(contrast: Contrast) -> list[str]:
    """Return the lines about answers and manifests."""
    first, other, found = contrast.first.label, contrast.other.label, contrast.agreement
    lines = []
    if contrast.first.infer.is_graded.any() or not found.questions:
        lines.append(f"accuracy: {found.statement(first, other)}")
    if found.questions:
        lines.append(
            f"answers: the same {_chosen(contrast)} on {found.same_prediction} of {found.questions} "
            f"({percent(found.share)}); log-probabilities differ by at most "
            f"{significant(found.largest_difference, 2)}"
        )
    lines += [*lacking_lines(contrast), *bounded_lines(contrast)]
    lines += [*mfu_lines([contrast.first.summary, contrast.other.summary]), *peak_lines(contrast)]
    if not contrast.manifest:
        return [*lines, "manifests: the same model, engine, device, data and flags"]
    return [*lines, _manifest_line(contrast.manifest)]


def lacking_lines(contrast: Contrast) -> list[str]:
    """Return a line for each run that lacks figures which the other has: the table has no row of them."""
    sides = (contrast.first, contrast.other)
    lines = []
    for mine, theirs in (sides, reversed(sides)):
        lacking = [
            figure.row_name
            for figure in COMPARED
            if figure.has_row and mine.figure(figure.key) is None and _is_told(theirs, figure)
        ]
        if lacking:
            lines.append(f"not in the table, because {mine.label} does not have them: {'; '.join(lacking)}")
    return lines


def _is_told(side: Side, figure: Figure) -> bool:
    value = side.figure(figure.key)
    return value is not None and bool(value or not figure.is_rare)


def bounded_lines(contrast: Contrast) -> list[str]:
    """Return a line for each run on some of whose questions a letter's log-probability is not known."""
    return [
        f"{side.label}: on {side.summary.bounded:,} questions a letter is below the most likely tokens, of "
        "which alone its server told; log-probabilities are compared where both are known"
        for side in (contrast.first, contrast.other)
        if side.summary.bounded
    ]


def _chosen(contrast: Contrast) -> str:
    return "letter" if contrast.first.run.manifest.tasks is None else "choice"


def peak_lines(contrast: Contrast) -> list[str]:
    """Return a warning where the peaks differ, because then MFUs cannot be compared."""
    before, after = contrast.first.summary.peak_flops, contrast.other.summary.peak_flops
    if not before or not after or abs(after / before - 1) <= PEAKS_DIFFER:
        return []
    return [
        f"the peaks differ by more than {PEAKS_DIFFER:.0%}: {teraflops(before)} and "
        f"{teraflops(after)} TFLOP/s (× {after / before:.3f}). MFU is not on one scale: compare "
        "throughput, or give both servers the same --peak-flops"
    ]


def plain(value: Any) -> str:
    """Return a manifest's value in words."""
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _manifest_line(found: Sequence[tuple[str, Any, Any]]) -> str:
    """Return the line about differences of the manifests, with as many as fit into a few lines."""
    items = [
        f"{name} {_shortened(plain(before), VALUE_LETTERS)} → {_shortened(plain(after), VALUE_LETTERS)}"
        for name, before, after in found
    ]
    for count in range(len(items), 0, -1):
        more = f"; and {len(items) - count} more" if count < len(items) else ""
        line = f"manifests differ in: {'; '.join(items[:count])}{more}"
        if len(textwrap.wrap(line, WIDTH)) <= MANIFEST_LINES:
            break
    return line


def _with_interval(effect: Effect, form: str, sign: str = "") -> str:
    if effect.value is None:
        return "/"
    spread = effect.interval
    within = f" ({spread.low:{form}} … {spread.high:{form}})" if spread else ""
    return f"{sign}{effect.value:{form}}{within}"


def _shortened(text: str, most: int, *, from_the_left: bool = False) -> str:
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if from_the_left else f"{text[: most - 1]}…"


def _wrapped(line: str) -> str:
    return textwrap.fill(
        f"- {line}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
