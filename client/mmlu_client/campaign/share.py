"""A share of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """These are the cores and GPUs that a server and its client may use.

    Attributes:
        name: what logs and states call it.
        cores: the numbers of the cores; None: any.
        gpus: the names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; None: any.
    """

    name: str
    cores: Sequence[int] | None = None
    gpus: Sequence[str] | None = None
