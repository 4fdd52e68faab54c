"""The charts of a run's page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mmlu_client.figures.accuracy import subject_accuracies
from mmlu_client.figures.arithmetic import gib, ratio
from mmlu_client.figures.machine import possible_flops
from mmlu_client.figures.stages import latency, stage_seconds
from mmlu_client.pages.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Chart,
    add_bands,
    add_lines,
    add_row_names,
    color_of,
    histogram,
    styled,
)
from mmlu_client.pages.time_axis import TimeAxis
from mmlu_client.rundir.device_log import Reading
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.stages import STAGES
from mmlu_client.text import significant

# A run is divided into this many windows of time, or fewer so that each has about this many replies.
WINDOWS, REPLIES = 60, 8
PERCENTILES = ((50, BLUE), (90, ORANGE), (99, RED))
AWAY = "#f3c6c3"


def charts(run: FinishedRun) -> list[Chart]:
    """Return the charts for which the run has data."""
    infer = run.records.phase(INFER)
    requests = infer.requests()
    if not len(requests):
        return []
    axis = TimeAxis(run.records)
    seconds, is_mmlu = run_seconds(axis, requests), run.manifest.tasks is None
    scored, is_timed = infer.where(infer.is_scored), requests.knows("server_ns")
    is_counted = scored.knows("tokens.computed") and requests.knows("batch")
    return [
        *([waterfall(requests)] if is_timed else []),
        latency_histogram(requests),
        *(
            marked(chart, run, axis)
            for chart in (
                latency_over_time(requests, seconds),
                throughput_over_time(infer, seconds, is_timed=is_timed),
                *([mfu_over_time(run, infer, seconds)] if is_timed else []),
            )
        ),
        *([token_lengths(scored), token_kinds(scored)] if is_counted else []),
        *(marked(chart, run, axis) for chart in device_charts(run, axis)),
        *([accuracy_by_subject(infer, is_mmlu=is_mmlu)] if infer.is_graded.any() or is_mmlu else []),
    ]


def run_seconds(axis: TimeAxis, requests: RecordTable) -> NDArray[np.float64]:
    """Return when each request's reply came, in seconds on the run's time axis."""
    seconds = np.zeros(len(requests))
    for session in np.unique(requests["session"]):
        mine = requests["session"] == session
        seconds[mine] = axis.seconds(INFER, int(session), requests["client_ns.received"][mine])
    return seconds


def waterfall(requests: RecordTable) -> Chart:
    """Return the chart of a request's stages one after the other."""
    means = {name: float(values.mean()) * 1e3 for name, values in stage_seconds(requests).items()}
    inside = [name for name in STAGES if name != "tokenize"]
    starts = np.concatenate([[0.0], np.cumsum([means[name] for name in inside])])
    names = [name.replace("_", " ") for name in ("tokenize", *inside)]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=[means["tokenize"], *(means[name] for name in inside)],
            base=[-means["tokenize"], *starts[:-1]],
            orientation="h",
            marker_color=[GREY, *(GREEN if name == "core" else BLUE for name in inside)],
            text=[_milliseconds(value) for value in (means["tokenize"], *(means[name] for name in inside))],
            textposition="outside",
            cliponaxis=False,
            customdata=[STAGES["tokenize"], *(STAGES[name] for name in inside)],
            hovertemplate="%{y}: %{text}<br>%{customdata}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="ms since the request was due", nticks=4)
    return Chart(
        "Where a request's time goes",
        "Mean of all answered requests. Prompts are built ahead: tokenizing them is no part of latency.",
        styled(figure, height=380, room=90),
    )


def latency_histogram(requests: RecordTable) -> Chart:
    """Return the histogram of latencies with their percentiles."""
    values = latency(requests) * 1e3
    figure = histogram([("requests", values, GREY)], "latency, ms", "requests")
    for share, color in PERCENTILES:
        value = float(np.percentile(values, share))
        add_lines(figure, [value], f"p{share} {_milliseconds(value)}", color)
    return Chart(
        "Latency of requests",
        "From when a request was due to its reply. Percentiles are linear between ranks.",
        styled(figure, height=380),
    )


def latency_over_time(requests: RecordTable, seconds: NDArray[np.float64]) -> Chart:
    """Return the chart of the latency's percentiles over time."""
    values = latency(requests) * 1e3
    figure = go.Figure()
    for share, color in PERCENTILES:
        times, points = _windowed(seconds, partial(_percentile_of, values, share))
        figure.add_scatter(x=times, y=points, name=f"p{share}", line_color=color, hovertemplate=hover("ms"))
    return Chart(
        "Latency over time",
        "Percentiles of the replies in each of up to 60 equal windows of the run.",
        styled(_time_axes(figure, "ms")),
    )


def throughput_over_time(infer: RecordTable, seconds: NDArray[np.float64], *, is_timed: bool = True) -> Chart:
    """Return the chart of whole throughput over time, and of core throughput where the server tells it."""
    tokens, core = infer.request_sums("tokens.logical"), infer.requests()["server_ns.core"] / 1e9
    width = _width(seconds)
    figure = go.Figure()
    times, whole = _windowed(seconds, lambda rows: float(tokens[rows].sum() / width))
    figure.add_scatter(x=times, y=whole, name="whole", line_color=BLUE, hovertemplate=hover("tokens/s"))
    meaning = "Logical tokens of the replies in a window: whole, over the window's seconds"
    if is_timed:
        times, inner = _windowed(seconds, lambda rows: ratio(tokens[rows].sum(), core[rows].sum()))
        figure.add_scatter(x=times, y=inner, name="core", line_color=GREEN, hovertemplate=hover("tokens/s"))
        meaning += "; core, over the engine's seconds for them"
    return Chart(
        "Throughput over time",
        f"{meaning}.",
        styled(_time_axes(figure, "tokens/s")),
    )


def mfu_over_time(run: FinishedRun, infer: RecordTable, seconds: NDArray[np.float64]) -> Chart:
    """Return the chart of MFU over time."""
    requests = infer.requests()
    possible = possible_flops(run, requests)
    flops = infer.request_sums("flops")
    times, points = _windowed(seconds, lambda rows: ratio(flops[rows].sum(), possible[rows].sum()))
    figure = go.Figure(
        go.Scatter(
            x=times,
            y=points,
            name="MFU",
            line_color=GREEN,
            hovertemplate="%{y:.1%} at %{x:,.4~r} s<extra></extra>",
        )
    )
    figure = _time_axes(figure, "MFU")
    figure.update_yaxes(tickformat=".0%")
    return Chart(
        "MFU over time",
        f"FLOPs over core seconds × peak. Peak: {run.model.peak_source}.",
        styled(figure),
    )


def accuracy_by_subject(infer: RecordTable, *, is_mmlu: bool) -> Chart:
    """Return the chart of the accuracy of each subject, or task; of MMLU's four options with chance."""
    found = sorted(subject_accuracies(infer).items(), key=lambda pair: (pair[1].share or 0.0, pair[0]))
    shares = [accuracy.share or 0.0 for _, accuracy in found]
    intervals = [accuracy.interval for _, accuracy in found]
    figure = go.Figure(
        go.Scatter(
            x=shares,
            y=[subject.replace("_", " ") for subject, _ in found],
            mode="markers",
            marker={"color": BLUE, "size": 8},
            error_x={
                "array": [each.high - share for each, share in zip(intervals, shares, strict=True) if each],
                "arrayminus": [
                    share - each.low for each, share in zip(intervals, shares, strict=True) if each
                ],
                "color": GREY,
                "thickness": 1.2,
            },
            customdata=[f"{accuracy.correct} of {accuracy.answered}" for _, accuracy in found],
            hovertemplate="%{y}: %{x:.3f} (%{customdata})<extra></extra>",
        )
    )
    chance = infer.chance
    if chance is not None:
        figure.add_vline(x=chance, line_dash="dot", line_color=GREY)
    add_row_names(figure, [subject.replace("_", " ") for subject, _ in found], 0.0)
    figure.update_xaxes(range=[-0.01, 1.01], title="accuracy")
    figure.update_yaxes(dtick=1, range=[-0.7, len(found) - 0.3])
    return Chart(
        f"Accuracy by {'subject' if is_mmlu else 'task'}",
        "With Wilson's 95 % interval."
        + ("" if chance is None else f" The dotted line is chance, {chance:.3f} over all questions."),
        styled(figure, height=110 + 18 * len(found)),
        is_wide=True,
        rows=len(found),
    )


def token_lengths(scored: RecordTable) -> Chart:
    """Return the histogram of prompts' lengths."""
    figure = histogram(
        [
            ("prompt", scored["tokens.logical"].astype(float), BLUE),
            ("as the engine ran it, padded", scored["batch.padded_length"].astype(float), ORANGE),
        ],
        "tokens",
        "questions",
    )
    return Chart("Lengths of prompts", "In tokens, BOS included.", styled(figure))


def token_kinds(scored: RecordTable) -> Chart:
    """Return the chart of computed, reused and padding tokens."""
    logical, computed = scored["tokens.logical"].sum(), scored["tokens.computed"].sum()
    padding = scored.requests()["batch.padding_tokens"].sum()
    kinds = (("computed", computed, GREEN), ("reused", logical - computed, BLUE), ("padding", padding, GREY))
    figure = go.Figure()
    for name, count, color in kinds:
        figure.add_bar(
            x=[int(count)],
            y=["tokens"],
            name=name,
            orientation="h",
            marker_color=color,
            hovertemplate=f"%{{x:,d}} tokens {name}<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(showticklabels=False)
    return Chart(
        "Padding and reuse",
        "Computed and reused tokens are the prompts'; padding is what the engine ran besides.",
        styled(figure, height=150),
    )


def device_charts(run: FinishedRun, axis: TimeAxis) -> list[Chart]:
    """Return the charts of each server's memory, and of each device's power and temperature where known."""
    readings = [each for each in run.readings if axis.has(each.phase, each.session)]
    several = len({reading.device_key for reading in readings}) > 1
    wanted: tuple[tuple[str, str, Callable[[Reading], float | None], Callable[[Reading], str]], ...] = (
        ("Memory over time", "GiB", lambda each: gib(each.device.memory_used), _holder(several)),
        ("Power over time", "W", lambda each: each.device.power_watts, _device_name),
        ("Temperature over time", "°C", lambda each: each.device.temperature_celsius, _device_name),
    )
    made = []
    for title, unit, value, name in wanted:
        figure = go.Figure()
        lines: dict[str, list[tuple[float, float]]] = {}
        for reading in readings:
            if (known := value(reading)) is not None:
                seconds = axis.seconds(reading.phase, reading.session, np.array(reading.monotonic_ns))
                lines.setdefault(name(reading), []).append((float(seconds), known))
        for label, points in sorted(lines.items()):
            x, y = zip(*points, strict=True)
            figure.add_scatter(
                x=x,
                y=y,
                name=label,
                mode="lines+markers",
                line_color=color_of(len(figure.data)),
                hovertemplate=hover(unit),
            )
        if figure.data:
            figure.update_yaxes(rangemode="tozero")
            about = "As the server reads its device, about once a second; a reference phase comes before 0."
            made.append(Chart(title, about, styled(_time_axes(figure, unit))))
    return made


def _holder(several: bool) -> Callable[[Reading], str]:
    """Return a function that names the server of a reading, and its device where there are several."""
    return lambda reading: f"{reading.server}, {reading.device.name}" if several else reading.server


def _device_name(reading: Reading) -> str:
    """Return a device's name with the beginning of its id, which tells devices of one name apart."""
    return f"{reading.device.name}, {(reading.device.id or reading.server)[:12]}"


def _windows(seconds: NDArray[np.float64]) -> int:
    return max(1, min(WINDOWS, len(seconds) // REPLIES))


def _width(seconds: NDArray[np.float64]) -> float:
    return max(float(seconds.max()), 1e-9) / _windows(seconds)


def _windowed(
    seconds: NDArray[np.float64], figure: Callable[[NDArray[np.int64]], float | None]
) -> tuple[list[float], list[float | None]]:
    """Return the middle of each window in seconds, and the figure of its rows; None for an empty one."""
    width, windows = _width(seconds), range(_windows(seconds))
    place = np.minimum((seconds / width).astype(int), len(windows) - 1)
    rows = [np.flatnonzero(place == window) for window in windows]
    return (
        [(window + 0.5) * width for window in windows],
        [figure(each) if len(each) else None for each in rows],
    )


def _time_axes(figure: go.Figure, unit: str) -> go.Figure:
    figure.update_xaxes(title="seconds since the run began")
    figure.update_yaxes(title=unit, rangemode="tozero")
    return figure


def marked(chart: Chart, run: FinishedRun, axis: TimeAxis) -> Chart:
    """Add to a chart over time when a server was away, and when the client was started again."""
    figure, first = chart.figure, _first(chart.figure)
    away = [
        (float(start), float(end))
        for session, each in run.manifest.outages
        if axis.has(each.phase, session)
        for start, end in [axis.seconds(each.phase, session, np.array([each.lost_ns, each.over_ns]))]
        if end >= first
    ]
    restarts = [place for place in axis.restarts if place >= first]
    if away:
        add_bands(figure, away, "a server was away", AWAY)
    if restarts:
        add_lines(figure, restarts, "the client was started again", GREY)
    return chart


def hover(unit: str) -> str:
    """Return the text that is shown where the pointer is."""
    return f"%{{y:,.4~r}} {unit} at %{{x:,.4~r}} s"


def _first(figure: go.Figure) -> float:
    """Return where the earliest line of the plot begins, 0 at the latest."""
    return min([0.0, *(float(trace.x[0]) for trace in figure.data if len(trace.x))])


def _milliseconds(value: float) -> str:
    return "< 0.001 ms" if 0 < value < 0.001 else f"{significant(value, 3)} ms"


def _percentile_of(values: NDArray[np.float64], share: int, rows: NDArray[np.int64]) -> float:
    return float(np.percentile(values[rows], share))
