"""The stages of a request on the server."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Stages:
    """Nanoseconds that one request spent in each stage, in the order in which they happen.

    The contract's Timing and the stages of the metrics have these names, and the total.
    """

    tokenize_ns: int
    queue_ns: int
    assemble_ns: int
    copy_in_ns: int
    core_ns: int
    copy_out_ns: int


STAGE_NAMES = tuple(field.name.removesuffix("_ns") for field in fields(Stages))
