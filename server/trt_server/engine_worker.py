"""The thread that owns an engine, and the thread that has the next batch ready for it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trt_server.batching import Batching
from trt_server.engines.engine import Batch, Engine, EngineDescription, Outcome, Submission
from trt_server.engines.prefix_store import PrefixStore
from trt_server.errors import EngineLostError, ScoringError
from trt_server.request import Answer, BatchShape, ScoringRequest, Stages, assemble
from trt_server.request_queue import RequestQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Assembled:
    """requests: their prompts are the batch's rows, one request after the other."""

    requests: Sequence[ScoringRequest]
    batch: Batch
    assemble_ns: int


@dataclass(frozen=True)
class _Running:
    assembled: _Assembled
    submission: Submission
    submitted_ns: int


class EngineWorker:
    """Feeds one engine from one queue.

    The engine is made, warmed, run and closed in one thread of its own. A second thread assembles the
    next batch while the engine computes. `on_lost` is called on the event loop when the engine has failed
    for good.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        requests: RequestQueue,
        batching: Batching,
        on_lost: Callable[[str], None],
    ) -> None:
        self._make_engine = make_engine
        self._requests = requests
        self._batching = batching
        self._on_lost = on_lost
        self._ready: queue.Queue[_Assembled | None] = queue.Queue()
        # One batch waits assembled; the next request stays in the queue, where its caller may still leave.
        self._room = threading.Semaphore(1)
        self._length_multiple = 1
        self.prefixes: PrefixStore[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[EngineDescription] = self._loop.create_future()
        self._finished = asyncio.Event()
        self._assembler = threading.Thread(target=self._assemble, name="assembler", daemon=True)
        self._runner = threading.Thread(target=self._run, name="engine", daemon=True)

    async def start(self) -> EngineDescription:
        """Make the engine and warm it up. Raises what its making raised."""
        self._runner.start()
        description = await asyncio.shield(self._started)
        self._assembler.start()
        return description

    async def finish(self) -> None:
        """Wait until all accepted work is answered and the engine is closed; the queue must be draining."""
        await self._finished.wait()

    def _assemble(self) -> None:
        while self._room.acquire() and (requests := self._requests.take(self._batching)):
            self._ready.put(self._assembled(requests))
        self._ready.put(None)

    def _assembled(self, requests: Sequence[ScoringRequest]) -> _Assembled:
        start = time.perf_counter_ns()
        prompts = [prompt for request in requests for prompt in request.prompts]
        batch = assemble(prompts, self._length_multiple, self.prefixes)
        return _Assembled(requests, batch, time.perf_counter_ns() - start)

    def _run(self) -> None:
        try:
            engine = self._make_warm_engine()
        except BaseException as error:
            self._call(_fail, self._started, error)
            return
        self._length_multiple, self.prefixes = engine.length_multiple, engine.prefixes
        self._call(_succeed, self._started, engine.description)
        try:
            self._serve(engine)
        finally:
            engine.close()
            self._call(self._finished.set)

    def _make_warm_engine(self) -> Engine:
        engine = self._make_engine()
        try:
            engine.warm_up()
        except BaseException:
            engine.close()
            raise
        return engine

    def _serve(self, engine: Engine) -> None:
        running: deque[_Running] = deque()
        while True:
            if len(running) < engine.depth:
                try:
                    assembled = self._ready.get(block=not running)
                except queue.Empty:
                    pass
                else:
                    self._room.release()
                    if assembled is None:
                        break
                    self._submit(engine, assembled, running)
                    continue
            self._deliver(running.popleft())
        while running:
            self._deliver(running.popleft())

    def _submit(self, engine: Engine, assembled: _Assembled, running: deque[_Running]) -> None:
        present = [request for request in assembled.requests if not request.abandoned]
        if not present:
            return
        if len(present) < len(assembled.requests):
            assembled = self._assembled(present)
        submitted_ns = time.perf_counter_ns()
        try:
            running.append(_Running(assembled, engine.submit(assembled.batch), submitted_ns))
        except Exception as error:
            self._reject(assembled.requests, error)

    def _deliver(self, running: _Running) -> None:
        requests = running.assembled.requests
        try:
            outcome = running.submission.wait()
        except Exception as error:
            self._reject(requests, error)
            return
        seconds = (time.perf_counter_ns() - running.submitted_ns) / 1e9
        self._requests.record_service_seconds(seconds / len(requests))
        for request, answer in zip(requests, _answers(running, outcome), strict=True):
            self._call(_succeed, request.answer, answer)

    def _reject(self, requests: Sequence[ScoringRequest], error: Exception) -> None:
        if isinstance(error, EngineLostError):
            self._lose(str(error))
        elif not isinstance(error, ScoringError):
            log.exception("the engine failed on a batch")
            error = ScoringError(f"the engine failed on this batch: {error}")
        for request in requests:
            self._call(_fail, request.answer, error)

    def _lose(self, reason: str) -> None:
        log.error("engine lost: %s", reason)
        for waiting in self._requests.lose(reason):
            self._call(_fail, waiting.answer, EngineLostError(reason))
        self._call(self._on_lost, reason)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)


def _answers(running: _Running, outcome: Outcome) -> Iterator[Answer]:
    """Each request's rows, and its share of the batch's times: all rows are padded to one length."""
    assembled = running.assembled
    prompts, length = assembled.batch.token_ids.shape
    reused = outcome.reused_tokens or (0,) * prompts
    start = 0
    for request in assembled.requests:
        rows = slice(start, start + len(request.prompts))
        start = rows.stop
        share = len(request.prompts) / prompts
        waited_ns = running.submitted_ns - request.queued_ns - assembled.assemble_ns
        yield Answer(
            scores=outcome.scores.rows(rows),
            reused_tokens=reused[rows],
            padding_tokens=length * len(request.prompts) - int(assembled.batch.lengths[rows].sum()),
            stages=Stages(max(0, waited_ns), assembled.assemble_ns, outcome.timing.scaled(share)),
            batch=BatchShape(prompts, length),
        )


def _succeed(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[object], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
