"""The values that flags of both programs take, and what is said of others."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest
from trt_common.command_line import values

READ = {
    "a whole number": (values.count, "1", 1),
    "blanks around it": (values.natural, " 0 ", 0),
    "the largest": (values.count, "2147483647", 2**31 - 1),
    "the last port": (values.port, "65535", 65535),
    "a large seed": (values.seed, "18446744073709551616", 2**64),
    "noughts before it": (values.count, "0" * 5000 + "7", 7),
    "seconds": (values.seconds, "0", 0.0),
    "an exponent": (values.flops, "312e12", 312e12),
    "a part of a day": (values.days, "0.5", 0.5),
}
REFUSED = {
    "too small": (values.count, "0", "'0' is not a whole number from 1"),
    "a sign": (values.natural, "-1", "'-1' is not a whole number from 0"),
    "a part": (values.count, "1.5", "'1.5' is not a whole number from 1"),
    "no digit of ASCII": (values.natural, "²", "'²' is not a whole number from 0"),
    "too large": (values.count, "2147483648", "'2147483648' is not a whole number from 1 to 2147483647"),
    "no port": (values.port, "65536", "'65536' is not a port, 0 to 65535"),
    "no number": (values.seconds, "nan", "'nan' is not a number of seconds such as 60"),
    "without end": (values.seconds, "inf", "'inf' is not a number of seconds such as 60"),
    "not above": (values.positive_seconds, "0", "'0' is not a number of seconds above 0"),
    "thousands of digits": (
        values.natural,
        "9" * 5000,
        f"'{'9' * 50}'… is not a whole number from 0 to 2147483647",
    ),
    "a text of any length": (values.count, "x" * 5000, f"'{'x' * 50}'… is not a whole number from 1"),
    "too large a seed": (
        values.seed,
        str(2**128),
        f"'{2**128}' is not a whole number from 0 to {2**128 - 1}",
    ),
    "hardly above": (
        values.positive_seconds,
        "1e-300",
        "'1e-300' is not a number of seconds above 0, from 0.001",
    ),
    "for ever": (values.seconds, "1e300", "'1e300' is not a number of seconds such as 60, below 1e+09"),
    "in the past": (values.days, "-1", "'-1' is not a number of days such as 30"),
    "words": (values.flops, "much", "'much' is not a number of FLOP/s above 0, like 312e12"),
}


@pytest.mark.parametrize(("read", "text", "value"), READ.values(), ids=READ)
def test_read(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(read: Callable[[str], float], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read(text)
    assert str(refused.value) == message
