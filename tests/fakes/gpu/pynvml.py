"""Stands in for NVML on a card that has no energy counter, in a container with process numbers of its own."""

from __future__ import annotations

from types import SimpleNamespace

from fake_gpu import WISHES

NVML_TEMPERATURE_GPU = 0
NVML_CLOCK_SM = 1
NVML_CLOCK_MEM = 2


class NVMLError(Exception):
    pass


def nvmlInit() -> None:  # noqa: N802
    pass


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return 2


def nvmlDeviceGetHandleByIndex(index: int) -> str:  # noqa: N802
    return ("first", "second")[index]


def nvmlDeviceGetHandleByPciBusId(address: str) -> str:  # noqa: N802
    return {"0000:00:1E.0": "first", "0000:00:1F.0": "second"}[address]


def nvmlDeviceGetHandleByUUID(uuid: str) -> str:  # noqa: N802
    try:
        return {"GPU-1111-first": "first", "GPU-2222-second": "second"}[uuid]
    except KeyError:
        raise NVMLError("Not Found") from None


def nvmlDeviceGetUUID(handle: str) -> str:  # noqa: N802
    return {"first": "GPU-1111-first", "second": "GPU-2222-second"}[handle]


def nvmlDeviceGetName(handle: str) -> str:  # noqa: N802
    return WISHES.name if handle == "first" else f"{WISHES.name} ({handle})"


def nvmlDeviceGetMemoryInfo(_: str) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(total=WISHES.memory, used=3 * 1024**3 if WISHES.memory > 3 * 1024**3 else 0)


def nvmlDeviceGetComputeRunningProcesses(_: str) -> list[SimpleNamespace]:  # noqa: N802
    return [SimpleNamespace(pid=4_000_000, usedGpuMemory=2 * 1024**3)]


def nvmlDeviceGetPowerUsage(_: str) -> int:  # noqa: N802
    return 250_500


def nvmlDeviceGetTotalEnergyConsumption(_: str) -> int:  # noqa: N802
    raise NVMLError("Not Supported")


def nvmlDeviceGetTemperature(_: str, __: int) -> int:  # noqa: N802
    return 61


def nvmlDeviceGetClockInfo(_: str, kind: int) -> int:  # noqa: N802
    return {NVML_CLOCK_SM: 1410, NVML_CLOCK_MEM: 1593}[kind]
