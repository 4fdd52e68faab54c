"""The charts of a campaign: accuracy and throughput by cell, and how cells differ from their baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import plotly.graph_objects as go

from mmlu_client.campaign.file.axis import REPETITION
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.figures.statistics import Interval
from mmlu_client.pages.chart import BLUE, GREEN, GREY, Chart, add_row_names, color_of, styled
from mmlu_client.report.compare import Effect

# What a chart draws of a cell: None for nothing.
Drawn = Callable[[CellOutcome], Effect | None]


def campaign_charts(outcome: CampaignOutcome) -> list[Chart]:
    """Return the charts for which cells have figures."""
    made = [accuracies(outcome), throughputs(outcome)]
    if outcome.manifest.baseline:
        made += [differences(outcome), ratios(outcome)]
    return [chart for chart in made if chart.rows]


def accuracies(outcome: CampaignOutcome) -> Chart:
    """Return the chart of each cell's accuracy."""
    figure, names, left = _points(outcome, _accuracy, ".3f")
    figure.update_xaxes(title="accuracy")
    return _by_cell(
        "Accuracy by cell",
        "Of the answered questions, with Wilson's 95 % interval. Whether two cells differ is told by the "
        "paired test, and not by whether these intervals overlap.",
        figure,
        names,
        left,
    )


def throughputs(outcome: CampaignOutcome) -> Chart:
    """Return the chart of each cell's throughput."""
    figure, names = go.Figure(), [cell.label for cell in outcome if cell.summary]
    for name, key, color in (("whole", "p_infer_whole", BLUE), ("core", "p_infer_core", GREEN)):
        figure.add_scatter(
            x=[getattr(cell.summary, key) for cell in outcome if cell.summary],
            y=names,
            name=name,
            mode="markers",
            marker={"color": color, "size": 10},
            hovertemplate="%{y}: %{x:,.4~r} tokens/s<extra>" + name + "</extra>",
        )
    figure.update_xaxes(title="tokens/s", rangemode="tozero", nticks=6)
    about = "Logical tokens over whole time, and over the engine's core time."
    return _by_cell("Throughput by cell", about, figure, names)


def differences(outcome: CampaignOutcome) -> Chart:
    """Return the chart of each cell's accuracy less its baseline's."""
    figure, names, left = _points(outcome, lambda cell: cell.effect("acc"), "+.4f")
    figure.add_vline(x=0, line_dash="dot", line_color=GREY)
    figure.update_xaxes(title="accuracy less the baseline's")
    about = "On the questions that both answered, with Newcombe's 95 % interval of paired shares."
    return _by_cell("Accuracy against the baseline", about, figure, names, left)


def ratios(outcome: CampaignOutcome) -> Chart:
    """Return the chart of each cell's throughput as a multiple of its baseline's."""
    figure, names, left = _points(outcome, lambda cell: cell.effect("p_infer_whole"), ",.3f")
    figure.add_vline(x=1, line_dash="dot", line_color=GREY)
    figure.update_xaxes(title="times the baseline's tokens/s, whole")
    return _by_cell(
        "Throughput against the baseline",
        "With 95 % intervals by the block bootstrap over each run's own requests. How runs differ from one "
        "another on the same machine is not in them: repetitions tell that.",
        figure,
        names,
        left,
    )


def _by_cell(title: str, about: str, figure: go.Figure, names: Sequence[str], left: float = 0.0) -> Chart:
    """Return a chart with a row for each of these cells, the first one on top.

    Args:
        title: of the chart.
        about: what it shows.
        figure: the plot.
        names: of the cells.
        left: where names begin that stand above their rows.
    """
    if names:
        add_row_names(figure, names, left)
    figure.update_xaxes(tickangle=0)
    figure.update_yaxes(dtick=1, range=[len(names) - 0.3, -0.7], categoryorder="array", categoryarray=names)
    return Chart(title, about, styled(figure, height=110 + 26 * len(names)), is_wide=True, rows=len(names))


def _points(outcome: CampaignOutcome, effect: Drawn, form: str) -> tuple[go.Figure, list[str], float]:
    """Draw a value with its interval for each cell that has one.

    Returns:
        The figure, with a series for each value of the first axis on which cells differ; the cells' names;
        the least end of an interval.
    """
    figure = go.Figure()
    drawn = [(cell, found) for cell in outcome if (found := effect(cell)) and found.value is not None]
    for name, color, cells in _series(outcome, drawn):
        values = [found.value or 0.0 for found in cells.values()]
        spreads = [
            found.interval or Interval(value, value)
            for found, value in zip(cells.values(), values, strict=True)
        ]
        figure.add_scatter(
            x=values,
            y=list(cells),
            name=name,
            mode="markers",
            marker={"color": color, "size": 8},
            error_x={
                "array": [each.high - value for each, value in zip(spreads, values, strict=True)],
                "arrayminus": [value - each.low for each, value in zip(spreads, values, strict=True)],
                "color": color,
                "thickness": 1.2,
            },
            customdata=[f"{each.low:{form}} … {each.high:{form}}" for each in spreads],
            hovertemplate=f"%{{y}}: %{{x:{form}}} (%{{customdata}})<extra></extra>",
        )
    ends = [found.interval.low if found.interval else found.value or 0.0 for _, found in drawn]
    return figure, [cell.label for cell, _ in drawn], min(ends, default=0.0)


def _series(
    outcome: CampaignOutcome, drawn: Sequence[tuple[CellOutcome, Effect]]
) -> Iterator[tuple[str, str, Mapping[str, Effect]]]:
    """Yield the values of the first axis on which cells differ: the name, its color, and its cells."""
    axis = next((each for each in outcome.manifest.varied if each != REPETITION), REPETITION)
    names = dict.fromkeys(cell.entry.coordinates.get(axis, "") for cell in outcome)
    for place, name in enumerate(names):
        cells = {cell.label: found for cell, found in drawn if cell.entry.coordinates.get(axis, "") == name}
        if cells:
            yield name, color_of(place), cells


def _accuracy(cell: CellOutcome) -> Effect | None:
    found = cell.summary
    if found is None or found.acc is None:
        return None
    has_interval = found.acc_low is not None and found.acc_high is not None
    return Effect(found.acc, Interval(found.acc_low or 0.0, found.acc_high or 0.0) if has_interval else None)
