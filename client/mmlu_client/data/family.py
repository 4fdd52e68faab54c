"""The benchmarks that are known by name: which of their splits are shots, and which are asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A benchmark that is known by name.

    Attributes:
        name: what the manifest calls it.
        title: what its authors call it.
        shots: the split whose questions are shots.
        asked: the split whose questions are asked.
        note: what a reader has to know of the split that is asked; empty: nothing.
    """

    name: str
    title: str
    shots: str
    asked: str
    note: str = ""


MMLU = Family("mmlu", "MMLU", "dev", "test")
# Li et al. 2023, arXiv:2306.09212.
CMMLU = Family("cmmlu", "CMMLU", "dev", "test")
# Huang et al. 2023, arXiv:2305.08322.
CEVAL = Family(
    "ceval",
    "C-Eval",
    shots="dev",
    asked="val",
    note="C-Eval's test split is published without answers: its val split is asked",
)
# Wang et al. 2024, arXiv:2406.01574.
MMLU_PRO = Family("mmlu-pro", "MMLU-Pro", "validation", "test")

FAMILIES = {family.name: family for family in (MMLU, CMMLU, CEVAL, MMLU_PRO)}
