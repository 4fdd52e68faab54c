"""What a server may not say: numbers that cannot be, and texts that are long or control the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace

from trt_common.one_line import one_line, shortened

from mmlu_client.errors import RunError
from mmlu_client.prompts.prompt import Prompt
from mmlu_client.service.messages import Batch, Refusal, Reply, Score
from mmlu_client.service.model import Device, EngineInfo, ServedModel

# Thirty days, in nanoseconds: no stage of a request lasts so long.
MOST_NANOSECONDS = 30 * 86400 * 10**9
# Floating-point operations of a prompt: a thousand times those of 4,096 tokens with 70 B parameters.
MOST_FLOPS = 10**18
# How far rounding may take the logarithm of a probability above 0.
ROUNDING = 1e-3
# Of a batch: its rows, and, in tokens, what the length of a row is at most rounded up to a multiple of.
MOST_ROWS = 10**6
PADDING_MULTIPLE = 1024
# Of a text that a server tells, in UTF-8: it is printed, and kept in several files.
MOST_TEXT_BYTES = 1024
# Of anything else that is counted or measured.
MOST = 2.0**62


def plausible_answer(
    answer: Reply | Refusal, prompts: Sequence[Prompt], model: ServedModel
) -> Reply | Refusal:
    """Return an answer, or a refusal in its place where it holds numbers that cannot be.

    Args:
        answer: the server's.
        prompts: those of the request that it answers; none where no such request is known.
        model: as the server describes it.
    """
    if isinstance(answer, Refusal):
        return replace(answer, code=_short(answer.code), message=_short(answer.message))
    wrong = next(_wrong_in(answer, prompts, model), None)
    if wrong is None:
        return answer
    return Refusal(answer.id, "DATA_LOSS", f"the server's answer cannot be: {wrong}", None)


def _wrong_in(reply: Reply, prompts: Sequence[Prompt], model: ServedModel) -> Iterator[str]:
    if reply.timing is not None:
        for each in fields(reply.timing):
            nanoseconds = getattr(reply.timing, each.name)
            if not 0 <= nanoseconds <= MOST_NANOSECONDS:
                yield f"{each.name} took {nanoseconds} ns"
    if reply.batch is not None and prompts:
        yield from _wrong_in_batch(reply.batch, prompts, model)
    for score in reply.scores:
        if score.flops is not None and not 0 <= score.flops <= MOST_FLOPS:
            yield f"a prompt took {score.flops} floating-point operations"
        yield from _wrong_in_logprobs(score)
        for token in (score.top_token, *score.own_top_tokens):
            if not 0 <= token < model.vocabulary_size:
                yield f"token {token} is the most likely of {model.vocabulary_size}"
    # A reply with another number of scores is told of where the scores are joined to the prompts.
    for prompt, score in zip(prompts, reply.scores, strict=False):
        yield from _wrong_in_tokens(prompt, score, least=0 if reply.batch is None else 1)


def _wrong_in_batch(batch: Batch, prompts: Sequence[Prompt], model: ServedModel) -> Iterator[str]:
    most_length = 2 * model.max_prompt_tokens + PADDING_MULTIPLE
    rows = sum(max(1, len(prompt.continuations)) for prompt in prompts)
    if not 1 <= batch.prompts <= MOST_ROWS:
        yield f"its batch had {batch.prompts} prompts"
    if not 1 <= batch.padded_length <= most_length:
        yield f"its batch was padded to {batch.padded_length} tokens"
    # A prefix that the rows share is padded too.
    if not 0 <= batch.padding_tokens <= 2 * rows * most_length:
        yield f"its prompts were padded with {batch.padding_tokens} tokens"


def _wrong_in_logprobs(score: Score) -> Iterator[str]:
    """Yield log-probabilities above 0; those that are no numbers are told of with the candidates."""
    continuations = (each for found in score.continuations for each in (found.logprob, *found.logprobs))
    for logprob in (*score.logprobs, score.top_logprob, *score.own_logprobs, *continuations):
        if logprob is not None and math.isfinite(logprob) and logprob > ROUNDING:
            yield f"{logprob:g} is the logarithm of a probability"


def _wrong_in_tokens(prompt: Prompt, score: Score, least: int) -> Iterator[str]:
    """Yield numbers of tokens that a prompt does not have.

    With continuations they are counted as if each of these had been asked for alone.
    """
    length = len(prompt.token_ids)
    tokens = sum(length + len(each) for each in prompt.continuations) or length
    if score.logical_tokens != tokens:
        yield f"a prompt of {tokens} tokens has {score.logical_tokens}"
    if score.computed_tokens is not None and not least <= score.computed_tokens <= tokens:
        yield f"{score.computed_tokens} tokens of a prompt of {tokens} were computed"


def plausible_model(model: ServedModel, server: str) -> ServedModel:
    """Return a model with texts in one line each, of a bounded length and without control characters.

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
        id=_short(model.id),
        architecture=_short(model.architecture),
        fingerprint=_short(model.fingerprint),
        engine=_engine(model.engine),
        reference=model.reference and _engine(model.reference),
        device=_device(model.device),
        devices=tuple(map(_device, model.devices)),
        peak_source=_short(model.peak_source),
        notice=_short(model.notice),
        server_version=_short(model.server_version),
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
        # Less than one operation a second: what is divided by it has no end.
        is_no_rate = name.endswith("flops") and 0 < value < 1
        if is_no_rate or not (can_be_counted(value) or is_temperature):
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


def _short(text: str) -> str:
    return shortened(one_line(text), MOST_TEXT_BYTES)


def _engine(engine: EngineInfo) -> EngineInfo:
    return replace(
        engine,
        name=_short(engine.name),
        version=_short(engine.version),
        precision=_short(engine.precision),
        fingerprint=_short(engine.fingerprint),
    )


def _device(device: Device) -> Device:
    return replace(
        device,
        name=_short(device.name),
        id=None if device.id is None else _short(device.id),
        part=None if device.part is None else _short(device.part),
    )
