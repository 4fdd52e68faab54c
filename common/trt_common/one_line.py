"""Text from elsewhere in one line, as an error message, a log line or an answer holds it."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Return its words with one blank between any two."""
    return " ".join(str(text).split())


def reason_of(error: BaseException) -> str:
    """Return an error's text in one line, or the name of its class where it has none."""
    return one_line(error) or type(error).__name__


def first_line_of(error: BaseException) -> str:
    """Return the first line of an error's text, without a full stop, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def cannot_read(error: OSError) -> str:
    """Say which file cannot be read, and why."""
    return f"cannot read {error.filename}: {error.strerror}"
