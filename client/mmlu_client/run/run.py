"""One measured run, start to report."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.errors import ClientError, InputError, RunError
from mmlu_client.figures.summary import Summary
from mmlu_client.report.outcome import print_text, printed
from mmlu_client.run.closing import Closing, Show
from mmlu_client.run.evaluation import Evaluation, Start
from mmlu_client.run.session import Session
from mmlu_client.run.sources import source_of
from mmlu_client.run.workload import Source
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import choose_output_folder


def run(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure and report.

    Args:
        settings: of the run.
        command_line: of this process.
        started: when this process started, in seconds of the monotonic clock.

    Raises:
        ClientError: what ended the run or failed in it, after the report of what there is.
    """
    folder = settings.resume or choose_output_folder(settings.output)
    measured = Run(settings, source_of(settings), folder, shown_as(settings))
    try:
        asyncio.run(measured.measure(Start(command_line, started)))
    except ClientError as error:
        if measured.is_left_over and not isinstance(error, InputError):
            error.add(f"--resume {folder} goes on with it")
        raise


def shown_as(settings: Settings) -> Show:
    """Return what prints a run as the flags ask."""

    def show(run: FinishedRun, summary: Summary, is_written: bool) -> None:
        print_text(printed(run, summary, settings.format, is_whole=settings.verbose, is_written=is_written))

    return show


class Run:
    """Measures one run: opens a session, evaluates in it, and closes it."""

    def __init__(self, settings: Settings, source: Source, folder: Path, show: Show) -> None:
        """Choose what is asked.

        Args:
            settings: of the run.
            source: what is asked is from it.
            folder: where the run's files go.
            show: prints the run and its figures.

        Raises:
            InputError: the data lack what is asked for.
        """
        self._settings = settings
        self._workload = source.workload(settings)
        self._folder = folder
        self._closing = Closing(folder, source, settings.format, show)

    @property
    def finished(self) -> FinishedRun | None:
        """The run that the figures were computed from; None before they were."""
        return self._closing.finished

    @property
    def is_left_over(self) -> bool:
        """Whether it was broken off with some questions answered and others still to be asked."""
        run = self.finished
        return (
            self._closing.is_broken_off and run is not None and 0 < len(run.records) < run.manifest.to_answer
        )

    async def measure(self, start: Start) -> None:
        """Ask everything, and report what there is.

        Raises:
            ClientError: what ended the run or failed in it.
        """
        with Session(self._settings) as session:
            evaluation = Evaluation(self._settings, self._workload, self._folder, session)
            trouble = await session.ending_of(evaluation.run(start))
            if evaluation.has_nothing_to_ask and trouble is None:
                self._closing.report_again()
                return
            if evaluation.manifest is None or not evaluation.records:
                raise trouble or RunError(self._why_nothing_was_asked())
            try:
                self._closing.close(evaluation, evaluation.manifest, trouble)
            finally:
                await session.show_last_figures()

    def _why_nothing_was_asked(self) -> str:
        why = f"none of the {len(self._workload.items):,} questions was asked"
        duration = self._settings.load.duration
        return why if duration is None else f"{why}: --benchmark-duration {duration:g} s was over before"
