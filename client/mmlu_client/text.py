"""Figures as a person reads them; `/` where a thing was not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy(share: float | None, notice: str, mark: str = "") -> str:
    """A share, never without what its reader has to know of the model. mark: of a line that explains it."""
    if share is None:
        return "/"
    return labelled(f"{share:.3f}{mark}", notice)


def labelled(text: str, notice: str) -> str:
    """With the notice's first words, where the model has one."""
    short = notice.partition(":")[0].strip()
    return f"{text} ({short})" if short else text


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first of them, and whether there are more."""
    return f"{', '.join(names[:most])}{' and others' if len(names) > most else ''}"


def number(value: float | None, form: str) -> str:
    return "/" if value is None else format(value, form)


def shortest(value: float) -> str:
    """The fewest digits that name this number and no other: 5, 0.25, 1000001."""
    return np.format_float_positional(value, trim="-")


def significant(value: float | None, digits: int) -> str:
    """So many digits that count, written out: 0.0000076, 24, 2,773. Digits before the point are all kept."""
    if value is None:
        return "/"
    if not value:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(value: Any) -> str:
    """A figure of any kind, a number with as many digits as tell two runs apart."""
    if isinstance(value, float):
        return significant(value, 5)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "/" if value is None else str(value)


def p_value(value: float) -> str:
    """`p = 0.625`, `p < 0.0001`: how small it is beyond that tells nothing."""
    return "p < 0.0001" if value < 0.0001 else f"p = {significant(value, 3)}"


def percent(share: float | None) -> str:
    return number(share, ".1%")


def teraflops(flops: float | None) -> str:
    """FLOP/s in TFLOP/s."""
    return significant(None if flops is None else flops / 1e12, 4)


def bottleneck(found: bool | None) -> str:
    """Whether the client was what kept a run back."""
    return {True: "bottleneck", False: "kept up", None: "/"}[found]


def milliseconds(seconds: float | None) -> str:
    return "/" if seconds is None else f"{seconds * 1e3:,.1f} ms"


def memory(used: float | None, total: float | None) -> str:
    if used is None:
        return "/"
    return f"{used:.1f}" if total is None else f"{used:.1f}/{total:.1f}"
