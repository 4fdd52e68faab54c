"""The thread that owns an engine, and the thread that has the next batch ready for it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from trt_server.engines.engine import Batch, Engine, EngineDescription, Outcome, Submission
from trt_server.errors import EngineLostError, ScoringError
from trt_server.request import Answer, BatchShape, ScoringRequest, Stages, assemble
from trt_server.request_queue import RequestQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Assembled:
    request: ScoringRequest
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
        on_lost: Callable[[str], None],
    ) -> None:
        self._make_engine = make_engine
        self._requests = requests
        self._on_lost = on_lost
        self._ready: queue.Queue[_Assembled | None] = queue.Queue()
        # One batch waits assembled; the next request stays in the queue, where its caller may still leave.
        self._room = threading.Semaphore(1)
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
        while self._room.acquire() and (request := self._requests.take()) is not None:
            start = time.perf_counter_ns()
            batch = assemble(request.prompts)
            self._ready.put(_Assembled(request, batch, time.perf_counter_ns() - start))
        self._ready.put(None)

    def _run(self) -> None:
        try:
            engine = self._make_engine()
            engine.warm_up()
        except BaseException as error:
            self._call(_fail, self._started, error)
            return
        self._call(_succeed, self._started, engine.description)
        try:
            self._serve(engine)
        finally:
            engine.close()
            self._call(self._finished.set)

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
        if assembled.request.abandoned:
            return
        submitted_ns = time.perf_counter_ns()
        try:
            running.append(_Running(assembled, engine.submit(assembled.batch), submitted_ns))
        except Exception as error:
            self._reject(assembled.request, error)

    def _deliver(self, running: _Running) -> None:
        request = running.assembled.request
        try:
            outcome = running.submission.wait()
        except Exception as error:
            self._reject(request, error)
            return
        self._requests.record_service_seconds((time.perf_counter_ns() - running.submitted_ns) / 1e9)
        self._call(_succeed, request.answer, _answer(running, outcome))

    def _reject(self, request: ScoringRequest, error: Exception) -> None:
        if isinstance(error, EngineLostError):
            self._lose(str(error))
        elif not isinstance(error, ScoringError):
            log.exception("the engine failed on a batch")
            error = ScoringError(f"the engine failed on this batch: {error}")
        self._call(_fail, request.answer, error)

    def _lose(self, reason: str) -> None:
        log.error("engine lost: %s", reason)
        for waiting in self._requests.lose(reason):
            self._call(_fail, waiting.answer, EngineLostError(reason))
        self._call(self._on_lost, reason)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)


def _answer(running: _Running, outcome: Outcome) -> Answer:
    assembled = running.assembled
    waited_ns = running.submitted_ns - assembled.request.queued_ns
    stages = Stages(waited_ns - assembled.assemble_ns, assembled.assemble_ns, outcome.timing)
    prompts, length = assembled.batch.token_ids.shape
    return Answer(outcome.scores, stages, BatchShape(prompts, length))


def _succeed(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[object], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
