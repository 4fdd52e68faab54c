"""The figures of a run: written into its folder, and printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmlu_client.config.flags import PROGRAM
from mmlu_client.errors import ClientError, FlawedRunError, NotWrittenError, RunError
from mmlu_client.figures.caveats import first_failure, validation_failure
from mmlu_client.figures.summary import Summary
from mmlu_client.pages.page import DrawnChart
from mmlu_client.pages.run_page import html_report
from mmlu_client.report.formats import formatted
from mmlu_client.report.table import summary_page
from mmlu_client.report.terminal import run_text, this_terminal
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import HTML, SUMMARY, TABLE, write_text


def figure_files(
    run: FinishedRun, summary: Summary, charts: Sequence[DrawnChart]
) -> dict[Path, Callable[[], str]]:
    """Path → what makes the content. charts: the run's, for the page."""
    return {
        run.folder / SUMMARY: lambda: json.dumps(summary.figures(), indent=2) + "\n",
        run.folder / TABLE: lambda: summary_page(run, summary),
        run.folder / HTML: lambda: html_report(run, summary, charts),
    }


def write_files(files: Mapping[Path, Callable[[], str]]) -> list[NotWrittenError]:
    """As many as can be. Returns what went wrong."""
    lost: list[NotWrittenError] = []
    for path, content in files.items():
        with noted(lost):
            write_text(path, content())
    return lost


@contextlib.contextmanager
def noted(lost: list[NotWrittenError]) -> Iterator[None]:
    """What cannot be written is put in the list, and is no error here."""
    try:
        yield
    except NotWrittenError as error:
        lost.append(error)


def printed(run: FinishedRun, summary: Summary, form: str, *, is_whole: bool, is_written: bool) -> str:
    """What `--format` prints. is_whole: with every line of summary.md."""
    if form != "table":
        return formatted(run, summary, form)
    text = run_text(run, summary, this_terminal(is_whole=is_whole))
    return f"{text}\nwritten to {run.folder}" if is_written else text


def print_text(text: str) -> None:
    """Raises RunError where nothing takes it."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What stands in the buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"cannot print the figures: {error.strerror}") from None


def joined(trouble: ClientError | None, others: Iterable[ClientError]) -> ClientError | None:
    """One error of all: the first, whose exit status counts, with what the others say."""
    for other in others:
        if trouble is None:
            trouble = other
        else:
            trouble.add(str(other))
    return trouble


def loss(lost: Sequence[NotWrittenError], remedy: str) -> list[RunError]:
    """One for all files that could not be written. remedy: flags of this program that write them."""
    if not lost:
        return []
    reasons = ", ".join(dict.fromkeys(str(error.reason) for error in lost))
    folder = lost[-1].path.parent
    names = ", ".join(error.path.name for error in lost)
    return [
        RunError(
            f"cannot write {names} in {folder}: {reasons}; when there is room, "
            f"`{PROGRAM} {remedy} {folder}` writes them"
        )
    ]


def flaw(run: FinishedRun, summary: Summary) -> FlawedRunError | None:
    """What is wrong with a run that came to its end."""
    parts = []
    if summary.validated is False:
        parts.append(validation_failure(run, summary))
    failed = run.records.where(~run.records.is_scored)
    if len(failed):
        parts.append(f"{len(failed)} of {run.to_answer} questions failed, the first {first_failure(failed)}")
    return FlawedRunError("; ".join(parts)) if parts else None
