"""The engines behind one queue, one on each device, and the thread that assembles their next batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trt_common.one_line import reason_of

from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import Engine, EngineDescription
from trt_server.engines.prefix_store import PrefixStore
from trt_server.errors import EngineLostError
from trt_server.scheduling.assembler import Assembler
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.peak_turn import PeakTurn
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.ready import ReadyWork
from trt_server.scheduling.request import ScoringRequest, fail_all
from trt_server.scheduling.worker import EngineWorker

log = logging.getLogger(__name__)


class EngineGroup:
    """Feeds equal engines from one queue: whichever is free takes the next batch.

    Batches are assembled while the engines compute. Where one engine of several is lost, what was accepted is
    answered by the others and new work is refused, so that a supervisor's restart brings all of them back.

    Attributes:
        prefixes: The prefix store of each engine; None: the engine keeps none. Empty before the start.
        max_candidates: Of a prompt, for each engine; None: any number.
    """

    def __init__(
        self,
        make_engines: Sequence[Callable[[], Engine]],
        devices: Sequence[str],
        queue: RequestQueue,
        batching: Batching,
        on_batch: Callable[[int], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Prepare the group on the event loop that will wait for it.

        Args:
            make_engines: Makes each engine, in the thread that will own it.
            devices: What each engine computes on, for the log.
            queue: Where the requests come from.
            batching: What is merged into one batch.
            on_batch: Called in a thread of the group for each batch that was computed, with the number of
                prompts in it.
            on_lost: Called on the event loop with the reason for each engine that has failed for good.
        """
        self._devices = devices
        self._queue = queue
        self._assembler = Assembler(queue, batching)
        self._on_lost = on_lost
        self._reason = ""
        self.prefixes: list[PrefixStore[Any] | None] = []
        self.max_candidates: int | None = None
        self.max_scored_positions: int | None = None
        self._loop = asyncio.get_running_loop()
        self._ready = ReadyWork(len(make_engines))
        self._workers = [
            EngineWorker(number, make, self._ready, queue, self._assembler, on_batch, self._lose)
            for number, make in enumerate(make_engines)
        ]
        queue.engines = len(self._workers)
        self._assembling = threading.Thread(target=self._assemble, name="assembler", daemon=True)

    async def start(self) -> list[EngineDescription]:
        """Make the engines at the same time and warm them up.

        Raises:
            StartError: One of them cannot start. It is raised when all others are closed.
        """
        made = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
        engines = [engine for engine in made if not isinstance(engine, BaseException)]
        if len(engines) < len(made):
            self._ready.close()
            await self.finish()
            raise next(error for error in made if isinstance(error, BaseException))
        first = engines[0]
        self._ready.make_room(first.depth)
        self.max_candidates, self.max_scored_positions = first.max_candidates, first.max_scored_positions
        self._assembler.batching = replace(
            self._assembler.batching,
            length_multiple=first.length_multiple,
            max_scored_positions=first.max_scored_positions,
        ).for_speed(min(worker.tokens_per_second for worker in self._workers))
        self.prefixes = [engine.prefixes for engine in engines]
        self._assembling.start()
        return [engine.description for engine in engines]

    @property
    def batching(self) -> Batching:
        """What is merged into one batch, and how much that may be."""
        return self._assembler.batching

    def stalled(self, timeout: float, factor: float) -> str | None:
        """Return what is wrong where a batch takes many times what it should; None where none does.

        Args:
            timeout: Seconds that a batch takes at least before that is wrong.
            factor: How many times what it should.
        """
        for device, worker in zip(self._devices, self._workers, strict=True):
            if (busy := worker.busy) is None:
                continue
            seconds, should = time.monotonic() - busy.since, self._queue.speed.most_seconds(busy.tokens)
            if seconds > max(timeout, factor * should):
                what = f"a batch of {busy.tokens} tokens" if busy.tokens else "the measurement of the peak"
                return f"{what} has run for {seconds:.0f} s on {device}, where {should:.2g} s are usual"
        return None

    async def measure_peak(self) -> PeakFlops:
        """Measure the peak of one of the engines, between two of its batches.

        Raises:
            ScoringError: It cannot be measured, or no engine is left.
        """
        turn = PeakTurn()
        if not self._ready.put(turn):
            raise EngineLostError(self._reason or "the engines are being closed")
        return await turn.peak

    async def finish(self) -> None:
        """Wait until all accepted work is answered and the engines are closed; the queue must be draining."""
        for worker in self._workers:
            await worker.finish()

    def _assemble(self) -> None:
        try:
            while self._ready.wait_for_room() and (requests := self._queue.take(self.batching)):
                self._make_ready(requests)
        except Exception as error:
            log.exception("the assembler failed")
            reason = f"the assembler failed: {reason_of(error)}"
            self._take_nothing(reason)
            fail_all(self._queue.give_up(), EngineLostError(reason))
        finally:
            self._ready.close()

    def _make_ready(self, requests: Sequence[ScoringRequest]) -> None:
        work = self._assembler.work_of(requests)
        if work is not None and not self._ready.put(work):
            fail_all(requests, EngineLostError(self._reason))

    def _lose(self, number: int, reason: str) -> None:
        log.error("engine lost on %s: %s", self._devices[number], reason)
        self._take_nothing(reason)
        if (left := self._ready.leave()) is not None:
            error = EngineLostError(reason)
            for waiting in left:
                if isinstance(waiting, PeakTurn):
                    waiting.refuse(error)
                else:
                    fail_all(waiting.requests, error)
            fail_all(self._queue.give_up(), error)

    def _take_nothing(self, reason: str) -> None:
        """Refuse new work from now on; what was accepted is still answered."""
        self._reason = reason
        self._queue.refuse(reason)
        self._loop.call_soon_threadsafe(self._on_lost, reason)
