"""Text from elsewhere, folded into one line: what a log line, an error or an answer takes."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Its words, a blank between any two."""
    return " ".join(str(text).split())


def reason_of(error: BaseException) -> str:
    """Its text in one line, or its class where it has none."""
    return one_line(error) or type(error).__name__
