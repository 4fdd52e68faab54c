"""The contract's messages: requests are decoded and checked, and results encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray
from scoring.v1 import scoring_pb2 as pb

from trt_server.devices.device import together
from trt_server.engines.engine import EngineDescription, PeakFlops
from trt_server.errors import InvalidRequestError, PromptTooLongError, ScoringError
from trt_server.loading.served_model import Limits, PromptLimits, ServedModel
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.model.geometry import Geometry
from trt_server.observe.accounting import prompt_flops
from trt_server.scheduling.request import ScoringResult, TokenPrompt


@dataclass(frozen=True)
class RequestDecoder:
    """Turns a ScoreRequest into prompts that an engine can run, or says why it cannot.

    Attributes:
        vocabulary_size: Of the model.
        max_positions: Tokens of a prompt that the model could take; the server's own limit may be lower.
        limits: The server's.
        tokenizer: The checkpoint's, for prompts that are sent as text.
    """

    vocabulary_size: int
    max_positions: int
    limits: Limits
    tokenizer: CheckpointTokenizer

    def check_size(self, request: pb.ScoreRequest) -> None:
        """Check how many prompts a request has.

        Raises:
            InvalidRequestError: It has none, or too many.
        """
        if not request.prompts:
            raise InvalidRequestError("the request has no prompts: send at least one")
        if len(request.prompts) > self.limits.max_batch_size:
            raise InvalidRequestError(
                f"the request has {len(request.prompts)} prompts, the limit is {self.limits.max_batch_size}: "
                "send fewer at once, or start the server with a larger --max-batch-size"
            )

    def decode(self, request: pb.ScoreRequest, engine: PromptLimits) -> list[TokenPrompt]:
        """Return a request's prompts for an engine.

        It tokenizes prompts that are text, which takes a while. Nothing is reused of a prefix that is longer
        than the engine can keep.

        Args:
            request: As it came.
            engine: What the engine takes of a prompt.

        Raises:
            InvalidRequestError: A prompt or its candidates cannot be scored, or all prompts together have too
                many tokens.
            PromptTooLongError: A prompt is longer than the server takes.
            NoTokenizerError: A prompt is text, and the model has no tokenizer that loads.
        """
        if not request.allow_prefix_reuse:
            engine = replace(engine, max_prefix_tokens=0)
        prompts = [self._prompt(number, prompt, engine) for number, prompt in enumerate(request.prompts)]
        self._check_padded(prompts)
        return prompts

    def _check_padded(self, prompts: Sequence[TokenPrompt]) -> None:
        padded = len(prompts) * max(len(prompt.rest) for prompt in prompts)
        if padded > self.limits.max_batch_tokens:
            raise InvalidRequestError(
                f"the request is {padded} tokens with its padding, the limit is "
                f"{self.limits.max_batch_tokens}: send fewer prompts at once, or start the server with a "
                "larger --max-batch-tokens"
            )

    def _prompt(self, number: int, prompt: pb.Prompt, engine: PromptLimits) -> TokenPrompt:
        if prompt.WhichOneof("content") == "text":
            token_ids = self.tokenizer.encode(prompt.text)
        else:
            token_ids = self._ids(f"prompt {number}", prompt.token_ids.ids)
        if not len(token_ids):
            raise InvalidRequestError(f"prompt {number} is empty: send at least one token")
        if len(token_ids) > self.limits.max_prompt_tokens:
            raise PromptTooLongError(
                f"prompt {number} has {len(token_ids)} tokens, the limit is {self._prompt_limit()}"
            )
        if prompt.shared_prefix_tokens > len(token_ids):
            raise InvalidRequestError(
                f"prompt {number} names a shared prefix of {prompt.shared_prefix_tokens} tokens "
                f"and has {len(token_ids)}: name at most as many"
            )
        # The last token is always computed: it is what scores.
        reusable = min(prompt.shared_prefix_tokens, len(token_ids) - 1)
        kept = reusable if reusable <= engine.max_prefix_tokens else 0
        return TokenPrompt(token_ids, self._candidates(number, prompt, engine.max_candidates), kept)

    def _prompt_limit(self) -> str:
        limit = self.limits.max_prompt_tokens
        if limit < self.max_positions:
            return (
                f"{limit}: shorten it, or start the server with a larger --max-prompt-tokens "
                f"(the model takes {self.max_positions})"
            )
        return f"{limit}, all that the model takes: shorten it"

    def _candidates(self, number: int, prompt: pb.Prompt, most: int | None) -> NDArray[np.int32]:
        if not prompt.candidates:
            raise InvalidRequestError(f"prompt {number} has no candidates: send at least one next token")
        if most is not None and len(prompt.candidates) > most:
            raise InvalidRequestError(
                f"prompt {number} has {len(prompt.candidates)} candidates, the engine's limit is {most}: "
                "send fewer, or the prompt again with the others"
            )
        ids = [self._candidate(number, prompt, candidate) for candidate in prompt.candidates]
        return self._ids(f"the candidates of prompt {number}", ids)

    def _candidate(self, number: int, prompt: pb.Prompt, candidate: pb.Candidate) -> int:
        kind = candidate.WhichOneof("value")
        if kind == "token_id":
            return candidate.token_id
        if kind is None:
            raise InvalidRequestError(f"prompt {number} has an empty candidate: give its token_id or text")
        if prompt.WhichOneof("content") != "text":
            raise InvalidRequestError(
                f"prompt {number} is token ids and has a candidate in text: send that as a token id too"
            )
        return self.tokenizer.following_token(prompt.text, candidate.text)

    def _ids(self, what: str, ids: Sequence[int]) -> NDArray[np.int32]:
        array = np.array(ids, dtype=np.int64)
        if len(array) and int(array.max()) >= self.vocabulary_size:
            raise InvalidRequestError(
                f"token id {int(array.max())} in {what} is outside the vocabulary of {self.vocabulary_size}: "
                "is it another model's tokenizer?"
            )
        return array.astype(np.int32)


def has_text(request: pb.ScoreRequest) -> bool:
    """Whether a prompt of the request is text, which has to be tokenized."""
    return any(prompt.WhichOneof("content") == "text" for prompt in request.prompts)


def encode_response(
    request_id: str, prompts: Sequence[TokenPrompt], result: ScoringResult, geometry: Geometry, total_ns: int
) -> pb.ScoreResponse:
    """Encode the result of a request.

    Args:
        request_id: The caller's.
        prompts: The request's.
        result: What came of them, a row a prompt.
        geometry: The model's, for the FLOPs.
        total_ns: Nanoseconds from the request's arrival to its reply.
    """
    scores = result.scores
    return pb.ScoreResponse(
        id=request_id,
        scores=[
            pb.PromptScore(
                candidate_ids=prompt.candidates.tolist(),
                candidate_logprobs=scores.candidate_logprobs[row, : len(prompt.candidates)].tolist(),
                top_token_id=int(scores.top_tokens[row]),
                top_logprob=float(scores.top_logprobs[row]),
                tokens=pb.TokenCount(
                    logical=len(prompt.token_ids), computed=len(prompt.token_ids) - result.reused_tokens[row]
                ),
                flops=prompt_flops(geometry, len(prompt.token_ids), result.reused_tokens[row]),
            )
            for row, prompt in enumerate(prompts)
        ],
        timing=pb.Timing(**asdict(result.stages), total_ns=total_ns),
        batch=pb.Batch(
            prompts=result.batch_prompts,
            padded_length=result.padded_length,
            padding_tokens=result.padding_tokens,
        ),
    )


def encode_error(error: ScoringError) -> Status:
    """Encode an error as a google.rpc.Status, with RetryInfo where asking again helps."""
    status = Status(code=error.status.value[0], message=str(error))
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
