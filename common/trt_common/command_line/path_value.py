"""The paths that flags take, as an argparse type."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from trt_common.one_line import shortened

# What Linux and macOS take, less the byte that ends a path.
MOST_PATH_BYTES = 4095
MOST_NAME_BYTES = 255
# Of a path, where an error names it.
MOST_SHOWN_BYTES = 120


def path(text: str) -> Path:
    """Read the path of a file or folder, which need not be there; `~` stands for the home folder.

    Raises:
        ArgumentTypeError: No file can have it.
    """
    if (why := why_no_path(text)) is not None:
        raise argparse.ArgumentTypeError(f"{shortened(repr(text), MOST_SHOWN_BYTES)} is no path: {why}")
    return Path(text).expanduser()


def why_no_path(text: str) -> str | None:
    """Return why no file can have this path; None where one can."""
    if not text:
        return "it is empty"
    if "\0" in text:
        return "it holds a null character"
    try:
        content = os.fsencode(Path(text).expanduser())
    except RuntimeError:
        return "the home folder that it begins with is not known"
    except UnicodeEncodeError:
        return "it holds characters that no name of a file can have"
    longest = max(map(len, content.split(b"/")))
    if longest > MOST_NAME_BYTES:
        return f"a name in it has {longest} bytes, and {MOST_NAME_BYTES} are the most"
    if len(content) > MOST_PATH_BYTES:
        return f"it has {len(content)} bytes, and {MOST_PATH_BYTES} are the most"
    return None
