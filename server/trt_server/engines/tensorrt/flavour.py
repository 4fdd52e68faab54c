"""The TensorRT that is installed: TensorRT itself, or TensorRT-RTX with the same API for RTX cards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        module: The name that Python imports it by, which is also the engine's name.
        title: Its name in messages.
        extra: This project's optional dependency that installs it.
    """

    module: str
    title: str
    extra: str

    @property
    def is_installed(self) -> bool:
        """Whether this Python can import it."""
        spec = find_spec(self.module)
        # An uninstalled package may leave an empty folder behind, which has no origin.
        return spec is not None and spec.origin is not None

    def why_not(self, version: str) -> str | None:
        """Return why this version must not be used; None where nothing is known against it."""
        if self is TENSORRT_RTX or not (10, 0) <= version_numbers(version) < (10, 8):
            return None
        return (
            f"TensorRT {version} is known to answer wrongly (10.0 in fp16 attention, all before 10.8 with "
            "several profiles, by NVIDIA's release notes); pip install 'tensorrt>=10.14,<12'"
        )


TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt")
TENSORRT_RTX = Flavour("tensorrt_rtx", "TensorRT-RTX", "rtx")


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the major and minor number of a version."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def installed_flavour() -> Flavour | None:
    """Return TensorRT where it is installed, else TensorRT-RTX, else None; neither is imported."""
    return next((flavour for flavour in (TENSORRT, TENSORRT_RTX) if flavour.is_installed), None)
