"""report.html: one file that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import plotly.io as pio
from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mmlu_client.charts import charts
from mmlu_client.finished_run import FinishedRun
from mmlu_client.report import COLUMNS, cells, notes
from mmlu_client.summary import Summary

TEMPLATE = "report.html.jinja"


def html_report(run: FinishedRun, summary: Summary) -> str:
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("mmlu_client").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    return template.render(
        title=f"{run.model.id} on {run.data}",
        started=run.manifest["started"]["utc"],
        notice=run.model.notice,
        columns=COLUMNS,
        cells=cells(summary, run.model.notice),
        notes=[line.partition(": ")[::2] for line in notes(run, summary) if not line.startswith("**")],
        charts=[(chart, Markup(_drawn(chart.figure))) for chart in charts(run)],
        manifest=list(flattened(run.manifest)),
        script=Markup(get_plotlyjs()),
    )


def flattened(manifest: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values."""
    for name, value in manifest.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", shown


def _drawn(figure: Any) -> str:
    """A div with its script; the library itself stands once in the page."""
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    return str(pio.to_html(figure, include_plotlyjs=False, full_html=False, config=config))
