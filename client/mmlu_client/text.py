"""Figures in the form that people read; `/` stands for what was not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy(share: float | None, notice: str, mark: str = "") -> str:
    """Return a share with three decimals, labelled with the model's notice.

    Args:
        share: The share of questions, or None.
        notice: What a reader has to know of the model; empty: nothing.
        mark: Refers to a line below that explains the figure.
    """
    if share is None:
        return "/"
    return labelled(f"{share:.3f}{mark}", notice)


def labelled(text: str, notice: str) -> str:
    """Return the text with the first words of the notice, where the model has one."""
    short = notice.partition(":")[0].strip()
    return f"{text} ({short})" if short else text


def shown(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and whether there are more."""
    return f"{', '.join(names[:most])}{' and others' if len(names) > most else ''}"


def number(value: float | None, form: str) -> str:
    """Return the number in this format."""
    return "/" if value is None else format(value, form)


def shortest(value: float) -> str:
    """Return the fewest digits that name this number and no other: 5, 0.25, 1000001."""
    return np.format_float_positional(value, trim="-")


def significant(value: float | None, digits: int) -> str:
    """Return the number with this many significant digits, in full: 0.0000076, 24, 2,773.

    All digits before the decimal point are kept.
    """
    if value is None:
        return "/"
    if not value:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact(value: Any) -> str:
    """Return a figure of any type, a number with enough digits to tell two runs apart."""
    if isinstance(value, float):
        return significant(value, 5)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "/" if value is None else str(value)


def p_value(value: float) -> str:
    """Return `p = 0.625`, or `p < 0.0001`, below which the size tells nothing."""
    return "p < 0.0001" if value < 0.0001 else f"p = {significant(value, 3)}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return number(share, ".1%")


def teraflops(flops: float | None) -> str:
    """Return a rate in FLOP/s as TFLOP/s."""
    return significant(None if flops is None else flops / 1e12, 4)


def bottleneck(found: bool | None) -> str:
    """Return whether the client limited a run."""
    return {True: "bottleneck", False: "kept up", None: "/"}[found]


def milliseconds(seconds: float | None) -> str:
    """Return a time in seconds as milliseconds."""
    return "/" if seconds is None else f"{seconds * 1e3:,.1f} ms"


def memory(used: float | None, total: float | None) -> str:
    """Return used and total memory in the unit they are given in."""
    if used is None:
        return "/"
    return f"{used:.1f}" if total is None else f"{used:.1f}/{total:.1f}"
