"""The end of a run: its session is closed, and its figures are written and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from mmlu_client.errors import ClientError, NotWrittenError, RunError
from mmlu_client.figures.formulas import summarize
from mmlu_client.figures.summary import Summary
from mmlu_client.pages.page import DrawnChart
from mmlu_client.pages.run_page import drawn_charts, html_report
from mmlu_client.report.outcome import figure_files, flaw, joined, loss, noted, write_files
from mmlu_client.run.evaluation import Evaluation
from mmlu_client.run.workload import Source
from mmlu_client.rundir.finished_run import FinishedRun, read_run
from mmlu_client.rundir.open_manifest import RunManifest

# Given a run, its figures, and whether they are in its folder: prints them. Raises RunError.
Show: TypeAlias = Callable[[FinishedRun, Summary, bool], None]


class Closing:
    """Ends a session, and writes and prints the figures of its run.

    Attributes:
        finished: the run that the figures were computed from; None before they were.
        is_broken_off: whether an error or a signal ended the session.
    """

    def __init__(self, folder: Path, source: Source, output_format: str, show: Show) -> None:
        """Prepare to report the run in this folder.

        Args:
            folder: of the run.
            source: what is asked is from it.
            output_format: --format; with `lm-eval`, the files of lm-evaluation-harness are written too.
            show: prints the run and its figures.
        """
        self.finished: FinishedRun | None = None
        self.is_broken_off = False
        self._folder = folder
        self._source = source
        self._format = output_format
        self._show = show

    def close(self, evaluation: Evaluation, manifest: RunManifest, trouble: ClientError | None) -> None:
        """End the session, and write and print the figures.

        Args:
            evaluation: what was asked.
            manifest: of the run.
            trouble: what ended the evaluation early; None where nothing did.

        Raises:
            ClientError: the trouble itself.
            RunError: the figures could not be written or printed, questions failed, or the engine does not
                agree with the reference.
        """
        self.is_broken_off = trouble is not None
        lost: list[NotWrittenError] = []
        with noted(lost):
            manifest.end(evaluation.end.ended(str(trouble) if trouble else evaluation.why))
        try:
            finished = replace(read_run(self._folder), manifest=manifest.manifest)
        except ClientError as error:
            raise trouble or error from None
        charts = drawn_charts(finished)
        if not lost:
            # Once more, as late as a figure can tell of it: reading records and drawing charts takes a while.
            with noted(lost):
                manifest.end_now()
        self._report(replace(finished, manifest=manifest.manifest), charts, trouble, lost)

    def report_again(self) -> None:
        """Write and print the figures of a run to which nothing was added.

        Raises:
            RunError: as `close` does.
        """
        finished = read_run(self._folder)
        self._report(finished, drawn_charts(finished), None, [])

    def _report(
        self,
        finished: FinishedRun,
        charts: Sequence[DrawnChart],
        trouble: ClientError | None,
        lost: Sequence[NotWrittenError],
    ) -> None:
        """Write the figures, and print them, written or not.

        Args:
            finished: the run.
            charts: of its page.
            trouble: what ended the evaluation early.
            lost: what could not be written before.
        """
        self.finished, summary = finished, summarize(finished)
        html = partial(html_report, finished, summary, charts)
        lost = [*lost, *write_files(figure_files(finished, summary, html))]
        others: list[ClientError] = list(loss(lost, "report"))
        try:
            self._show(finished, summary, not lost)
        except RunError as error:
            others.append(RunError(f"{error}; see {self._folder}"))
        if self._format == "lm-eval":
            try:
                self._source.write_lm_eval_files(finished)
            except RunError as error:
                others.append(error)
        trouble = joined(trouble or flaw(finished, summary), others)
        if trouble is not None:
            raise trouble
