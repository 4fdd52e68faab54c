"""The page of a sweep: throughput and latency by load."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from mmlu_client.figures.sweep_point import Point
from mmlu_client.pages.chart import BLUE, GREEN, ORANGE, RED, STAGE_COLORS, Chart, styled
from mmlu_client.pages.page import drawn, page
from mmlu_client.report.sweep_table import HEAD, load_cells, marks, measured
from mmlu_client.service.stages import STAGES
from mmlu_client.text import shortest

PERCENTILES = (("p50", BLUE), ("p90", ORANGE), ("p99", RED))


def sweep_page(points: Sequence[Point]) -> str:
    """Return the page of a sweep with at least one load."""
    first = points[0].run
    return page(
        "sweep.html.jinja",
        drawn(sweep_charts(points)),
        first.manifest.as_json(),
        title=f"{measured(points)}: {len(points)} loads",
        started=first.manifest.started.utc,
        notices=[first.model.notice] if first.model.notice else [],
        columns=HEAD,
        rows=[(point.name, load_cells(point.summary)) for point in points],
        marks=marks(points),
        manifest_title="Manifest of the first run",
    )


def sweep_charts(points: Sequence[Point]) -> list[Chart]:
    """Return all charts of a sweep."""
    return [
        throughput_and_latency(points),
        throughput_by_load(points),
        latency_by_load(points),
        *([stages_by_load(points)] if any(each.summary.core_seconds is not None for each in points) else []),
        use_by_load(points),
    ]


def throughput_and_latency(points: Sequence[Point]) -> Chart:
    """Return the chart of latency over throughput, with a point for each load."""
    figure = go.Figure()
    for percentile, color in PERCENTILES:
        figure.add_scatter(
            x=[point.summary.request_throughput for point in points],
            y=[point.milliseconds(percentile) for point in points],
            name=percentile,
            mode="lines+markers+text" if percentile == "p99" else "lines+markers",
            text=_labels(points),
            textposition="top center",
            line_color=color,
            marker={
                "size": 9,
                "symbol": ["x" if point.summary.client_is_bottleneck else "circle" for point in points],
            },
            hovertemplate=f"load %{{text}}: %{{x:,.2f}} requests/s, {percentile} %{{y:,.1f}} ms"
            "<extra></extra>",
        )
    figure.update_xaxes(title="requests/s answered", rangemode="tozero")
    figure.update_yaxes(title="latency, ms", rangemode="tozero")
    return Chart(
        "Throughput and latency",
        "Each point is a load, which stands above it. A cross: the client was the bottleneck there.",
        styled(figure, height=420),
        is_wide=True,
    )


def throughput_by_load(points: Sequence[Point]) -> Chart:
    """Return the chart of throughput by load."""
    figure = _by_load(
        points,
        [
            ("whole", BLUE, [point.summary.p_infer_whole for point in points]),
            ("core", GREEN, [point.summary.p_infer_core for point in points]),
        ],
        "tokens/s",
    )
    return Chart("Throughput", "Logical tokens over whole time, and over the engine's core time.", figure)


def latency_by_load(points: Sequence[Point]) -> Chart:
    """Return the chart of latency by load."""
    figure = _by_load(
        points,
        [(name, color, [point.milliseconds(name) for point in points]) for name, color in PERCENTILES],
        "ms",
    )
    return Chart("Latency", "From when a request was due to its reply.", figure)


def stages_by_load(points: Sequence[Point]) -> Chart:
    """Return the chart of a request's stages by load."""
    figure = go.Figure()
    for stage, color in STAGE_COLORS.items():
        seconds = [getattr(point.summary, f"stage_{stage}_seconds") for point in points]
        figure.add_bar(
            x=_labels(points),
            y=[None if each is None else each * 1e3 for each in seconds],
            name=stage.replace("_", " "),
            marker_color=color,
            hovertemplate=f"%{{y:,.3~r}} ms: {STAGES[stage]}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title=_axis(points), type="category")
    figure.update_yaxes(title="ms")
    return Chart(
        "Where a request's time goes",
        "Mean of the answered requests; the stages add up to the mean latency.",
        styled(figure, height=380),
        is_wide=True,
    )


def use_by_load(points: Sequence[Point]) -> Chart:
    """Return the chart of MFU, and of goodput where there is any, by load."""
    series = [("MFU", GREEN, [point.summary.mfu for point in points])]
    if any(point.summary.goodput_share is not None for point in points):
        series.append(("goodput", ORANGE, [point.summary.goodput_share for point in points]))
    figure = _by_load(points, series, "share")
    figure.update_yaxes(tickformat=".0%")
    slos = ", ".join(map(str, points[0].run.manifest.slos))
    about = f" Goodput: the share of requests that keep {slos} ms." if len(series) > 1 else ""
    title = "MFU and goodput" if len(series) > 1 else "MFU"
    return Chart(title, f"FLOPs over core seconds × peak.{about}", figure, is_wide=True)


def _by_load(
    points: Sequence[Point], series: Sequence[tuple[str, str, Sequence[float | None]]], unit: str
) -> go.Figure:
    figure = go.Figure()
    for name, color, values in series:
        figure.add_scatter(
            x=_labels(points),
            y=list(values),
            name=name,
            mode="lines+markers",
            line_color=color,
            hovertemplate="%{y:.1%}" if unit == "share" else f"%{{y:,.4~r}} {unit}",
        )
    figure.update_xaxes(title=_axis(points), type="category")
    figure.update_yaxes(title=unit, rangemode="tozero")
    return styled(figure)


def _labels(points: Sequence[Point]) -> list[str]:
    return [shortest(point.load) for point in points]


def _axis(points: Sequence[Point]) -> str:
    return "requests/s due" if points[0].plan.mode == "open" else "requests in flight"
