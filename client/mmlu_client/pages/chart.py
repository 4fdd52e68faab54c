"""The parts that all charts of the pages are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mmlu_client.text import significant

BINS = 50
BLUE, ORANGE, GREEN, RED, GREY = "#2f6fbb", "#e08a1e", "#3a9a5c", "#c2453d", "#8a8f98"
# The colors of any number of series.
PALETTE = (BLUE, ORANGE, GREEN, RED, "#7b5ea7", "#2a9d9d", "#a0522d", "#c77cb0")
# The colors of the stages of a request, from blue for the client to green for the engine.
STAGE_COLORS = {
    "client_queue": "#9db8dc",
    "network": BLUE,
    "server_tokenize": "#c9ccd2",
    "server_queue": ORANGE,
    "assemble": "#d8b98a",
    "copy_in": "#b6d7bf",
    "core": GREEN,
    "copy_out": "#7fbf94",
    "server_other": GREY,
}
# Where the largest value is more than this many times the smallest, the axis is logarithmic.
WIDE_RANGE = 50.0


@dataclass(frozen=True)
class Key:
    """An entry of a legend.

    Attributes:
        name: The name of the series.
        color: Its color.
        traces: The numbers of the figure's traces that have this name.
    """

    name: str
    color: str
    traces: tuple[int, ...]


@dataclass(frozen=True)
class Chart:
    """A chart and its text.

    Attributes:
        title: Its heading.
        about: What it shows and how that was computed.
        figure: The plot.
        is_wide: Whether it takes the whole width of the page.
        rows: The number of names on its vertical axis, which on a narrow screen are above their rows.
    """

    title: str
    about: str
    figure: go.Figure
    is_wide: bool = False
    rows: int = 0

    @property
    def legend(self) -> list[Key]:
        """The entries of the legend, which the page shows above the plot; empty for a single series."""
        places: dict[str, list[int]] = {}
        for place, trace in enumerate(self.figure.data):
            if trace.name:
                places.setdefault(trace.name, []).append(place)
        keys = [
            Key(name, _color(self.figure.data[traces[0]]), tuple(traces)) for name, traces in places.items()
        ]
        return keys if len(keys) > 1 else []


def color_of(place: int) -> str:
    """Return the color of the series with this number."""
    return PALETTE[place % len(PALETTE)]


def styled(figure: go.Figure, height: int = 300, room: int = 20) -> go.Figure:
    """Set the look that all charts share; numbers are in full: 3,620 and not 3.62e+03 or 3.62k.

    Args:
        figure: The plot, which is modified.
        height: Its height in pixels.
        room: The margin on the right in pixels.
    """
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": room, "t": 12, "b": 48},
        font={"family": "system-ui, sans-serif", "size": 13},
        separators=".,",
        showlegend=False,
    )
    figure.update_xaxes(exponentformat="none", separatethousands=True, automargin=True)
    figure.update_yaxes(exponentformat="none", separatethousands=True, automargin=True)
    return figure


def histogram(
    series: Sequence[tuple[str, NDArray[np.float64], str]], x: str, y: str, *, as_share: bool = False
) -> go.Figure:
    """Return a histogram whose bins are counted here, so that a page does not grow with its run.

    Args:
        series: The name, the values and the color of each series. The first is filled, the others are
            outlines.
        x: The title of the horizontal axis.
        y: The title of the vertical axis.
        as_share: Whether counts are divided by each series' length, so that series of different length
            compare.
    """
    everything = np.concatenate([values for _, values, _ in series])
    is_wide = everything.min() > 0 and everything.max() / everything.min() > WIDE_RANGE
    edges = _edges(everything, is_wide)
    figure = go.Figure()
    for place, (name, values, color) in enumerate(series):
        counts = np.histogram(values, bins=edges)[0] / (max(len(values), 1) if as_share else 1)
        # A step from edge to edge, which ends at 0 on the right.
        figure.add_scatter(
            x=[*edges, edges[-1]],
            y=[*counts, counts[-1], 0],
            name=name,
            mode="lines",
            line={"color": color, "shape": "hv", "width": 1.5},
            fill="tozeroy" if place == 0 else "none",
            hovertemplate=f"from %{{x:,.4~r}}: %{{y:{'.1%' if as_share else ',d'}}}<extra>{name}</extra>",
        )
    if is_wide:
        figure.update_xaxes(title=f"{x} (logarithmic)", **decades(float(edges[0]), float(edges[-1])))
    else:
        figure.update_xaxes(title=x)
    figure.update_yaxes(title=y, rangemode="tozero", tickformat=".0%" if as_share else None)
    return figure


def add_lines(figure: go.Figure, places: Sequence[float], name: str, color: str) -> None:
    """Add vertical lines as high as the plot; their name is in the legend, because names would overlap."""
    top = highest(figure)
    figure.add_scatter(
        x=[x for place in places for x in (place, place, None)],
        y=[0.0, top, None] * len(places),
        name=name,
        mode="lines",
        line={"color": color, "dash": "dot", "width": 1.5},
        hovertemplate="%{x:,.4~r}<extra>" + name + "</extra>",
    )


def add_bands(figure: go.Figure, spans: Sequence[tuple[float, float]], name: str, color: str) -> None:
    """Add vertical bands from start to end, as high as the plot."""
    top = highest(figure)
    figure.add_scatter(
        x=[x for start, end in spans for x in (start, start, end, end, None)],
        y=[0.0, top, top, 0.0, None] * len(spans),
        name=name,
        mode="lines",
        line={"color": color, "width": 1},
        fill="toself",
        opacity=0.5,
        hoverinfo="name",
    )


def add_row_names(figure: go.Figure, names: Sequence[str], x: float) -> None:
    """Add the names above their rows, from x to the right, which only a narrow screen shows.

    They have to be added after all other traces.
    """
    figure.add_scatter(
        x=[x] * len(names),
        y=list(names),
        text=list(names),
        # Invisible markers move the names up, away from what is drawn in their rows.
        mode="markers+text",
        marker={"size": 10, "opacity": 0},
        textposition="top right",
        textfont={"size": 12},
        cliponaxis=False,
        visible=False,
        hoverinfo="skip",
    )


def highest(figure: go.Figure) -> float:
    """Return the largest value of the plot; 1 where there is none."""
    values = [float(y) for trace in figure.data for y in trace.y if y is not None]
    return max(values, default=0.0) or 1.0


def decades(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of each decade, or at 1 alone for many decades."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if len(powers) < 5 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high]
    return {"type": "log", "tickvals": inside, "ticktext": [significant(tick, 1) for tick in inside]}


def _edges(values: NDArray[np.float64], is_wide: bool) -> NDArray[np.float64]:
    edges: NDArray[np.float64]
    if is_wide:
        edges = np.geomspace(values.min(), values.max(), BINS + 1)
    else:
        edges = np.histogram_bin_edges(values, bins=BINS)
    return edges


def _color(trace: Any) -> str:
    line = getattr(trace, "line", None)
    return str((line.color if line is not None and line.color else None) or trace.marker.color)
