"""The values that flags of both programs take, as argparse types.

Each raises ArgumentTypeError with what is wrong.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

# What 32 bits with a sign hold.
MOST = 2**31 - 1
# What a pseudo-random generator is seeded with at most.
MOST_SEED = 2**128 - 1
# The least and the most seconds that are waited for: a millisecond, and thirty years.
LEAST_SECONDS, MOST_SECONDS = 1e-3, 1e9
# Characters of a value, where an error quotes it.
MOST_QUOTED = 50


def quoted(text: str) -> str:
    """Return a value as errors quote it: its beginning, where it is long."""
    return repr(text) if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]!r}…"


def whole(least: int, most: int = MOST, what: str | None = None) -> Callable[[str], int]:
    """Return the reader of whole numbers.

    Args:
        least: the smallest one that is taken.
        most: the largest one.
        what: says in words what is taken; by default `a whole number from LEAST`.
    """
    what = what or f"a whole number from {least}"

    def read(text: str) -> int:
        digits = text.strip()
        is_whole = digits.isascii() and digits.isdigit()
        digits = digits.lstrip("0") or "0"
        if is_whole and len(digits) <= len(str(most)):
            if least <= (found := int(digits)) <= most:
                return found
            is_whole = found >= least
        limit = f" to {most}" if is_whole and str(most) not in what else ""
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not {what}{limit}")

    return read


def number(what: str, *, least: float = 0.0, most: float) -> Callable[[str], float]:
    """Return the reader of numbers.

    Args:
        what: says in words what is taken.
        least: the smallest one that is taken.
        most: what they have to be below.
    """

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found < most:
            bound = f", below {most:g}" if most <= found < math.inf else ""
            bound = f", from {least:g}" if 0 < found < least else bound
            raise argparse.ArgumentTypeError(f"{quoted(text)} is not {what}{bound}")
        return found

    return read


natural = whole(0)
count = whole(1)
# 0 stands for a free one.
port = whole(0, 65535, "a port, 0 to 65535")
seed = whole(0, MOST_SEED)
seconds = number("a number of seconds such as 60", most=MOST_SECONDS)
positive_seconds = number("a number of seconds above 0", least=LEAST_SECONDS, most=MOST_SECONDS)
days = number("a number of days such as 30", most=1e5)
milliseconds = number("a number of milliseconds above 0", least=1e-6, most=1e12)
flops = number("a number of FLOP/s above 0, like 312e12", least=1.0, most=4e18)
