"""The page of a run, report.html."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.summary import Summary
from mmlu_client.pages.charts import charts
from mmlu_client.pages.page import DrawnChart, drawn, page
from mmlu_client.report.table import COLUMNS, cells, notes
from mmlu_client.report.task_table import task_rows
from mmlu_client.rundir.finished_run import FinishedRun


def drawn_charts(run: FinishedRun) -> list[DrawnChart]:
    """Return the run's charts with their HTML."""
    return drawn(charts(run))


def html_report(run: FinishedRun, summary: Summary, charts: Sequence[DrawnChart]) -> str:
    """Return the page of a run with these charts."""
    return page(
        "report.html.jinja",
        charts,
        run.manifest.as_json(),
        title=f"{run.model.id} on {run.manifest.data.name}",
        started=run.manifest.started.utc,
        notices=[run.model.notice] if run.model.notice else [],
        columns=COLUMNS,
        cells=cells(summary, run.model.notice),
        tasks=task_rows(summary, run.model.notice),
        notes=[line.partition(": ")[::2] for line in notes(run, summary) if not line.startswith("**")],
        manifest_title="Manifest: what this run was made of",
    )
