"""The dense peak rates of NVIDIA devices, from their datasheets, by the name that the driver gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trt_server.devices.peak import PeakFlops


@dataclass(frozen=True)
class Datasheet:
    """Peak rates of one device in FLOP/s, without sparsity.

    Attributes:
        fp16: Of the tensor cores, with fp32 accumulation.
        tf32: Of the tensor cores.
        fp32: Of the CUDA cores.
        source: The document that has the numbers.
    """

    fp16: float
    tf32: float
    fp32: float
    source: str


# The datasheet of a device is that of the longest name that its own begins with: PCIe cards are slower than
# SXM ones.
_A100 = Datasheet(312e12, 156e12, 19.5e12, "NVIDIA A100 datasheet")
_DATASHEETS = {
    "NVIDIA A100": _A100,
    "A100": _A100,
    "NVIDIA A800": _A100,
    "NVIDIA A30": Datasheet(165e12, 82e12, 10.3e12, "NVIDIA A30 datasheet"),
    "NVIDIA A10": Datasheet(125e12, 62.5e12, 31.2e12, "NVIDIA A10 datasheet"),
    "NVIDIA A10G": Datasheet(70e12, 35e12, 31.5e12, "NVIDIA A10G specifications, AWS G5"),
    "NVIDIA A40": Datasheet(149.7e12, 74.8e12, 37.4e12, "NVIDIA A40 datasheet"),
    "NVIDIA L4": Datasheet(121e12, 60e12, 30.3e12, "NVIDIA L4 datasheet, half of the sparse rates it prints"),
    "NVIDIA L40": Datasheet(181.05e12, 90.5e12, 90.5e12, "NVIDIA L40 datasheet"),
    "NVIDIA L40S": Datasheet(362.05e12, 183e12, 91.6e12, "NVIDIA L40S datasheet"),
    "NVIDIA H100": Datasheet(989.4e12, 494.7e12, 66.9e12, "NVIDIA H100 datasheet, SXM5"),
    "NVIDIA H100 PCIe": Datasheet(756e12, 378e12, 51.2e12, "NVIDIA H100 datasheet, PCIe"),
    "NVIDIA H100 NVL": Datasheet(835.5e12, 417.5e12, 60e12, "NVIDIA H100 NVL datasheet"),
    "NVIDIA H200": Datasheet(989.4e12, 494.7e12, 66.9e12, "NVIDIA H200 datasheet, SXM5"),
    "NVIDIA H200 NVL": Datasheet(835.5e12, 417.5e12, 60e12, "NVIDIA H200 NVL datasheet"),
    "Tesla V100": Datasheet(125e12, 15.7e12, 15.7e12, "NVIDIA V100 datasheet, SXM2; it has no TF32"),
    "Tesla T4": Datasheet(65e12, 8.1e12, 8.1e12, "NVIDIA T4 datasheet; it has no TF32"),
}


def datasheet_peak(device_name: str, precision: str, tf32: bool = False) -> PeakFlops | None:
    """Return the peak of a device, or None where it is not in the table.

    Args:
        device_name: As the driver gives it.
        precision: "fp16" or "fp32".
        tf32: Whether products in fp32 run on the tensor cores.
    """
    names = [name for name in _DATASHEETS if re.match(rf"{re.escape(name)}\b", device_name)]
    if not names:
        return None
    sheet = _DATASHEETS[max(names, key=len)]
    if precision == "fp16":
        return PeakFlops(sheet.fp16, f"{sheet.source}, dense fp16")
    if tf32:
        return PeakFlops(sheet.tf32, f"{sheet.source}, dense TF32")
    return PeakFlops(sheet.fp32, f"{sheet.source}, fp32")
