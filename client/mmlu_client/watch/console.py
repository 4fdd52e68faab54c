"""What a run and a campaign share on stderr: its console, its bars, its lines, and when one is due."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from trt_common.one_line import printable

# Lines in logs are a tenth of the questions apart, but at least and at most this far in time.
LEAST_SECONDS, MOST_SECONDS = 10.0, 60.0


def open_console() -> Console:
    """Return a console on stderr."""
    return Console(stderr=True, highlight=False)


def can_draw_bars(console: Console) -> bool:
    """Return whether rich draws on this console.

    It does not on a terminal that cannot move its cursor, or reports a width of 0.
    """
    return console.is_terminal and not console.is_dumb_terminal and console.width > 0


def make_bars(console: Console, refresh_per_second: float) -> Progress:
    """Return bars that are removed at their end; each has a description, and a field `figures` behind it.

    Args:
        console: Where they are drawn.
        refresh_per_second: How often they are drawn again.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
        refresh_per_second=refresh_per_second,
    )


def print_above_bars(console: Console, text: str) -> None:
    """Print a line above the bars that are drawn on this console."""
    # Lines are broken only between words, so that a path can be copied.
    console.print(printable(f"mmlu-client: {text}"), markup=False, overflow="ignore", crop=False)


def print_line(console: Console, text: str) -> None:
    """Print a line on a console without bars."""
    print(printable(f"mmlu-client: {text}"), file=console.file, flush=True)


def is_time_for_line(waited: float, done: int, questions: int) -> bool:
    """Return whether a log has a line on the progress.

    Args:
        waited: The seconds since the last line.
        done: The questions that were answered since then.
        questions: How many there are in all.
    """
    if not done:
        return False
    return (waited >= LEAST_SECONDS and done >= questions / 10) or waited >= MOST_SECONDS
