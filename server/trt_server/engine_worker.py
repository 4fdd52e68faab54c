"""The thread that owns an engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trt_server import answers
from trt_server.engines.engine import Engine, Outcome, Submission
from trt_server.errors import EngineLostError, ScoringError
from trt_server.ready_batches import AssembledBatch, ReadyBatches
from trt_server.request import Answer, BatchShape, ScoringRequest, Stages

log = logging.getLogger(__name__)

MakeBatch = Callable[[Sequence[ScoringRequest]], AssembledBatch]


@dataclass(frozen=True)
class _Running:
    assembled: AssembledBatch
    submission: Submission
    submitted_ns: int


class EngineWorker:
    """Makes an engine, warms it, feeds it with what is ready and closes it, all in one thread of its own.

    number: which of the engines behind its queue it is. assemble: makes a batch of fewer requests where
    callers have left. record_seconds: told how long each request took. on_lost: called in this thread when
    the engine has failed for good; it takes nothing from then on.
    """

    def __init__(
        self,
        number: int,
        make_engine: Callable[[], Engine],
        ready: ReadyBatches,
        assemble: MakeBatch,
        record_seconds: Callable[[float], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        self._number = number
        self._make_engine = make_engine
        self._ready = ready
        self._assemble = assemble
        self._record_seconds = record_seconds
        self._on_lost = on_lost
        self._lost = False
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[Engine] = loop.create_future()
        self._finished: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"engine-{number}", daemon=True)

    async def start(self) -> Engine:
        """Make the engine and warm it up; its calls stay this thread's. Raises what its making raised."""
        self._thread.start()
        return await asyncio.shield(self._started)

    async def finish(self) -> None:
        """Wait until the engine is closed: no batch is left and none will come, or it is lost."""
        await self._finished

    def _run(self) -> None:
        try:
            engine = self._make_warm_engine()
        except BaseException as error:
            answers.fail(self._started, error)
            answers.settle(self._finished, None)
            return
        answers.settle(self._started, engine)
        try:
            self._serve(engine)
        finally:
            engine.close()
            answers.settle(self._finished, None)

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
        while not self._lost:
            if len(running) < engine.depth:
                assembled = self._ready.take_another() if running else self._ready.take()
                if assembled is not None:
                    self._submit(engine, assembled, running)
                    continue
            if not running:
                return
            self._deliver(running.popleft())
        while running:
            self._deliver(running.popleft())

    def _submit(self, engine: Engine, assembled: AssembledBatch, running: deque[_Running]) -> None:
        present = [request for request in assembled.requests if not request.abandoned]
        if not present:
            return
        if len(present) < len(assembled.requests):
            assembled = self._assemble(present)
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
        self._record_seconds((time.perf_counter_ns() - running.submitted_ns) / 1e9 / len(requests))
        for request, answer in zip(requests, self._answers(running, outcome), strict=True):
            answers.deliver(request, answer)

    def _reject(self, requests: Sequence[ScoringRequest], error: Exception) -> None:
        if isinstance(error, EngineLostError):
            if not self._lost:
                self._lost = True
                self._on_lost(self._number, str(error))
        elif not isinstance(error, ScoringError):
            log.exception("the engine failed on a batch")
            error = ScoringError(f"the engine failed on this batch: {error}")
        answers.refuse(requests, error)

    def _answers(self, running: _Running, outcome: Outcome) -> Iterator[Answer]:
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
                engine=self._number,
            )
