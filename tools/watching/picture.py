"""Pictures of dashboards with the data of a running Prometheus, for the documentation.

They are made by `python -m tools.watching`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Wedge
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tools.watching.dashboard import Dashboard, Panel
from tools.watching.prometheus import Prometheus, Series
from tools.watching.unit import formatted

PAGE, CARD, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2c3036", "#d8d9da", "#8e9097"
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
NAMED = {
    "green": "#73bf69",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "transparent": FAINT,
    "text": TEXT,
}
# The size of a cell of Grafana's grid and the height of a row's title, in inches.
CELL_WIDTH, CELL_HEIGHT, TITLE_HEIGHT = 0.62, 0.33, 0.36
DOTS_PER_INCH = 100
# The average width of a legend's letter, in inches.
LETTER_WIDTH = 0.05
STEPS = 120


class Picture:
    """A picture of a dashboard over a period of time.

    Panels for which Prometheus has no data, such as those of GPUs, are left out.
    """

    def __init__(
        self,
        dashboard: Dashboard,
        prometheus: Prometheus,
        start: float,
        end: float,
        variables: Mapping[str, str],
    ) -> None:
        """Prepare the picture.

        Args:
            dashboard: The dashboard.
            prometheus: Where its data come from.
            start: The beginning of the period in Unix seconds.
            end: The end of the period in Unix seconds.
            variables: The values of the dashboard's variables.
        """
        self._dashboard = dashboard
        self._prometheus = prometheus
        self._start, self._end = start, end
        self._variables = variables

    def draw(self, path: Path) -> None:
        """Write the picture to a file."""
        answers = [(panel, self._ask(panel)) for panel in self._dashboard.panels]
        shown = [(panel, series) for panel, series in answers if series]
        rows = max(panel.y + panel.height for panel, _ in shown)
        width, height = 24 * CELL_WIDTH, rows * CELL_HEIGHT + TITLE_HEIGHT
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=PAGE)
        top = 1 - TITLE_HEIGHT / height
        figure.text(
            0.008, 1 - 0.5 * TITLE_HEIGHT / height, self._dashboard.title, color=TEXT, size=13, va="center"
        )
        for title, y in {panel.row: panel.y for panel, _ in reversed(shown)}.items():
            figure.text(0.008, top - (y - 0.5) / rows * top, f"⌄ {title}", color=TEXT, size=9.5, va="center")
        for panel, series in shown:
            box = (
                panel.x / 24 + 0.002,
                top - (panel.y + panel.height) / rows * top + 0.002,
                panel.width / 24 - 0.004,
                panel.height / rows * top - 0.004,
            )
            _Card(figure, box, panel).draw(series)
        figure.savefig(path, facecolor=PAGE, pil_kwargs={"optimize": True})

    def _ask(self, panel: Panel) -> list[tuple[str, Series]]:
        """Return the legend and the data of every series of a panel."""
        found = []
        for query in panel.queries:
            expression = query.filled(self._variables)
            if query.instant:
                series = self._prometheus.query(expression, self._end)
            else:
                step = (self._end - self._start) / STEPS
                series = self._prometheus.query_range(expression, self._start, self._end, step)
            found += [(query.name_of(one.labels), one) for one in series]
        return found


class _Card:
    """The rectangle of a panel."""

    def __init__(self, figure: Figure, box: tuple[float, float, float, float], panel: Panel) -> None:
        """Draw the empty rectangle; `box` is left, bottom, width and height as shares of the figure."""
        self._figure, self._box, self._panel = figure, box, panel
        left, bottom, width, height = box
        figure.add_artist(
            FancyBboxPatch(
                (left, bottom),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.003",
                fc=CARD,
                ec=EDGE,
                lw=0.8,
                zorder=-1,
            )
        )
        figure.text(
            left + 0.006, bottom + height - self._inches(0.17), panel.title, color=TEXT, size=8.5, va="center"
        )

    def draw(self, series: Sequence[tuple[str, Series]]) -> None:
        """Draw the panel's series."""
        kinds = {
            "timeseries": self._lines,
            "stat": self._number,
            "gauge": self._gauge,
            "bargauge": self._bars,
            "table": self._table,
        }
        kinds[self._panel.kind](series)

    def _lines(self, series: Sequence[tuple[str, Series]]) -> None:
        rows = math.ceil(len(series) / self._columns([name for name, _ in series]))
        legend = self._inches(0.17) * rows + self._inches(0.1)
        series = [one for one in series if any(math.isfinite(value) for _, value in one[1].values)]
        axes = self._axes(
            self._room_for_scale(series), legend + self._inches(0.24), 0.014, self._inches(0.36)
        )
        if self._panel.stacked:
            self._stack(axes, series)
        else:
            for index, (_, one) in enumerate(series):
                times, values = _curve(one)
                axes.plot(times, values, color=_color(index), lw=1.3)
                axes.fill_between(times, values, min(0, *values), color=_color(index), alpha=0.07, lw=0)
        self._thresholds(axes)
        self._scales(axes, series)
        self._legend(series, legend)

    def _room_for_scale(self, series: Sequence[tuple[str, Series]]) -> float:
        """Return the width of the longest label of the scale, as a share of the figure."""
        top = max((abs(value) for _, one in series for _, value in one.values), default=0.0)
        letters = len(formatted(0.75 * top, self._panel.defaults["unit"]))
        return max(0.048, (LETTER_WIDTH * 1.15 * letters + 0.12) / self._width)

    def _stack(self, axes: Axes, series: Sequence[tuple[str, Series]]) -> None:
        instants = sorted({time for _, one in series for time, _ in one.values})
        rows = [dict(one.values) for _, one in series]
        values = [[row.get(instant, 0.0) for instant in instants] for row in rows]
        times = [_days(instant) for instant in instants]
        axes.stackplot(times, values, colors=[_color(index) for index in range(len(rows))], alpha=0.55, lw=0)

    def _thresholds(self, axes: Axes) -> None:
        for step in self._panel.defaults["thresholds"]["steps"]:
            if step["value"] is not None:
                axes.axhline(step["value"], color=NAMED[step["color"]], lw=0.9, ls=(0, (6, 4)))

    def _scales(self, axes: Axes, series: Sequence[tuple[str, Series]]) -> None:
        defaults = self._panel.defaults
        top = max(
            (value for _, one in series for _, value in one.values if math.isfinite(value)), default=0.0
        )
        axes.set_ylim(defaults.get("min"), defaults.get("max"))
        if "max" not in defaults and top <= 0:
            axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatted(value, defaults["unit"])))
        axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=5))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        axes.tick_params(colors=FAINT, labelsize=6.5, length=0)
        axes.grid(color=EDGE, lw=0.6)
        axes.margins(x=0)

    def _legend(self, series: Sequence[tuple[str, Series]], height: float) -> None:
        left, bottom, width, _ = self._box
        columns = self._columns([name for name, _ in series])
        for index, (name, one) in enumerate(series):
            row, column = divmod(index, columns)
            x = left + 0.008 + column * (width - 0.012) / columns
            y = bottom + height - self._inches(0.17) * (row + 0.5)
            last = formatted(one.values[-1][1], self._panel.defaults["unit"])
            self._figure.text(x, y, "━", color=_color(index), size=8, va="center")
            self._figure.text(x + 0.011, y, f"{name}  {last}", color=TEXT, size=6.5, va="center")

    def _number(self, series: Sequence[tuple[str, Series]]) -> None:
        axes = self._axes(0, 0, 0, self._inches(0.34))
        axes.axis("off")
        for index, (_, one) in enumerate(series):
            value = one.values[-1][1]
            color = self._level(value)
            below = self._axes(0, 0, 0, self._inches(0.95))
            below.axis("off")
            times, values = _curve(one)
            if len(values) > 1 and self._panel.sparkline:
                below.fill_between(times, values, color=color, alpha=0.18, lw=0)
                below.plot(times, values, color=color, lw=1)
                below.set_ylim(0, max(values) * 1.1 or 1)
                below.margins(x=0)
            text = self._mapped(value)
            y = 0.68 if len(series) == 1 else 0.88 - 0.26 * index
            size = 17 if len(series) == 1 else 14
            axes.text(0.5, y, text, color=color, size=size, weight="bold", ha="center", va="center")

    def _gauge(self, series: Sequence[tuple[str, Series]]) -> None:
        value = series[0][1].values[-1][1]
        axes = self._axes(0, self._inches(0.06), 0, self._inches(0.34))
        axes.axis("off")
        axes.set_aspect("equal")
        axes.set_xlim(-1.15, 1.15)
        axes.set_ylim(-0.35, 1.1)
        share = min(1.0, max(0.0, value / self._panel.defaults.get("max", 1)))
        axes.add_patch(Wedge((0, 0), 1, 0, 180, width=0.27, color=EDGE))
        axes.add_patch(Wedge((0, 0), 1, 180 - 180 * share, 180, width=0.27, color=self._level(value)))
        text = formatted(value, self._panel.defaults["unit"], self._panel.defaults.get("decimals"))
        axes.text(0, 0.05, text, color=self._level(value), size=14, weight="bold", ha="center", va="center")

    def _bars(self, series: Sequence[tuple[str, Series]]) -> None:
        values = [one.values[-1][1] for _, one in series]
        defaults = self._panel.defaults
        texts = [formatted(value, defaults["unit"], defaults.get("decimals")) for value in values]
        left, right = (
            (1.15 * LETTER_WIDTH * max(map(len, names)) + 0.25) / self._width
            for names in ([name for name, _ in series], texts)
        )
        axes = self._axes(left, self._inches(0.1), right, self._inches(0.4))
        axes.axis("off")
        top = defaults.get("max") or max(values) or 1
        axes.set_xlim(0, top)
        for index, ((name, _), value, text) in enumerate(
            reversed(list(zip(series, values, texts, strict=True)))
        ):
            axes.barh(index, top, height=0.62, color=EDGE)
            axes.barh(index, value, height=0.62, color=self._level(value))
            axes.text(-0.02 * top, index, name, color=TEXT, size=6.5, ha="right", va="center")
            axes.text(1.02 * top, index, text, color=self._level(value), size=6.5, ha="left", va="center")

    def _table(self, series: Sequence[tuple[str, Series]]) -> None:
        left, bottom, width, height = self._box
        hidden = ("__name__", "job", "instance")
        columns = [name for name in series[0][1].labels if name not in hidden]
        weights = [
            max(len(name), *(len(one.labels.get(name, "")) for _, one in series)) + 3 for name in columns
        ]
        x = left + 0.008
        for name, weight in zip(columns, weights, strict=True):
            y = bottom + height - self._inches(0.5)
            self._figure.text(x, y, name, color="#6e9fff", size=7, va="center")
            for row, (_, one) in enumerate(series, start=1):
                value = one.labels.get(name, "")
                self._figure.text(x, y - row * self._inches(0.22), value, color=TEXT, size=7, va="center")
            x += (width - 0.016) * weight / sum(weights)

    def _columns(self, names: Sequence[str]) -> int:
        """Return how many legends, each with its last value, fit beside each other."""
        room = self._panel.width * CELL_WIDTH / LETTER_WIDTH
        longest = max(len(name) for name in names) + len("  ━  123.4 tok/s")
        return max(1, min(len(names), int(room / longest)))

    def _mapped(self, value: float) -> str:
        """Return the text that the panel maps a value to, or else the value with its unit."""
        defaults = self._panel.defaults
        words = {
            key: word["text"]
            for each in defaults.get("mappings", ())
            for key, word in each["options"].items()
        }
        return words.get(f"{value:g}") or formatted(value, defaults["unit"], defaults.get("decimals"))

    def _level(self, value: float) -> str:
        """Return the colour of the highest threshold that a value has reached."""
        steps = self._panel.defaults["thresholds"]["steps"]
        reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
        return NAMED[reached[-1]]

    def _axes(self, left: float, bottom: float, right: float, top: float) -> Axes:
        """Return axes inside the card, with these margins as shares of the figure."""
        x, y, width, height = self._box
        axes = self._figure.add_axes((x + left, y + bottom, width - left - right, height - bottom - top))
        axes.set_facecolor(CARD)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    @property
    def _width(self) -> float:
        """The figure's width in inches."""
        return float(self._figure.get_size_inches()[0])

    def _inches(self, inches: float) -> float:
        """Return inches as a share of the figure's height."""
        return inches / float(self._figure.get_size_inches()[1])


def _curve(series: Series) -> tuple[list[float], list[float]]:
    finite = [(_days(time), value) for time, value in series.values if math.isfinite(value)]
    return [time for time, _ in finite], [value for _, value in finite]


def _days(seconds: float) -> float:
    """Return Unix seconds as matplotlib's days."""
    return seconds / 86400


def _color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]
