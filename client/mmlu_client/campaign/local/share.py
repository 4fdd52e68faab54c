"""A share of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Share:
    """The cores and GPUs that a server and its client may use.

    Attributes:
        name: what logs and states call it.
        cores: the numbers of the cores; None: any.
        gpus: the names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; None: any.
    """

    name: str
    cores: Sequence[int] | None = None
    gpus: Sequence[str] | None = None

    def cut(self, cpus: int | None) -> Share:
        """Return the share with so many of its cores; None: with all."""
        return self if cpus is None or self.cores is None else replace(self, cores=self.cores[:cpus])
