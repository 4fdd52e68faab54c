"""Text from elsewhere in one line, as an error message, a log line or an answer holds it."""

from __future__ import annotations

import re

ELLIPSIS = " … "

# What moves the cursor, colours the screen, or shows a text in another order than it has: C0 but for line
# feed and tab, C1, the separators of lines and paragraphs, and the controls of Unicode's bidi algorithm.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """Return a text without control characters, which stand in it as escapes; its lines stay."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: object) -> str:
    """Return its words with one blank between any two, and no control characters."""
    return printable(" ".join(str(text).split()))


def shortened(text: str, most_bytes: int) -> str:
    """Return a text of at most so many bytes in UTF-8, with an ellipsis in the place of its middle.

    What UTF-8 has no bytes for becomes an escape.
    """
    content = text.encode("utf-8", "backslashreplace")
    if len(content) <= most_bytes:
        return content.decode()
    kept = most_bytes - len(ELLIPSIS.encode())
    head, tail = content[: kept - kept // 3], content[len(content) - kept // 3 :]
    return head.decode(errors="ignore") + ELLIPSIS + tail.decode(errors="ignore")


def reason_of(error: BaseException) -> str:
    """Return an error's text in one line, or the name of its class where it has none."""
    return one_line(error) or type(error).__name__


def first_line_of(error: BaseException) -> str:
    """Return the first line of an error's text, without a full stop, or the name of its class."""
    lines = str(error).strip().splitlines()
    return printable(lines[0].rstrip(".")) if lines else type(error).__name__


def cannot_read(error: OSError) -> str:
    """Say which file cannot be read, and why."""
    return f"cannot read {error.filename}: {error.strerror}"
