"""The figures of a run, which are written into its folder and printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trt_common.one_line import printable
from trt_common.private_file import NO_REGULAR_FILE

from mmlu_client.config.command_line import PROGRAM
from mmlu_client.errors import ClientError, FlawedRunError, NotWrittenError, RunError
from mmlu_client.figures.caveats import first_failure, validation_failure
from mmlu_client.figures.summary import Summary
from mmlu_client.report.formats import formatted
from mmlu_client.report.table import summary_page
from mmlu_client.report.terminal import run_text, this_terminal
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import HTML, SUMMARY, TABLE, write_text


def figure_files(
    run: FinishedRun, summary: Summary, html: Callable[[], str]
) -> dict[Path, Callable[[], str]]:
    """Return what makes the content of each file of figures, by path.

    Args:
        run: The run.
        summary: Its figures.
        html: Makes its page.
    """
    return {
        run.folder / SUMMARY: lambda: json.dumps(summary.figures(), indent=2) + "\n",
        run.folder / TABLE: lambda: summary_page(run, summary),
        run.folder / HTML: html,
    }


def write_files(files: Mapping[Path, Callable[[], str]]) -> list[NotWrittenError]:
    """Write as many files as possible, and return the errors of the others."""
    lost: list[NotWrittenError] = []
    for path, content in files.items():
        with noted(lost):
            write_text(path, content())
    return lost


@contextlib.contextmanager
def noted(lost: list[NotWrittenError]) -> Iterator[None]:
    """Add the error of a file that cannot be written to the list, instead of raising it."""
    try:
        yield
    except NotWrittenError as error:
        lost.append(error)


def printed(run: FinishedRun, summary: Summary, form: str, *, is_whole: bool, is_written: bool) -> str:
    """Return what `--format` prints.

    Args:
        run: The run.
        summary: Its figures.
        form: The format.
        is_whole: Whether every line of summary.md is printed.
        is_written: Whether the files of figures were written, which the text then says.
    """
    if form != "table":
        return formatted(run, summary, form)
    text = run_text(run, summary, this_terminal(is_whole=is_whole))
    return f"{text}\nwritten to {run.folder}" if is_written else text


def print_text(text: str) -> None:
    """Print a text to standard output.

    Raises:
        RunError: It cannot be written.
    """
    try:
        print(printable(text), flush=True)
    except OSError as error:
        # What is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"cannot print the figures: {error.strerror}") from None


def joined(trouble: ClientError | None, others: Iterable[ClientError]) -> ClientError | None:
    """Return one error for all: the first, whose exit status counts, with the messages of the others."""
    for other in others:
        if trouble is None:
            trouble = other
        else:
            trouble.add(str(other))
    return trouble


def loss(lost: Sequence[NotWrittenError], remedy: str) -> list[RunError]:
    """Return one error for all files that could not be written.

    Args:
        lost: The errors of the files.
        remedy: The arguments of this program that write them.
    """
    if not lost:
        return []
    reasons = ", ".join(dict.fromkeys(str(error.reason) for error in lost))
    then = "when it is out of the way" if NO_REGULAR_FILE in reasons else "when there is room"
    folder = lost[-1].path.parent
    names = ", ".join(error.path.name for error in lost)
    return [
        RunError(
            f"cannot write {names} in {folder}: {reasons}; {then}, `{PROGRAM} {remedy} {folder}` writes them"
        )
    ]


def flaw(run: FinishedRun, summary: Summary) -> FlawedRunError | None:
    """Return what is wrong with a run that was completed; None where nothing is."""
    parts = []
    if summary.validated is False:
        parts.append(validation_failure(run, summary))
    failed = run.records.where(~run.records.is_scored)
    if len(failed):
        parts.append(
            f"{len(failed)} of {run.manifest.to_answer} questions failed, the first {first_failure(failed)}"
        )
    return FlawedRunError("; ".join(parts)) if parts else None
