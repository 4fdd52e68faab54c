"""The thread that owns an engine, and the thread that has the next batch ready for it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trt_server.batching import Batching
from trt_server.engine_work import Work
from trt_server.engines.engine import Engine, EngineDescription, Submission
from trt_server.engines.prefix_store import PrefixStore
from trt_server.errors import EngineLostError, ScoringError
from trt_server.request import Part, ScoringRequest
from trt_server.request_queue import RequestQueue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    work: Work
    part: Part
    submission: Submission


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
        self._ready: queue.Queue[Work | None] = queue.Queue()
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
            self._ready.put(Work(requests, self._length_multiple))
        self._ready.put(None)

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
                    work = self._ready.get(block=not running)
                except queue.Empty:
                    pass
                else:
                    self._room.release()
                    if work is None:
                        break
                    self._submit(engine, work, running)
                    continue
            self._deliver(running.popleft())
        while running:
            self._deliver(running.popleft())

    def _submit(self, engine: Engine, work: Work, running: deque[_Running]) -> None:
        present = [request for request in work.requests if not request.abandoned]
        if not present:
            return
        if len(present) < len(work.requests):
            work = Work(present, self._length_multiple)
        work.submitted_ns = time.perf_counter_ns()
        for part in work.parts:
            if len(running) == engine.depth:
                self._deliver(running.popleft())
            try:
                running.append(_Running(work, part, engine.submit(part.batch)))
            except Exception as error:
                self._reject(work.requests, error)
                return

    def _deliver(self, running: _Running) -> None:
        work = running.work
        try:
            work.outcomes.append(running.submission.wait())
        except Exception as error:
            self._reject(work.requests, error)
            return
        if len(work.outcomes) < len(work.parts):
            return
        seconds = (time.perf_counter_ns() - work.submitted_ns) / 1e9
        self._requests.record_service_seconds(seconds / len(work.requests))
        for request, answer in zip(work.requests, work.answers(), strict=True):
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


def _succeed(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[object], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
