"""Flags that are for another engine, refused by those that would not obey them."""

from __future__ import annotations

from trt_server.errors import StartError
from trt_server.settings import Settings


def refuse_devices(ordinals: tuple[int, ...] | None, why: str) -> None:
    """Refuse --devices, for an engine that computes on no GPU.

    Args:
        ordinals: The flag's value; None: it was not given.
        why: Why there is no GPU to name, to follow a comma.

    Raises:
        StartError: It was given.
    """
    if ordinals is not None:
        raise StartError(
            f"--devices names GPUs, and {why}: leave it off, or start a server on each share of the cores "
            "(taskset) and give mmlu-client all their addresses"
        )


def refuse_tf32(settings: Settings) -> None:
    """Refuse --tf32, for an engine that has no such products.

    Raises:
        StartError: It was given.
    """
    if settings.tf32:
        raise StartError("--tf32 is for the tensorrt engine on an NVIDIA GPU: leave it off")
