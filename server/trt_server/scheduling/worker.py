"""The thread that owns an engine, and the thread that hands out its results while it has more to do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from trt_common.one_line import one_line, reason_of

from trt_server.engines.engine import Batch, Engine, Outcome, Submission, next_token_batch, padded_length
from trt_server.errors import EngineLostError, ScoringError, StartError
from trt_server.scheduling.assembler import Assembler
from trt_server.scheduling.peak_turn import PeakTurn
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.ready import ReadyWork
from trt_server.scheduling.request import ScoringRequest, fail_all
from trt_server.scheduling.work import Work
from trt_server.threads import futures

log = logging.getLogger(__name__)

_FIRST_MEASURED_TOKENS = 128
_MEASURED_SECONDS = 0.1


@dataclass(frozen=True)
class Busy:
    """What an engine's thread waits for.

    Attributes:
        tokens: Those of the batch that the engine runs, padding and prefix included; 0: it measures its peak.
        since: On the clock of time.monotonic.
    """

    tokens: int
    since: float

    @classmethod
    def of(cls, batch: Batch) -> Busy:
        """Return that of a batch whose turn it is now."""
        prefix = 0 if batch.prefix is None else len(batch.prefix)
        return cls(batch.token_ids.size + prefix, time.monotonic())


class EngineWorker:
    """Makes an engine, warms it up, feeds it what is ready and closes it, all in one thread of its own.

    Attributes:
        tokens_per_second: As measured at the start; 0: it was not.
    """

    def __init__(
        self,
        number: int,
        make_engine: Callable[[], Engine],
        ready: ReadyWork,
        queue: RequestQueue,
        assembler: Assembler,
        on_batch: Callable[[int], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        """Prepare the worker on the event loop that will wait for it.

        Args:
            number: The engine's, among those behind its queue.
            make_engine: Makes the engine.
            ready: Where the engine's work comes from.
            queue: Where it came from before; it learns what is computed and how long it takes.
            assembler: Makes work of fewer requests, where callers have gone away, and of those whose turn is
                before that of what is ready. The engine's speed is measured up to the longest row of a batch.
            on_batch: Called for each batch that was computed, with the number of prompts in it, in a thread
                of the worker.
            on_lost: Called with the number and the reason, in the engine's thread, when the engine has failed
                for good. It takes no work from then on.
        """
        self._number = number
        self._make_engine = make_engine
        self._ready = ready
        self._queue = queue
        self._assembler = assembler
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._lost = False
        self._running: deque[tuple[Work, Batch, Submission]] = deque()
        self._busy: Busy | None = None
        self.tokens_per_second = 0.0
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[Engine] = loop.create_future()
        self._finished: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"engine-{number}", daemon=True)
        # Results have a thread of their own while there is a next batch to start: waking the event loop may
        # let other threads run first. Where there is none, waking that thread would only take time.
        self._answering = ThreadPoolExecutor(1, f"answers-{number}")
        # What that thread was given last.
        self._answered: Future[None] | None = None

    @property
    def busy(self) -> Busy | None:
        """What the engine does now; None: it has nothing to do."""
        return self._busy

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
            for work, _, _ in self._running:
                fail_all(work.requests, EngineLostError(reason))
        finally:
            engine.close()
            self._answering.shutdown()
            futures.set_result(self._finished, None)

    def _make_warm_engine(self) -> Engine:
        """Make the engine, run it once in each shape, and measure its speed.

        Raises:
            StartError: A library or the machine fails. Any other error is a fault of this program.
        """
        try:
            engine = self._make_engine()
            _warm_up(engine)
            self._measure_speed(engine)
        except (ScoringError, OSError, MemoryError) as error:
            raise StartError(f"the engine cannot start: {one_line(error) or 'out of memory'}") from error
        return engine

    def _measure_speed(self, engine: Engine) -> None:
        """Run longer and longer prompts, until one takes long enough to be measured."""
        longest = self._assembler.batching.max_row_tokens
        tokens = min(_FIRST_MEASURED_TOKENS, longest)
        while tokens:
            length = padded_length(tokens, engine.length_multiple)
            ids, lengths = np.zeros((1, length), np.int32), np.full(1, tokens, np.int32)
            start = time.perf_counter()
            engine.submit(next_token_batch(ids, lengths, np.zeros((1, 1), np.int32))).wait()
            seconds = time.perf_counter() - start
            self._queue.speed.record(tokens, seconds)
            self.tokens_per_second = tokens / seconds
            is_enough = seconds >= _MEASURED_SECONDS or tokens == longest
            tokens = 0 if is_enough else min(2 * tokens, longest)

    def _serve(self, engine: Engine) -> None:
        running = self._running
        while not self._lost:
            if len(running) < engine.depth:
                work = self._ready.take_another() if running else self._ready.take()
                if isinstance(work, PeakTurn):
                    self._wait_for_all()
                    self._measure_peak(engine, work)
                    continue
                if work is not None:
                    self._submit(engine, self._or_earlier(work))
                    continue
            if not running:
                return
            self._wait()
        self._wait_for_all()

    def _measure_peak(self, engine: Engine, turn: PeakTurn) -> None:
        self._busy = Busy(0, time.monotonic())
        turn.take(engine)
        self._busy = None

    def _or_earlier(self, work: Work) -> Work:
        """Return work whose turn is before this one's, which waits then, or this one."""
        earlier = self._assembler.work_before(work.turn)
        if earlier is None:
            return work
        self._ready.put_back(work)
        return earlier

    def _wait_for_all(self) -> None:
        while self._running:
            self._wait()

    def _submit(self, engine: Engine, work: Work) -> None:
        present = self._queue.begin(work.requests)
        if not present:
            return
        try:
            if len(present) < len(work.requests):
                fewer = self._assembler.work_of(present)
                if fewer is None:
                    return
                work = fewer
            work.submitted_ns = time.perf_counter_ns()
            for batch in work.batches:
                if len(self._running) == engine.depth:
                    self._wait()
                if self._busy is None:
                    self._busy = Busy.of(batch)
                self._running.append((work, batch, engine.submit(batch)))
        except Exception as error:
            self._reject(present, error)
            if not self._running:
                self._busy = None

    def _wait(self) -> None:
        """Wait for the first of the batches that run."""
        work, batch, submission = self._running.popleft()
        try:
            outcome = submission.wait()
            work.outcomes.append(outcome)
            self._record_speed(batch, outcome)
            if len(work.outcomes) == len(work.batches):
                self._hand_out(work)
        except Exception as error:
            self._reject(work.requests, error)
        finally:
            self._busy = Busy.of(self._running[0][1]) if self._running else None

    def _record_speed(self, batch: Batch, outcome: Outcome) -> None:
        busy = self._busy
        assert busy is not None
        tokens = int(batch.lengths.sum())
        if batch.prefix is not None and not outcome.prefix_reused:
            tokens += len(batch.prefix)
        self._queue.speed.record(tokens, time.monotonic() - busy.since)

    def _hand_out(self, work: Work) -> None:
        """Hand out the results, here or in the other thread, in the order in which they were computed."""
        is_free = self._answered is None or self._answered.done()
        if is_free and not self._running and not self._ready.has_work:
            self._answer(work)
        else:
            self._answered = self._answering.submit(self._answer, work)

    def _answer(self, work: Work) -> None:
        """Hand out the results."""
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
