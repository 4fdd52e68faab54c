"""Results, errors, and what is loaded, as the contract's messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from scoring.v1 import scoring_pb2 as pb
from trt_common.model.flops import text_flops
from trt_common.model.geometry import Geometry

from trt_server.devices.device import together
from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import MAX_TOP_TOKENS, EngineDescription
from trt_server.errors import ScoringError, told
from trt_server.loading.served_model import (
    MAX_APPENDED_TEXTS,
    MAX_CONTINUATIONS,
    MAX_ID_BYTES,
    ServedModel,
)
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import PromptResult, ScoringResult, TokenLogprobs


def encode_response(
    request_id: str,
    prompts: Sequence[TokenPrompt],
    result: ScoringResult,
    geometry: Geometry,
) -> pb.ScoreResponse:
    """Return the reply to a request, but for its total time.

    Args:
        request_id: The caller's own name of it.
        prompts: Those of the request.
        result: What came of them.
        geometry: The sizes of the model, for FLOPs.
    """
    return pb.ScoreResponse(
        id=request_id,
        scores=[
            _prompt_score(prompt, found, geometry)
            for prompt, found in zip(prompts, result.prompts, strict=True)
        ],
        timing=pb.Timing(**asdict(result.stages)),
        batch=pb.Batch(
            prompts=result.batch_rows,
            padded_length=result.padded_length,
            padding_tokens=result.padding_tokens,
        ),
    )


def _prompt_score(prompt: TokenPrompt, result: PromptResult, geometry: Geometry) -> pb.PromptScore:
    return pb.PromptScore(
        candidate_ids=prompt.candidates.tolist(),
        candidate_logprobs=result.candidate_logprobs.tolist(),
        top_token_id=result.next_token.top_token,
        top_logprob=result.next_token.top_logprob,
        tokens=pb.TokenCount(
            logical=prompt.logical_tokens,
            computed=result.computed_tokens,
            scored=result.scored_positions,
        ),
        flops=text_flops(geometry, result.computed, result.scored_positions, result.last_layer),
        continuations=[
            pb.ContinuationScore(
                tokens=_token_scores(found),
                logprob=float(found.logprobs.sum(dtype=np.float64)),
                is_greedy=found.is_greedy,
            )
            for found in result.continuations
        ],
        own_tokens=None if result.own is None else _token_scores(result.own),
        top_token_ids=result.next_token.top_tokens.tolist(),
        top_logprobs=result.next_token.top_logprobs.tolist(),
    )


def _token_scores(found: TokenLogprobs) -> pb.TokenScores:
    return pb.TokenScores(
        token_ids=found.token_ids.tolist(),
        logprobs=found.logprobs.tolist(),
        top_token_ids=found.top_tokens.reshape(-1).tolist(),
        top_logprobs=found.top_logprobs.reshape(-1).tolist(),
    )


def encode_error(error: ScoringError) -> Status:
    """Encode an error as a google.rpc.Status, with RetryInfo where asking again helps."""
    status = Status(code=Code.Value(error.status.value), message=told(error))
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=delay))
        status.details.append(detail)
    return status


def encode_model(served: ServedModel) -> pb.Model:
    """Encode what GetModel tells, with the devices' readings at this moment."""
    geometry = served.geometry
    readings = [device.read() for device in served.devices]
    return pb.Model(
        id=served.id,
        architecture=served.architecture,
        fingerprint=served.fingerprint,
        geometry=pb.Geometry(
            layers=geometry.layers,
            hidden_size=geometry.hidden_size,
            intermediate_size=geometry.intermediate_size,
            query_heads=geometry.query_heads,
            key_value_heads=geometry.key_value_heads,
            head_size=geometry.head_size,
            vocabulary_size=geometry.vocabulary_size,
        ),
        parameters=pb.ParameterCount(total=geometry.total_parameters, matmul=geometry.matmul_parameters),
        engine=_engine(served.engine),
        reference=_engine(served.reference) if served.reference else None,
        device=pb.Device(name=served.engine.device, **asdict(together(readings))),
        devices=[
            pb.Device(name=device.label, **asdict(reading))
            for device, reading in zip(served.devices, readings, strict=True)
        ],
        peak=_peak(served.engine.peak),
        limits=pb.Limits(
            max_prompt_tokens=served.limits.max_prompt_tokens,
            max_batch_size=served.limits.max_batch_size,
            max_queue_size=served.limits.max_queue_size,
            stream_window=served.limits.stream_window,
            max_batch_tokens=served.limits.max_batch_tokens,
            prefix_cache_bytes=served.limits.prefix_cache_bytes,
            max_top_tokens=MAX_TOP_TOKENS,
            max_scored_positions=served.limits.max_scored_positions or 0,
            max_request_bytes=served.limits.max_request_bytes,
            max_id_bytes=MAX_ID_BYTES,
            max_text_bytes=served.limits.max_text_bytes,
            max_candidates=served.limits.max_candidates,
            max_appended_texts=MAX_APPENDED_TEXTS,
            max_continuations=MAX_CONTINUATIONS,
        ),
        notice=served.notice,
        server_version=served.server_version,
    )


def _peak(peak: PeakFlops) -> pb.PeakFlops:
    measured = pb.PeakMeasurements(**asdict(peak.measured)) if peak.measured else None
    return pb.PeakFlops(flops_per_second=peak.flops_per_second, source=peak.source, measured=measured)


def _engine(engine: EngineDescription) -> pb.EngineInfo:
    return pb.EngineInfo(
        name=engine.name,
        version=engine.version,
        precision=engine.precision,
        fingerprint=engine.fingerprint,
        load_seconds=engine.load_seconds,
        build_seconds=engine.build_seconds,
    )


def encode_tokenizer(tokenizer: CheckpointTokenizer) -> pb.Tokenizer:
    """Encode the tokenizer's files and a sample of its ids; takes seconds where transformers reads them.

    Raises:
        NoTokenizerError: The model has no tokenizer.
    """
    files = [pb.File(name=name, content=content) for name, content in tokenizer.files.items()]
    text, ids = tokenizer.sample
    return pb.Tokenizer(
        files=files, fingerprint=tokenizer.fingerprint, sample_text=text, sample_ids=ids.tolist()
    )
