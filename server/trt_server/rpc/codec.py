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
from trt_common.model.flops import text_flops
from trt_common.model.geometry import Geometry

from trt_server.devices.device import together
from trt_server.engines.engine import MAX_TOP_TOKENS, EngineDescription, PeakFlops
from trt_server.errors import InvalidRequestError, OutOfRangeError, ScoringError
from trt_server.loading.served_model import Limits, PromptLimits, ServedModel
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import PromptResult, ScoringResult, TokenLogprobs
from trt_server.scheduling.row import rows_of


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
        """Return the prompts, for an engine with these limits.

        Of a prefix that the engine cannot keep nothing is reused. Text takes a while, as it is tokenized.

        Raises:
            InvalidRequestError: A prompt is not one that the engine can run.
            OutOfRangeError: It is too long, or too many positions are asked for.
            NoTokenizerError: It is text, and the model has no tokenizer.
        """
        if not request.allow_prefix_reuse:
            engine = replace(engine, max_prefix_tokens=0)
        prompts = [self._prompt(number, prompt, engine) for number, prompt in enumerate(request.prompts)]
        self._check_padded(prompts)
        _check_positions(prompts, engine.max_scored_positions)
        return prompts

    def _check_padded(self, prompts: Sequence[TokenPrompt]) -> None:
        rows = [row for prompt in prompts for row in rows_of(prompt, self.limits.max_prompt_tokens)]
        padded = len(prompts) * max(row.tokens for row in rows)
        if padded > self.limits.max_batch_tokens:
            raise InvalidRequestError(
                f"the request is {padded} tokens with its padding, the limit is "
                f"{self.limits.max_batch_tokens}: send fewer prompts at once, or start the server with a "
                "larger --max-batch-tokens"
            )

    def _prompt(self, number: int, prompt: pb.Prompt, engine: PromptLimits) -> TokenPrompt:
        is_text = prompt.WhichOneof("content") == "text"
        ids = prompt.token_ids.ids
        token_ids = (
            self.tokenizer.encode(prompt.text, special=not prompt.omit_special_tokens)
            if is_text
            else self._ids(f"prompt {number}", ids)
        )
        if not len(token_ids):
            raise InvalidRequestError(f"prompt {number} is empty: send at least one token")
        if prompt.shared_prefix_tokens > len(token_ids):
            raise InvalidRequestError(
                f"prompt {number} names a shared prefix of {prompt.shared_prefix_tokens} tokens "
                f"and has {len(token_ids)}: name at most as many"
            )
        _check_asks(number, prompt)
        own_tokens = _own_tokens(number, prompt, len(token_ids))
        # A token before one that scores is always computed.
        reusable = min(prompt.shared_prefix_tokens, len(token_ids) - 1 - own_tokens)
        scored = TokenPrompt(
            token_ids,
            self._candidates(number, prompt, engine.max_candidates),
            [self._continuation(number, prompt, each) for each in prompt.continuations],
            own_tokens,
            min(prompt.top_tokens, self.vocabulary_size),
            reusable if reusable <= engine.max_prefix_tokens else 0,
        )
        self._check_length(number, scored)
        return scored

    def _check_length(self, number: int, prompt: TokenPrompt) -> None:
        longest, tokens = prompt.longest_text, len(prompt.token_ids)
        if longest <= self.limits.max_prompt_tokens:
            return
        what = f"has {tokens} tokens"
        if tokens <= self.limits.max_prompt_tokens:
            what += f" and a continuation of {longest - tokens}, {longest} together"
        raise OutOfRangeError(f"prompt {number} {what}, the limit is {self._prompt_limit()}")

    def _prompt_limit(self) -> str:
        limit = self.limits.max_prompt_tokens
        if limit < self.max_positions:
            return (
                f"{limit}: shorten it, or start the server with a larger --max-prompt-tokens "
                f"(the model takes {self.max_positions})"
            )
        return f"{limit}, all that the model takes: shorten it"

    def _candidates(self, number: int, prompt: pb.Prompt, most: int | None) -> NDArray[np.int32]:
        asked = len(prompt.candidates) + len(prompt.continuations)
        if most is not None and asked > most:
            what = "candidates and continuations" if prompt.continuations else "candidates"
            raise InvalidRequestError(
                f"prompt {number} has {asked} {what}, the engine's limit is {most}: "
                "send fewer, or the prompt again with the others"
            )
        ids = [self._candidate(number, prompt, candidate) for candidate in prompt.candidates]
        return self._ids(f"the candidates of prompt {number}", ids)

    def _continuation(
        self, number: int, prompt: pb.Prompt, continuation: pb.Continuation
    ) -> NDArray[np.int32]:
        if continuation.WhichOneof("content") == "text":
            self._check_is_text(number, prompt, "continuation")
            ids = self._following(prompt, continuation.text)
        else:
            ids = self._ids(f"a continuation of prompt {number}", continuation.token_ids.ids)
        if not len(ids):
            raise InvalidRequestError(
                f"prompt {number} has an empty continuation: give each at least one token"
            )
        return ids

    def _candidate(self, number: int, prompt: pb.Prompt, candidate: pb.Candidate) -> int:
        kind = candidate.WhichOneof("value")
        if kind == "token_id":
            return candidate.token_id
        if kind is None:
            raise InvalidRequestError(f"prompt {number} has an empty candidate: give its token_id or text")
        self._check_is_text(number, prompt, "candidate")
        return int(self._following(prompt, candidate.text)[0])

    def _following(self, prompt: pb.Prompt, text: str) -> NDArray[np.int32]:
        return self.tokenizer.following_tokens(prompt.text, text, special=not prompt.omit_special_tokens)

    def _check_is_text(self, number: int, prompt: pb.Prompt, what: str) -> None:
        if prompt.WhichOneof("content") != "text":
            raise InvalidRequestError(
                f"prompt {number} is token ids and has a {what} in text: send that as token ids too"
            )

    def _ids(self, what: str, ids: Sequence[int]) -> NDArray[np.int32]:
        array = np.array(ids, dtype=np.int64)
        if len(array) and int(array.max()) >= self.vocabulary_size:
            raise InvalidRequestError(
                f"token id {int(array.max())} in {what} is outside the vocabulary of {self.vocabulary_size}: "
                "is it another model's tokenizer?"
            )
        return array.astype(np.int32)


def has_text(request: pb.ScoreRequest) -> bool:
    """Return whether anything of the request has to be tokenized."""
    return any(prompt.WhichOneof("content") == "text" for prompt in request.prompts)


def _check_asks(number: int, prompt: pb.Prompt) -> None:
    asks = prompt.candidates or prompt.continuations or prompt.WhichOneof("own_tokens") or prompt.top_tokens
    if not asks:
        raise InvalidRequestError(
            f"prompt {number} has no candidates and asks for nothing else: send at least one next token, a "
            "continuation, or ask for its own tokens or the most likely ones"
        )
    if prompt.top_tokens > MAX_TOP_TOKENS:
        raise InvalidRequestError(
            f"prompt {number} asks for the {prompt.top_tokens} most likely tokens, the limit is "
            f"{MAX_TOP_TOKENS}: ask for fewer"
        )


def _own_tokens(number: int, prompt: pb.Prompt, tokens: int) -> int:
    """How many of the prompt's last tokens are scored."""
    if prompt.WhichOneof("own_tokens") == "all_tokens":
        return tokens - 1 if prompt.all_tokens else 0
    if prompt.last_tokens >= tokens:
        raise InvalidRequestError(
            f"prompt {number} has {tokens} tokens and asks for its last {prompt.last_tokens}: nothing comes "
            "before the first, ask for all_tokens or for fewer"
        )
    return prompt.last_tokens


def _check_positions(prompts: Sequence[TokenPrompt], most: int | None) -> None:
    asked = sum(prompt.scored_positions for prompt in prompts)
    if most is not None and asked > most:
        raise OutOfRangeError(
            f"the request asks for {asked} positions, the limit is {most}: ask for fewer tokens at once, or "
            "start the server with a larger --max-scored-positions"
        )


def encode_response(
    request_id: str,
    prompts: Sequence[TokenPrompt],
    result: ScoringResult,
    geometry: Geometry,
    total_ns: int,
) -> pb.ScoreResponse:
    """Return the reply to a request.

    Args:
        request_id: The caller's own name of it.
        prompts: Those of the request.
        result: What came of them.
        geometry: The sizes of the model, for FLOPs.
        total_ns: From the request's arrival to its reply.
    """
    return pb.ScoreResponse(
        id=request_id,
        scores=[
            _prompt_score(prompt, found, geometry)
            for prompt, found in zip(prompts, result.prompts, strict=True)
        ],
        timing=pb.Timing(**asdict(result.stages), total_ns=total_ns),
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
            max_top_tokens=MAX_TOP_TOKENS,
            max_scored_positions=served.limits.max_scored_positions or 0,
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
