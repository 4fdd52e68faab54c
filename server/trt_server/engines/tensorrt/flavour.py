"""Which TensorRT is installed: the one for all of NVIDIA's GPUs, or that for RTX cards, with the same API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Flavour:
    """module: as Python imports it, and the engine's name. title: in messages. extra: of this project, that
    installs it."""

    module: str
    title: str
    extra: str

    @property
    def is_installed(self) -> bool:
        spec = find_spec(self.module)
        # A folder of that name, as an uninstalled package leaves it, has no origin.
        return spec is not None and spec.origin is not None

    def why_not(self, version: str) -> str | None:
        """What is wrong with this version of it; None where nothing is known to be."""
        if self is TENSORRT_RTX or not (10, 0) <= version_numbers(version) < (10, 8):
            return None
        return (
            f"TensorRT {version} is known to answer wrongly (10.0 in fp16 attention, all before 10.8 with "
            "several profiles, by NVIDIA's release notes); pip install 'tensorrt>=10.14,<12'"
        )


TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt")
TENSORRT_RTX = Flavour("tensorrt_rtx", "TensorRT-RTX", "rtx")


def version_numbers(version: str) -> tuple[int, ...]:
    """The first two, which tell what it can do."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def installed_flavour() -> Flavour | None:
    """TensorRT where it is installed, else TensorRT-RTX; None where neither is. Imports nothing."""
    return next((flavour for flavour in (TENSORRT, TENSORRT_RTX) if flavour.is_installed), None)
