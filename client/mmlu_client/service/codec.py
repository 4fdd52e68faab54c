"""The client's own messages, to and from protobuf."""

from __future__ import annotations

from dataclasses import fields

from google.rpc import code_pb2, error_details_pb2, status_pb2
from scoring.v1 import scoring_pb2

from mmlu_client.prompts.served_tokenizer import ServedTokenizer
from mmlu_client.service.messages import (
    Batch,
    ContinuationScore,
    Refusal,
    Reply,
    Request,
    Score,
    Timing,
)
from mmlu_client.service.model import Device, EngineInfo, PeakMeasurements, ServedModel


def encode_request(request: Request) -> scoring_pb2.ScoreRequest:
    """Write a request as a `ScoreRequest`."""
    role = scoring_pb2.ENGINE_ROLE_REFERENCE if request.reference else scoring_pb2.ENGINE_ROLE_COMPILED
    message = scoring_pb2.ScoreRequest(id=request.id, engine=role, allow_prefix_reuse=request.reuse_prefix)
    for prompt in request.prompts:
        part = message.prompts.add(shared_prefix_tokens=prompt.shared_prefix_tokens)
        part.token_ids.ids.extend(prompt.token_ids)
        for candidate in prompt.candidate_ids:
            part.candidates.add(token_id=candidate)
        for continuation in prompt.continuations:
            part.continuations.add().token_ids.ids.extend(continuation)
        if prompt.own_tokens:
            part.last_tokens = prompt.own_tokens
        part.top_tokens = prompt.top_tokens
    return message


def decode_answer(message: scoring_pb2.StreamScoreResponse) -> Reply | Refusal:
    """Read a `StreamScoreResponse`."""
    if message.WhichOneof("outcome") == "response":
        return _reply(message.id, message.response)
    return _refusal(message.id, message.error)


def _reply(request_id: str, response: scoring_pb2.ScoreResponse) -> Reply:
    timing, batch = response.timing, response.batch
    return Reply(
        id=request_id,
        scores=tuple(map(_score, response.scores)),
        timing=Timing(**{each.name: getattr(timing, f"{each.name}_ns") for each in fields(Timing)}),
        batch=Batch(batch.prompts, batch.padded_length, batch.padding_tokens),
    )


def _score(score: scoring_pb2.PromptScore) -> Score:
    return Score(
        candidate_ids=tuple(score.candidate_ids),
        logprobs=tuple(score.candidate_logprobs),
        top_token=score.top_token_id,
        top_logprob=score.top_logprob,
        logical_tokens=score.tokens.logical,
        computed_tokens=score.tokens.computed,
        flops=score.flops,
        continuations=tuple(map(_continuation, score.continuations)),
        own_logprobs=tuple(score.own_tokens.logprobs),
        own_top_tokens=_first_of_each(score.own_tokens),
    )


def _continuation(score: scoring_pb2.ContinuationScore) -> ContinuationScore:
    return ContinuationScore(tuple(score.tokens.logprobs), score.logprob, score.is_greedy)


def _first_of_each(tokens: scoring_pb2.TokenScores) -> tuple[int, ...]:
    """Return the most likely token in the place of each token; none where no top tokens were asked for."""
    if not tokens.token_ids or not tokens.top_token_ids:
        return ()
    return tuple(tokens.top_token_ids[:: len(tokens.top_token_ids) // len(tokens.token_ids)])


def _refusal(request_id: str, error: status_pb2.Status) -> Refusal:
    known = error.code in code_pb2.Code.values()
    code = code_pb2.Code.Name(error.code) if known else f"CODE_{error.code}"
    return Refusal(request_id, code, error.message, _retry_after(error))


def _retry_after(error: status_pb2.Status) -> float | None:
    for detail in error.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def decode_tokenizer(tokenizer: scoring_pb2.Tokenizer) -> ServedTokenizer:
    """Read a `Tokenizer`."""
    return ServedTokenizer(
        files={file.name: file.content for file in tokenizer.files},
        fingerprint=tokenizer.fingerprint,
        sample_text=tokenizer.sample_text,
        sample_ids=tuple(tokenizer.sample_ids),
    )


def decode_model(model: scoring_pb2.Model) -> ServedModel:
    """Read a `Model`."""
    return ServedModel(
        id=model.id,
        architecture=model.architecture,
        fingerprint=model.fingerprint,
        parameters=model.parameters.total,
        vocabulary_size=model.geometry.vocabulary_size,
        engine=_engine(model.engine),
        reference=_engine(model.reference) if model.HasField("reference") else None,
        device=_device(model.device),
        peak_flops=model.peak.flops_per_second,
        peak_source=model.peak.source,
        max_prompt_tokens=model.limits.max_prompt_tokens,
        max_batch_size=model.limits.max_batch_size,
        stream_window=model.limits.stream_window,
        notice=model.notice,
        server_version=model.server_version,
        devices=tuple(map(_device, model.devices)) or (_device(model.device),),
        peak_measurements=_measurements(model.peak.measured) if model.peak.HasField("measured") else None,
        max_scored_positions=model.limits.max_scored_positions,
        max_top_tokens=model.limits.max_top_tokens,
    )


def _measurements(measured: scoring_pb2.PeakMeasurements) -> PeakMeasurements:
    return PeakMeasurements(measured.count, measured.least_flops_per_second, measured.contended)


def _engine(engine: scoring_pb2.EngineInfo) -> EngineInfo:
    return EngineInfo(
        name=engine.name,
        version=engine.version,
        precision=engine.precision,
        fingerprint=engine.fingerprint,
        load_seconds=engine.load_seconds,
        build_seconds=engine.build_seconds,
    )


def _device(device: scoring_pb2.Device) -> Device:
    has = device.HasField
    return Device(
        name=device.name,
        memory_used=device.memory_used_bytes if has("memory_used_bytes") else None,
        memory_peak=device.memory_peak_bytes if has("memory_peak_bytes") else None,
        memory_total=device.memory_total_bytes if has("memory_total_bytes") else None,
        power_watts=device.power_watts if has("power_watts") else None,
        energy_joules=device.energy_joules if has("energy_joules") else None,
        temperature_celsius=device.temperature_celsius if has("temperature_celsius") else None,
        sm_clock_hertz=device.sm_clock_hertz if has("sm_clock_hertz") else None,
        id=device.id if has("id") else None,
        part=device.part if has("part") else None,
    )
