"""How far apart the log-probabilities of two right engines may be, by what they compute in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmlu_client.figures.accuracy import Agreement
from mmlu_client.service.model import ServedModel


@dataclass(frozen=True)
class Tolerance:
    """How far apart the log-probabilities of two right engines may be, in nats.

    The median tells a wrong engine from a prompt that is hard to compute: on text unlike what it was trained
    on, a model makes single prompts a hundred times as sensitive to rounding as its usual ones.

    Attributes:
        largest: over the questions, of the largest of their letters' differences.
        median: the median of the same.
        why: what was seen (docs/measurements/2026-11-27-precisions.md); two engines may be off in opposite
            directions, and more prompts have worse ones among them.
    """

    largest: float
    median: float
    why: str

    def holds(self, found: Agreement) -> bool | None:
        """Tell whether the engines are near enough; None where there is no question to compare."""
        if found.largest_difference is None or found.median_difference is None:
            return None
        return found.largest_difference <= self.largest and found.median_difference <= self.median


TOLERANCES = {
    "fp32": Tolerance(0.1, 1e-3, "one of 14,037 prompts 4.8e-2 from fp64, half of them under 2e-5"),
    "tf32": Tolerance(5.0, 0.1, "of 735 prompts one 2.0 from fp64; medians of 0.007 and 0.026"),
    "fp16": Tolerance(10.0, 0.2, "of 735 prompts one 3.1 from fp64; medians of 0.015 and 0.082"),
    "bf16": Tolerance(30.0, 1.0, "of 735 prompts one 14 from fp64; medians of 0.12 and 0.48"),
}


def precisions(model: ServedModel) -> tuple[str, ...]:
    """Return what the engine computes in, and the reference where there is one."""
    engines = (model.engine, model.reference)
    return tuple(engine.precision for engine in engines if engine is not None)


def tolerance_of(precisions: Iterable[str]) -> Tolerance:
    """Choose the tolerance of engines that compute in these precisions: the coarsest one's.

    A precision that is not known counts as the coarsest.
    """
    coarsest = max(TOLERANCES.values(), key=lambda each: each.median)
    return max((TOLERANCES.get(each, coarsest) for each in precisions), key=lambda each: each.median)
