"""HTML pages that open without a network, made of a template and charts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import plotly.io as pio
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from trt_common.one_line import printable

from mmlu_client.pages.chart import Chart
from mmlu_client.text import significant

# A chart, and the HTML that shows it.
DrawnChart: TypeAlias = tuple[Chart, Markup]


def page(
    template: str,
    charts: Sequence[DrawnChart],
    manifest: Mapping[str, Any],
    **values: Any,
) -> str:
    """Render a page.

    Args:
        template: The name of a file in this package.
        charts: The charts.
        manifest: The manifest that the page lists.
        values: The other values that the template uses.
    """
    environment = Environment(
        loader=PackageLoader("mmlu_client.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["significant"] = significant
    return environment.get_template(template).render(
        charts=charts,
        manifest=list(flattened(manifest)),
        script=Markup(get_plotlyjs()),
        **values,
    )


def drawn(charts: Sequence[Chart]) -> list[DrawnChart]:
    """Return the HTML of the charts, which takes most of the time that a page takes."""
    return [(chart, Markup(_drawn(chart.figure))) for chart in charts]


def flattened(manifest: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted names and the values of a manifest."""
    for name, value in manifest.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", shown


def _shown(value: Any) -> Any:
    """Return what a template shows of a value: text without control characters."""
    return printable(value) if type(value) is str else value


def _drawn(figure: Any) -> str:
    """Return a div with its script; plotly's own script is in the page once."""
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    return str(pio.to_html(figure, include_plotlyjs=False, full_html=False, config=config))
