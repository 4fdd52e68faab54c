"""The dashboards under grafana/: their panels and queries, with variables replaced as in Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    expression: str
    legend: str
    instant: bool

    def filled(self, variables: Mapping[str, str]) -> str:
        """Return the expression with its variables replaced.

        Raises:
            KeyError: A variable has no value.
        """
        return re.sub(
            r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables[found[1] or found[2]], self.expression
        )

    def name_of(self, labels: Mapping[str, str]) -> str:
        """Return the legend of a series with these labels."""
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), self.legend).strip()


@dataclass(frozen=True)
class Panel:
    """A panel and its place in Grafana's grid, which is 24 wide.

    Attributes:
        row: The title of the row that it belongs to.
    """

    row: str
    title: str
    kind: str
    description: str
    x: int
    y: int
    width: int
    height: int
    defaults: Mapping[str, Any]
    stacked: bool
    sparkline: bool
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard."""

    uid: str
    title: str
    variables: tuple[str, ...]
    panels: tuple[Panel, ...]


def dashboards() -> list[Dashboard]:
    """Return all dashboards."""
    return [
        _dashboard(json.loads(file.read_text(encoding="utf-8"))) for file in sorted(FOLDER.glob("*.json"))
    ]


def _dashboard(content: Mapping[str, Any]) -> Dashboard:
    panels, row = [], ""
    for item in content["panels"]:
        if item["type"] == "row":
            row = item["title"]
            panels += [_panel(inner, row) for inner in item["panels"]]
        else:
            panels.append(_panel(item, row))
    variables = tuple(variable["name"] for variable in content["templating"]["list"])
    return Dashboard(content["uid"], content["title"], variables, tuple(panels))


def _panel(content: Mapping[str, Any], row: str) -> Panel:
    grid, defaults = content["gridPos"], content["fieldConfig"]["defaults"]
    return Panel(
        row=row,
        title=content["title"],
        kind=content["type"],
        description=content["description"],
        x=grid["x"],
        y=grid["y"],
        width=grid["w"],
        height=grid["h"],
        defaults=defaults,
        stacked="stacking" in defaults.get("custom", {}),
        sparkline=content["options"].get("graphMode") == "area",
        queries=tuple(
            Query(target["expr"], target["legendFormat"], target.get("instant", False))
            for target in content["targets"]
        ),
    )
