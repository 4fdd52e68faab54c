"""The charts of a comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from mmlu_client.figures.accuracy import accuracy_of
from mmlu_client.figures.catalogue import RATIOS
from mmlu_client.figures.stages import latency
from mmlu_client.figures.statistics import Interval
from mmlu_client.pages.chart import (
    GREY,
    STAGE_COLORS,
    Chart,
    add_row_names,
    color_of,
    decades,
    histogram,
    styled,
)
from mmlu_client.report.compare import Contrast, Effect, Side
from mmlu_client.service.stages import STAGES

NAMES = {figure.key: figure.chart_name for figure in RATIOS if figure.has_interval}
# Where the largest ratio is more than this many times the smallest, the axis is logarithmic.
WIDE_RATIOS = 10.0


def comparison_charts(sides: Sequence[Side], contrasts: Sequence[Contrast]) -> list[Chart]:
    """Return the charts for which the runs have data."""
    made = [
        accuracies(sides),
        ratios(contrasts),
        latencies(sides),
        subject_differences(contrasts),
        stages(sides),
    ]
    return [chart for chart in made if chart.figure.data]


def accuracies(sides: Sequence[Side]) -> Chart:
    """Return the chart of each run's accuracy."""
    figure = go.Figure()
    for place, side in enumerate(sides):
        found = accuracy_of(side.infer)
        if found.share is not None and found.interval is not None:
            _add_points(figure, side.label, place, [side.label], [found.share], [found.interval], ".3f")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="accuracy")
    return Chart(
        "Accuracy",
        "Of the answered questions, with Wilson's 95 % interval. Whether two differ is told by the paired "
        "test, which compares question by question, and not by whether these intervals overlap.",
        styled(figure, height=110 + 40 * len(sides)),
    )


def ratios(contrasts: Sequence[Contrast]) -> Chart:
    """Return the chart of each figure's ratio to the first run's."""
    figure = go.Figure()
    for place, contrast in enumerate(contrasts, 1):
        known = {
            name: effect
            for name, effect in contrast.ratios.items()
            if name in NAMES and effect.value is not None
        }
        if known:
            _add_effects(figure, contrast.other.label, place, {NAMES[name]: known[name] for name in known})
    if figure.data:
        figure.add_vline(x=1, line_dash="dot", line_color=GREY)
    figure.update_yaxes(autorange="reversed")
    first = contrasts[0].first.label
    ends = [
        end
        for contrast in contrasts
        for name, effect in contrast.ratios.items()
        if name in NAMES and effect.value is not None
        for end in ((effect.interval.low, effect.interval.high) if effect.interval else (effect.value,))
    ]
    is_wide = bool(ends) and 0 < min(ends) * WIDE_RATIOS < max(ends)
    figure.update_xaxes(title=f"times {first}'s", **(decades(min(ends), max(ends)) if is_wide else {}))
    return Chart(
        "Speed",
        f"Each figure as a multiple of {first}'s, with 95 % intervals by the block bootstrap over each run's "
        "own requests, ten at the least. Throughput: more is better; latency: less is. How runs differ from "
        "one another on the same machine is not in the intervals.",
        styled(figure, height=110 + 34 * len(NAMES)),
    )


def latencies(sides: Sequence[Side]) -> Chart:
    """Return the histogram of each run's latencies."""
    series = [
        (side.label, latency(side.infer.requests()) * 1e3, color_of(place))
        for place, side in enumerate(sides)
        if len(side.infer.requests())
    ]
    figure = histogram(series, "latency, ms", "share of requests", as_share=True) if series else go.Figure()
    return Chart(
        "Latency of requests",
        "From when a request was due to its reply; of each run's own requests.",
        styled(figure, height=340),
        is_wide=True,
    )


def subject_differences(contrasts: Sequence[Contrast]) -> Chart:
    """Return the chart of the differences of each subject's accuracy."""
    figure, names = go.Figure(), list[str]()
    for place, contrast in enumerate(contrasts, 1):
        known = {
            name.replace("_", " "): effect
            for name, effect in sorted(
                contrast.subjects.items(), key=lambda pair: (pair[1].value or 0.0, pair[0])
            )
            if effect.value is not None
        }
        names += [name for name in known if name not in names]
        if known:
            _add_effects(figure, contrast.other.label, place, known, form="+.3f")
    if figure.data:
        figure.add_vline(x=0, line_dash="dot", line_color=GREY)
        add_row_names(figure, names, -1.0)
    first = contrasts[0].first.label
    figure.update_xaxes(title=f"accuracy less {first}'s", range=[-1.02, 1.02], tickangle=0)
    figure.update_yaxes(dtick=1, range=[-0.7, len(names) - 0.3])
    return Chart(
        "Accuracy by subject",
        "Difference on the questions that both answered, with Newcombe's 95 % interval of paired shares. One "
        "subject in twenty lies apart by chance alone.",
        styled(figure, height=110 + 18 * len(names)),
        is_wide=True,
        rows=len(names),
    )


def stages(sides: Sequence[Side]) -> Chart:
    """Return the chart of each run's stages of a request."""
    figure = go.Figure()
    answered = [side for side in sides if side.summary.stage_core_seconds is not None]
    for stage, color in STAGE_COLORS.items() if answered else ():
        seconds = [side.figure(f"stage_{stage}_seconds") for side in answered]
        figure.add_bar(
            x=[None if each is None else each * 1e3 for each in seconds],
            y=[side.label for side in answered],
            orientation="h",
            name=stage.replace("_", " "),
            marker_color=color,
            hovertemplate=f"%{{x:,.3~r}} ms: {STAGES[stage]}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="ms", nticks=6)
    return Chart(
        "Where a request's time goes",
        "Mean of the answered requests; the stages add up to the mean latency. A server that does not tell "
        "its own has none.",
        styled(figure, height=110 + 44 * len(answered)),
        is_wide=True,
    )


def _add_effects(
    figure: go.Figure, label: str, place: int, effects: dict[str, Effect], form: str = ",.3f"
) -> None:
    values = [effect.value or 0.0 for effect in effects.values()]
    intervals = [
        effect.interval or Interval(value, value)
        for effect, value in zip(effects.values(), values, strict=True)
    ]
    _add_points(figure, label, place, list(effects), values, intervals, form)


def _add_points(
    figure: go.Figure,
    label: str,
    place: int,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Interval],
    form: str,
) -> None:
    """Add a value with its interval in each row, in the color of the run with number `place`."""
    figure.add_scatter(
        x=list(values),
        y=list(names),
        name=label,
        mode="markers",
        marker={"color": color_of(place), "size": 8},
        error_x={
            "array": [each.high - value for each, value in zip(intervals, values, strict=True)],
            "arrayminus": [value - each.low for each, value in zip(intervals, values, strict=True)],
            "color": color_of(place),
            "thickness": 1.2,
        },
        customdata=[f"{each.low:{form}} … {each.high:{form}}" for each in intervals],
        hovertemplate=f"%{{y}}: %{{x:{form}}} (%{{customdata}})<extra>{label}</extra>",
    )
