"""The memory that a start needs on its devices, checked against what they have before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from trt_common.model.geometry import Geometry

from trt_server.devices.device import Device
from trt_server.devices.memory import device_memory
from trt_server.engines.chosen import EngineChoice
from trt_server.errors import StartError
from trt_server.model.precision import item_bytes
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Need:
    """Memory that is needed on a device.

    Attributes:
        device: Where.
        size: In bytes.
        what: What it is for, in words.
        grows: It is taken as requests come, and no more than is left.
    """

    device: Device
    size: int
    what: str
    grows: bool = False


def check_memory(
    geometry: Geometry, prefix_bytes: int, choice: EngineChoice, reference: EngineChoice | None
) -> None:
    """Log the memory that the engines need, and refuse what does not fit. Activations come on top.

    Args:
        geometry: The model's.
        prefix_bytes: Bytes that shared prefixes may take on each device of the compiled engine.
        choice: The compiled engine.
        reference: The reference, where one is asked for.

    Raises:
        StartError: It does not fit into a device.
    """
    item = item_bytes(choice.precision)
    log.info(
        "needs %s for weights and up to %s for shared prefixes (%s a token) on the device",
        readable_bytes(geometry.total_parameters * item),
        readable_bytes(prefix_bytes),
        readable_bytes(2 * geometry.layers * geometry.key_value_size * item),
    )
    needs = list(_needs(geometry, prefix_bytes, choice, reference))
    for device in {need.device.label: need.device for need in needs}.values():
        _check_device(device, [need for need in needs if need.device.label == device.label])


def _needs(
    geometry: Geometry, prefix_bytes: int, choice: EngineChoice, reference: EngineChoice | None
) -> Iterator[_Need]:
    for device in choice.devices:
        yield _weights(geometry, choice, device, "weights")
        if prefix_bytes:
            yield _Need(device, prefix_bytes, "--prefix-cache-bytes", grows=True)
    if reference is not None:
        yield _weights(geometry, reference, reference.devices[0], "the reference's weights")


def _weights(geometry: Geometry, choice: EngineChoice, device: Device, what: str) -> _Need:
    size = geometry.total_parameters * item_bytes(choice.precision)
    return _Need(device, size, f"{what} in {choice.precision}")


def _check_device(device: Device, needs: list[_Need]) -> None:
    memory = device_memory(device)
    if memory is None:
        return
    total, free = readable_bytes(memory.total), readable_bytes(memory.free)
    at_start = [need for need in needs if not need.grows]
    remedy = "take a smaller model or a machine with more"
    if len(at_start) > 1:
        remedy += ", or leave --reference off"
    if _sum(at_start) <= memory.total < _sum(needs):
        remedy = f"lower --prefix-cache-bytes, {remedy}"
    if _sum(needs) > memory.total:
        raise StartError(
            f"{_in_words(needs)} do not fit into the {total} of memory of {device.name}: {remedy}"
        )
    if _sum(at_start) > memory.free:
        raise StartError(
            f"{_in_words(at_start)} do not fit into the memory of {device.name}, of whose {total} now {free} "
            f"are free: stop what else runs there, {remedy}"
        )


def _sum(needs: list[_Need]) -> int:
    return sum(need.size for need in needs)


def _in_words(needs: list[_Need]) -> str:
    return " and ".join(f"{readable_bytes(need.size)} for {need.what}" for need in needs)
