"""The values that flags of both programs take, as argparse types.

Each raises ArgumentTypeError with what is wrong.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

# What 32 bits with a sign hold.
MOST = 2**31 - 1


def whole(least: int, most: int | None = MOST, what: str | None = None) -> Callable[[str], int]:
    """Return the reader of whole numbers.

    Args:
        least: the smallest one that is taken.
        most: the largest one; None: any.
        what: says in words what is taken; by default `a whole number from LEAST`.
    """
    what = what or f"a whole number from {least}"

    def read(text: str) -> int:
        digits = text.strip()
        is_whole = digits.isascii() and digits.isdigit()
        if not is_whole or int(digits) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        if most is not None and int(digits) > most:
            limit = "" if str(most) in what else f" to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}{limit}")
        return int(digits)

    return read


def number(
    what: str, *, least: float = 0.0, most: float = math.inf, above: bool = False
) -> Callable[[str], float]:
    """Return the reader of numbers.

    Args:
        what: says in words what is taken.
        least: the smallest one that is taken, or with `above` what they have to be above.
        most: what they have to be below.
        above: whether `least` itself is refused.
    """

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found < most or (above and found == least):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return found

    return read


natural = whole(0)
count = whole(1)
# 0 stands for a free one.
port = whole(0, 65535, "a port, 0 to 65535")
seed = whole(0, None)
seconds = number("a number of seconds such as 60")
positive_seconds = number("a number of seconds above 0", above=True)
days = number("a number of days such as 30")
milliseconds = number("a number of milliseconds above 0", above=True)
flops = number("a number of FLOP/s above 0, like 312e12", above=True)
