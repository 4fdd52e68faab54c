"""The page of a comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmlu_client.figures.catalogue import FIGURES
from mmlu_client.pages.compare_charts import comparison_charts
from mmlu_client.pages.page import drawn, page
from mmlu_client.report.compare import Contrast, Side
from mmlu_client.report.compare_text import described, plain, statements, table_rows, task_rows_of
from mmlu_client.rundir.folder import HTML
from mmlu_client.rundir.manifest import now
from mmlu_client.text import exact


def comparison_page(sides: Sequence[Side], contrasts: Sequence[Contrast], file: Path) -> str:
    """Return the page; `file` is where it will be written, for the links to the runs' own pages."""
    notices = dict.fromkeys(side.run.model.notice for side in sides if side.run.model.notice)
    return page(
        "compare.html.jinja",
        drawn(comparison_charts(sides, contrasts)),
        {},
        title=f"{', '.join(side.run.folder.name for side in sides[1:])} against {sides[0].run.folder.name}",
        started=now().utc,
        notices=list(notices),
        sides=[_side(side, file) for side in sides],
        contrasts=[_contrast(contrast) for contrast in contrasts],
        figures=[
            (each.key, [exact(getattr(side.summary, each.key)) for side in sides])
            for each in FIGURES
            if not each.is_of_tasks
        ],
    )


def _side(side: Side, file: Path) -> dict[str, Any]:
    own = side.run.folder / HTML
    link = quote(os.path.relpath(own.resolve(), file.resolve().parent)) if own.exists() else None
    return {
        "label": side.label,
        "folder": str(side.run.folder),
        "link": link,
        "about": described(side),
        "started": side.run.manifest.started.utc,
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "title": f"{contrast.other.label} against {contrast.first.label}",
        "first": contrast.first.label,
        "other": contrast.other.label,
        "table": table_rows(contrast),
        "metrics": task_rows_of(contrast),
        "statements": [line.partition(": ")[::2] for line in statements(contrast)],
        "manifest": [(name, plain(before), plain(after)) for name, before, after in contrast.manifest],
        "letters": contrast.letters,
    }
