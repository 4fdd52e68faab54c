"""The values that flags take, as argparse types: each raises ArgumentTypeError with what is wrong."""

from __future__ import annotations

import argparse
import math

from mmlu_client.prompts.limit import MODEL, RequestedLimit
from mmlu_client.service.stages import Slo

SWEPT = ("concurrency", "request-rate")


def natural(value: str) -> int:
    """Read a whole number from 0."""
    number = int(value) if value.strip().isascii() and value.strip().isdigit() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 0")
    return number


def count(value: str) -> int:
    """Read a whole number from 1."""
    try:
        number = natural(value)
    except argparse.ArgumentTypeError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 1")
    return number


def prompt_tokens(value: str) -> RequestedLimit:
    """Read a number of tokens from 1, or `model`."""
    try:
        return MODEL if value.strip() == MODEL else count(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor `{MODEL}`") from None


def port(value: str) -> int:
    """Read a port; 0 stands for a free one."""
    number = natural(value)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{value!r} is not a port, 0 to 65535")
    return number


def seconds(value: str) -> float:
    """Read a number of seconds from 0."""
    return _number(value, 0, math.inf, "a number of seconds")


def positive_seconds(value: str) -> float:
    """Read a number of seconds above 0."""
    return _number(value, 0, math.inf, "a number of seconds above 0", above=True)


def rate(value: str) -> float:
    """Read a number of requests a second, above 0."""
    return _number(value, 0, math.inf, "a number of requests a second above 0", above=True)


def flops(value: str) -> float:
    """Read a number of floating-point operations a second, above 0."""
    return _number(value, 0, math.inf, "a number of FLOP/s above 0, like 312e12", above=True)


def share(value: str) -> float:
    """Read the width of an interval of shares, between 0 and 1, neither included."""
    return _number(value, 0, 1, "a width between 0 and 1, like 0.02", above=True)


def slo(value: str) -> Slo:
    """Read a service level objective, such as `latency:200`, which is in milliseconds."""
    try:
        return Slo.parse(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def label(value: str) -> tuple[str, str]:
    """Read a label, such as `model=llama-2-7b`, and return its name and its value."""
    name, equals, text = value.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=VALUE")
    return name.strip(), text.strip()


def sweep(value: str) -> tuple[str, tuple[float, ...]]:
    """Read a sweep, such as `concurrency=1,2,4`, and return the name of the flag and its values."""
    name, _, values = value.partition("=")
    if name not in SWEPT or not values:
        raise argparse.ArgumentTypeError(f"{value!r} is not like concurrency=1,2,4 or request-rate=5,10")
    parse = count if name == "concurrency" else rate
    loads = tuple(parse(each) for each in values.split(","))
    if len(set(loads)) < len(loads):
        raise argparse.ArgumentTypeError(f"{value!r} names a load twice")
    return name, loads


def _number(value: str, least: float, most: float, what: str, *, above: bool = False) -> float:
    """Read a number below `most` and from `least`, or with `above` above it; `what` says so in words."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not least <= number < most or (above and number == least):
        raise argparse.ArgumentTypeError(f"{value!r} is not {what}")
    return number
