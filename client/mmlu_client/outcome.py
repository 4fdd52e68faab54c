"""The figures of a run, written into its folder and as the text that is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mmlu_client.errors import RunError
from mmlu_client.finished_run import FinishedRun
from mmlu_client.formats import formatted
from mmlu_client.html_report import html_report
from mmlu_client.page import DrawnChart
from mmlu_client.report import summary_page
from mmlu_client.run_folder import HTML, SUMMARY, TABLE, write_text
from mmlu_client.summary import summarize


def written_figures(run: FinishedRun, form: str, charts: Sequence[DrawnChart]) -> str:
    """Writes summary.json, summary.md and report.html; returns what `--format` prints. Raises RunError.

    charts: the run's, for the page.
    """
    summary = summarize(run)
    write_text(run.folder / SUMMARY, json.dumps(asdict(summary), indent=2) + "\n")
    write_text(run.folder / TABLE, summary_page(run, summary))
    write_text(run.folder / HTML, html_report(run, summary, charts))
    return formatted(run, summary, form)


def print_text(text: str) -> None:
    """Raises RunError where nothing takes it."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What stands in the buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"cannot print the figures: {error.strerror}") from None
