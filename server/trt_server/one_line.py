"""Text from elsewhere, folded into one line: what a log line, an error or an answer takes."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Its words, a blank between any two."""
    return " ".join(str(text).split())
