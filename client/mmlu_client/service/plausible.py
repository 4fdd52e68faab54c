"""What a server may not say: numbers that cannot be, and control characters in texts that are printed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace

from trt_common.one_line import one_line

from mmlu_client.errors import RunError
from mmlu_client.service.messages import Refusal, Reply
from mmlu_client.service.model import Device, EngineInfo, ServedModel

# Thirty days, in nanoseconds: no stage of a request lasts so long.
MOST_NANOSECONDS = 30 * 86400 * 10**9
# Floating-point operations of a prompt: a thousand times those of 4,096 tokens with 70 B parameters.
MOST_FLOPS = 10**18
# Of anything else that is counted or measured.
MOST = 2.0**62


def plausible_answer(answer: Reply | Refusal) -> Reply | Refusal:
    """Return an answer, or a refusal in its place where it holds numbers that cannot be."""
    if isinstance(answer, Refusal):
        return replace(answer, code=one_line(answer.code), message=one_line(answer.message))
    wrong = next(_wrong_in(answer), None)
    if wrong is None:
        return answer
    return Refusal(answer.id, "DATA_LOSS", f"the server's answer cannot be: {wrong}", None)


def _wrong_in(reply: Reply) -> Iterator[str]:
    if reply.timing is not None:
        for each in fields(reply.timing):
            nanoseconds = getattr(reply.timing, each.name)
            if not 0 <= nanoseconds <= MOST_NANOSECONDS:
                yield f"{each.name} took {nanoseconds} ns"
    for score in reply.scores:
        if score.flops is not None and not 0 <= score.flops <= MOST_FLOPS:
            yield f"a prompt took {score.flops} floating-point operations"
        if score.computed_tokens is not None and score.computed_tokens < 0:
            yield f"{score.computed_tokens} tokens of a prompt were computed"


def plausible_model(model: ServedModel, server: str) -> ServedModel:
    """Return a model with texts in one line each, without control characters.

    Args:
        model: as the server describes it.
        server: the server's name, for messages.

    Raises:
        RunError: it holds a number that cannot be.
    """
    if (wrong := impossible_number(asdict(model))) is not None:
        raise RunError(f"{server} describes its model with what cannot be: {wrong}")
    return replace(
        model,
        id=one_line(model.id),
        architecture=one_line(model.architecture),
        fingerprint=one_line(model.fingerprint),
        engine=_engine(model.engine),
        reference=model.reference and _engine(model.reference),
        device=_device(model.device),
        devices=tuple(map(_device, model.devices)),
        peak_source=one_line(model.peak_source),
        notice=one_line(model.notice),
        server_version=one_line(model.server_version),
    )


def can_be_counted(value: float) -> bool:
    """Whether a number can be what a server counts or measures."""
    return 0 <= value <= MOST


def impossible_number(content: Mapping[str, object]) -> str | None:
    """Return the name and the value of the first number that cannot be counted; None: there is none.

    Args:
        content: nested dictionaries, lists and tuples.
    """
    for name, value in _numbers(content, ""):
        is_temperature = name.endswith("temperature_celsius") and math.isfinite(value)
        if not can_be_counted(value) and not is_temperature:
            return f"{name} is {value}"
    return None


def _numbers(content: object, name: str) -> Iterator[tuple[str, float]]:
    """Yield every number in nested dictionaries and tuples, under its dotted name."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _numbers(value, f"{name}[{place}]")
    elif isinstance(content, int | float):
        yield name, content


def _engine(engine: EngineInfo) -> EngineInfo:
    return replace(
        engine,
        name=one_line(engine.name),
        version=one_line(engine.version),
        precision=one_line(engine.precision),
        fingerprint=one_line(engine.fingerprint),
    )


def _device(device: Device) -> Device:
    return replace(
        device,
        name=one_line(device.name),
        id=None if device.id is None else one_line(device.id),
        part=None if device.part is None else one_line(device.part),
    )
