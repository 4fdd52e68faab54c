"""The values that flags of the server alone take, as argparse types.

Each raises ArgumentTypeError with what is wrong.
"""

from __future__ import annotations

import argparse
import re


def devices(text: str) -> tuple[int, ...]:
    """Read GPUs by CUDA's numbers, separated by commas."""
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPUs by number such as 0,1")
    found = tuple(map(int, numbers))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a device twice: name each once")
    return found


def targets(text: str) -> tuple[str, ...]:
    """Read compute capabilities of GPUs, such as `sm80,sm89`."""
    names = text.lower().split(",")
    if not all(re.fullmatch(r"sm\d{2,3}", name, re.ASCII) for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of compute capabilities such as sm80,sm89")
    return tuple(dict.fromkeys(names))


def byte_count(text: str) -> int:
    """Read a number of bytes, with a unit such as MB (10^6) or MiB (2^20) or without."""
    match = re.fullmatch(r"(\d+)\s*(?:([KMGT])(i?)B?|B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 500MB or 2GiB")
    power = " KMGT".index((match[2] or " ").upper())
    unit = 1024 if match[3] else 1000
    return int(match[1]) * int(unit**power)
