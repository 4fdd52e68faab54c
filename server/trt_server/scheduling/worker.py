"""The thread that owns an engine, and the thread that hands out its results."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from trt_common.one_line import one_line, reason_of

from trt_server.engines.engine import Engine, Submission
from trt_server.errors import EngineLostError, ScoringError, StartError
from trt_server.scheduling import futures
from trt_server.scheduling.peak_turn import PeakTurn
from trt_server.scheduling.ready import ReadyWork
from trt_server.scheduling.request import ScoringRequest, fail_all
from trt_server.scheduling.work import Work

log = logging.getLogger(__name__)

Assemble = Callable[[Sequence[ScoringRequest]], Work]


class EngineWorker:
    """Makes an engine, warms it up, feeds it what is ready and closes it, all in one thread of its own."""

    def __init__(
        self,
        number: int,
        make_engine: Callable[[], Engine],
        ready: ReadyWork,
        assemble: Assemble,
        record_seconds: Callable[[float], None],
        on_batch: Callable[[int], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        """Prepare the worker on the event loop that will wait for it.

        Args:
            number: The engine's, among those behind its queue.
            make_engine: Makes the engine.
            ready: Where the engine's work comes from.
            assemble: Makes work of fewer requests, where callers have gone away.
            record_seconds: Told how long a request took in the engine.
            on_batch: Called for each batch that was computed, with the number of prompts in it, in the thread
                that hands out results.
            on_lost: Called with the number and the reason, in the engine's thread, when the engine has failed
                for good. It takes no work from then on.
        """
        self._number = number
        self._make_engine = make_engine
        self._ready = ready
        self._assemble = assemble
        self._record_seconds = record_seconds
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._lost = False
        self._running: deque[tuple[Work, Submission]] = deque()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[Engine] = loop.create_future()
        self._finished: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"engine-{number}", daemon=True)
        # Results have a thread of their own: waking the event loop may let other threads run first, and the
        # engine's thread has the next batch to start.
        self._answering = ThreadPoolExecutor(1, f"answers-{number}")

    async def start(self) -> Engine:
        """Make the engine and warm it up. All calls to it stay with the worker's thread.

        Raises:
            StartError: A library or the machine fails.
        """
        self._thread.start()
        return await asyncio.shield(self._started)

    async def finish(self) -> None:
        """Wait until the engine is closed, because no work is left and none will come, or it is lost."""
        await self._finished

    def _run(self) -> None:
        try:
            engine = self._make_warm_engine()
        except BaseException as error:
            futures.set_exception(self._started, error)
            futures.set_result(self._finished, None)
            return
        futures.set_result(self._started, engine)
        try:
            self._serve(engine)
        except BaseException as error:
            log.exception("the engine's thread failed")
            reason = f"the engine's thread failed: {reason_of(error)}"
            self._lose(reason)
            for work, _ in self._running:
                fail_all(work.requests, EngineLostError(reason))
        finally:
            engine.close()
            self._answering.shutdown()
            futures.set_result(self._finished, None)

    def _make_warm_engine(self) -> Engine:
        """Make the engine and run it once in each shape.

        Raises:
            StartError: A library or the machine fails. Any other error is a fault of this program.
        """
        try:
            engine = self._make_engine()
            _warm_up(engine)
        except (ScoringError, OSError, MemoryError) as error:
            raise StartError(f"the engine cannot start: {one_line(error) or 'out of memory'}") from error
        return engine

    def _serve(self, engine: Engine) -> None:
        running = self._running
        while not self._lost:
            if len(running) < engine.depth:
                work = self._ready.take_another() if running else self._ready.take()
                if isinstance(work, PeakTurn):
                    self._wait_for_all()
                    work.take(engine)
                    continue
                if work is not None:
                    self._submit(engine, work)
                    continue
            if not running:
                return
            self._wait(*running.popleft())
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        while self._running:
            self._wait(*self._running.popleft())

    def _submit(self, engine: Engine, work: Work) -> None:
        present = [request for request in work.requests if not request.abandoned]
        if not present:
            return
        try:
            if len(present) < len(work.requests):
                work = self._assemble(present)
            work.submitted_ns = time.perf_counter_ns()
            for batch in work.batches:
                if len(self._running) == engine.depth:
                    self._wait(*self._running.popleft())
                self._running.append((work, engine.submit(batch)))
        except Exception as error:
            self._reject(present, error)

    def _wait(self, work: Work, submission: Submission) -> None:
        try:
            work.outcomes.append(submission.wait())
            if len(work.outcomes) == len(work.batches):
                seconds = (time.perf_counter_ns() - work.submitted_ns) / 1e9
                self._record_seconds(seconds / len(work.requests))
                self._answering.submit(self._answer, work)
        except Exception as error:
            self._reject(work.requests, error)

    def _answer(self, work: Work) -> None:
        """Hand out the results, in the thread that does so."""
        try:
            for batch in work.batches:
                self._on_batch(len(batch.lengths))
            for request, result in zip(work.requests, work.results(self._number), strict=True):
                request.finish(result)
        except Exception as error:
            self._reject(work.requests, error)

    def _reject(self, requests: Sequence[ScoringRequest], error: Exception) -> None:
        if isinstance(error, EngineLostError):
            self._lose(str(error))
        elif not isinstance(error, ScoringError):
            log.exception("the engine failed on a batch")
            error = ScoringError(f"the engine failed on this batch: {reason_of(error)}")
        fail_all(requests, error)

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(self._number, reason)


def _warm_up(engine: Engine) -> None:
    try:
        engine.warm_up()
    except BaseException:
        engine.close()
        raise
