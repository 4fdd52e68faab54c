"""A GPU that CUDA shows, and those of them that `--devices` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_server.devices.device import Device
from trt_server.devices.nvml import gpu_device
from trt_server.errors import StartError


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA shows.

    Attributes:
        name: The name that the driver gives to its kind.
        pci_bus_id: Its PCI bus id, as NVML spells it; None: not known.
        ordinal: CUDA's number of it.
    """

    name: str
    pci_bus_id: str | None
    ordinal: int = 0

    def device(self) -> Device:
        """Return it as a device, with readings where NVML is there."""
        return gpu_device(self.name, self.pci_bus_id, self.ordinal)


def named_gpus(gpus: Sequence[Gpu], ordinals: tuple[int, ...] | None) -> tuple[Gpu, ...]:
    """Return the GPUs that --devices names, or the first GPU where it was not given.

    Args:
        gpus: All that CUDA shows.
        ordinals: CUDA's numbers of some; None: the flag was not given.

    Raises:
        StartError: A GPU is not there, or they are of different kinds.
    """
    shown = {gpu.ordinal: gpu for gpu in gpus}
    for ordinal in ordinals or ():
        if ordinal not in shown:
            there = ", ".join(f"{gpu.ordinal} ({gpu.name})" for gpu in gpus)
            raise StartError(f"--devices: there is no device {ordinal}; CUDA shows {there}")
    named = tuple(shown[ordinal] for ordinal in ordinals or (0,))
    for gpu in named[1:]:
        if gpu.name != named[0].name:
            first, other = (f"{each.ordinal} ({each.name})" for each in (named[0], gpu))
            raise StartError(
                f"--devices: {first} and {other} are not alike, and devices behind one queue share a plan "
                "and a peak: start a server for each kind"
            )
    return named
