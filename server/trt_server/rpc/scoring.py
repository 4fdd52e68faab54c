"""Requests in the contract's messages: put into an engine's queue, answered, counted and timed.

The gRPC service and the HTTP server both ask here, so that limits, errors and metrics are the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scoring.v1 import scoring_pb2 as pb

from trt_server.errors import DrainingError, LateError, NoReferenceError, NotLoadedError, ScoringError
from trt_server.loading.loading import Loaded, LoadedEngine
from trt_server.observe.metrics import Metrics
from trt_server.observe.tally import Tally
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.rpc.abort import scoring_error
from trt_server.rpc.deadline import Deadline
from trt_server.rpc.decoding import RequestDecoder, has_text
from trt_server.rpc.encoding import encode_response
from trt_server.rpc.request_size import RequestBounds, is_large, memory_of, returned_id
from trt_server.scheduling.parts import joined, parts_of
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.request import ScoringRequest
from trt_server.scheduling.result import ScoringResult
from trt_server.status import Status
from trt_server.threads.step_threads import StepThreads, all_steps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        prompts: Those of the request, as token ids.
        response: The contract's reply.
    """

    prompts: Sequence[TokenPrompt]
    response: pb.ScoreResponse


@dataclass(frozen=True)
class _Source:
    """Where a request comes from.

    Attributes:
        caller: Equal for the requests of one caller.
        due: When the caller no longer waits, on the clock of time.monotonic; None: it waits for ever.
    """

    caller: str
    due: float | None


class Scoring:
    """Answers requests; UNAVAILABLE until `open` is called, and for new work once the queue drains."""

    def __init__(self, metrics: Metrics, budget: ByteBudget, threads: StepThreads) -> None:
        """Answer nothing until a model is loaded.

        Args:
            metrics: Count and time the requests.
            budget: Of the memory of all requests.
            threads: For texts and large requests.
        """
        self._metrics = metrics
        self._budget = budget
        self._threads = threads
        self._maybe_loaded: Loaded | None = None
        self._answering: set[asyncio.Task[Any]] = set()
        self._given_up: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._measuring = asyncio.Lock()
        self._late = Tally(log, "requests not computed, as their deadlines could not be met: %d")

    def open(self, loaded: Loaded) -> None:
        """Take requests from now on."""
        served = loaded.served
        geometry = served.geometry
        bounds = RequestBounds(served.limits, geometry.max_positions)
        self._decoder = RequestDecoder(geometry.vocabulary_size, bounds, served.tokenizer)
        self._maybe_loaded = loaded

    @property
    def loaded(self) -> Loaded:
        """The model and its engines.

        Raises:
            NotLoadedError: They are still being loaded.
        """
        if self._maybe_loaded is None:
            raise NotLoadedError("the engine is being loaded: ask again when the server is healthy")
        return self._maybe_loaded

    async def answered(self) -> None:
        """Return when nothing is unanswered."""
        await self._idle.wait()

    def give_up(self, reason: str) -> int:
        """Answer everything that is unanswered with UNAVAILABLE.

        Args:
            reason: What callers are told.

        Returns:
            How many requests that were.
        """
        self._given_up = reason
        for task in self._answering:
            task.cancel()
        return len(self._answering)

    async def measure_peaks(self) -> None:
        """Measure each measured peak once more; the largest so far counts."""
        # One after the other: two engines, or two callers' turns, would take each other's cores.
        async with self._measuring:
            self._maybe_loaded = await self.loaded.with_peaks_measured_again()
            for engine in self._maybe_loaded.engines:
                self._metrics.engines.set_peak(
                    engine.description, [device.label for device in engine.devices]
                )

    async def answer(self, request: pb.ScoreRequest, caller: str, deadline: Deadline | None = None) -> Answer:
        """Answer a request and count it.

        Args:
            request: What is asked.
            caller: Equal for the requests of one caller, as `Callers` tells them apart.
            deadline: The caller's; None: it has set none.

        Raises:
            ScoringError: The request cannot be answered; every error is of this class.
        """
        arrived_ns = time.perf_counter_ns()
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        self._idle.clear()
        status = Status.OK
        try:
            return await self._answer(
                request, _Source(caller, None if deadline is None else deadline.due), arrived_ns
            )
        except ScoringError as error:
            status = error.status
            if isinstance(error, LateError):
                self._late.add()
            raise
        except asyncio.CancelledError:
            if self._given_up is not None:
                status = Status.UNAVAILABLE
                raise DrainingError(self._given_up) from None
            passed = deadline is not None and deadline.passed
            status = Status.DEADLINE_EXCEEDED if passed else Status.CANCELLED
            raise
        except BaseException as error:
            # Whatever a library raises: its panics are no Exception.
            status = Status.INTERNAL
            raise scoring_error(error) from error
        finally:
            self._metrics.requests.count(status)
            log.debug(
                "request",
                extra={
                    "request_id": returned_id(request.id),
                    "code": status.value,
                    "prompts": len(request.prompts),
                    "milliseconds": (time.perf_counter_ns() - arrived_ns) / 1e6,
                },
            )
            self._answering.discard(task)
            if not self._answering:
                self._idle.set()

    async def _answer(self, request: pb.ScoreRequest, source: _Source, arrived_ns: int) -> Answer:
        loaded = self.loaded
        engine = _engine(loaded, request.engine)
        bounds = self._decoder.bounds
        bounds.check(request, engine.prompt_limits)
        with self._budget.take(memory_of(request)):
            prompts, tokenize_ns = await self._decode(request, engine, source.caller)
            result = await _scored(prompts, tokenize_ns, source, engine, bounds.limits.max_prompt_tokens)
            encode = partial(encode_response, request.id, prompts, result, loaded.served.geometry)
            response = await self._threads.run(encode) if is_large(request) else encode()
        response.timing.total_ns = time.perf_counter_ns() - arrived_ns
        self._metrics.engines.observe(engine.description.name, engine.devices[result.engine].label, response)
        return Answer(prompts, response)

    async def _decode(
        self, request: pb.ScoreRequest, engine: LoadedEngine, caller: str
    ) -> tuple[list[TokenPrompt], int]:
        """Return the prompts, and the nanoseconds that the tokenization of texts took."""
        start = time.perf_counter_ns()
        steps = self._decoder.decode(request, engine.prompt_limits)
        is_text = has_text(request)
        if not (is_text or is_large(request)):
            return all_steps(steps), 0
        with engine.queue.expecting(caller):
            prompts = await self._threads.run_steps(steps)
        return prompts, time.perf_counter_ns() - start if is_text else 0


def _engine(loaded: Loaded, role: int) -> LoadedEngine:
    """Return the engine that has this EngineRole.

    Raises:
        NoReferenceError: The reference is asked for, and none is loaded.
    """
    if role != pb.ENGINE_ROLE_REFERENCE:
        return loaded.compiled
    if loaded.reference is None:
        raise NoReferenceError("no reference engine is loaded: start the server with --reference torch")
    return loaded.reference


async def _scored(
    prompts: Sequence[TokenPrompt],
    tokenize_ns: int,
    source: _Source,
    engine: LoadedEngine,
    max_row_tokens: int,
) -> ScoringResult:
    """Put the prompts into the queue, in parts where they are more than a batch may be, and wait for all."""
    parts = parts_of(prompts, max_row_tokens, engine.group.batching)
    requests: list[ScoringRequest] = []
    for part in parts:
        first = requests[0] if requests else None
        requests.append(
            ScoringRequest(part.prompts, max_row_tokens, tokenize_ns, source.caller, source.due, first)
        )
    engine.queue.put(*requests)
    try:
        return joined(parts, [await request.result for request in requests])
    finally:
        for request in requests:
            # Where one has failed, or the caller is gone.
            request.abandon()
