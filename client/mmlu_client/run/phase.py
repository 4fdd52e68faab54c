"""One phase of a run: its questions asked of one engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.data.question import Question
from mmlu_client.load.lane import Server
from mmlu_client.load.load import Load
from mmlu_client.load.pacing import ClosedLoop
from mmlu_client.load.source import RequestSource
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.run.recorder import Recorder
from mmlu_client.rundir.device_log import DeviceLog
from mmlu_client.rundir.record import VAL, Record, record_of_unaskable, records_of
from mmlu_client.service.fleet import Fleet
from mmlu_client.watch.self_check import LoopWatch


@dataclass(frozen=True)
class Bench:
    """What phases work with. session: which start this is, from 0.

    on_join, on_return: told of a server that joins, and of one that comes back; the latter may refuse it.
    """

    settings: Settings
    fleet: Fleet
    on_join: Callable[[Server], None]
    on_return: Callable[[Server], None]
    builder: PromptBuilder
    worker: ThreadPoolExecutor
    recorder: Recorder
    say: Callable[[str], None]
    session: int

    @property
    def servers(self) -> Sequence[Server]:
        return self.fleet.servers


class Phase:
    """Asks questions of the compiled engine, or, in VAL, of the reference.

    seconds: how long it did. lost_readings: those of devices that could not be written meanwhile.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        questions: Sequence[Question],
        spent_seconds: float,
    ) -> None:
        """spent_seconds: of --benchmark-duration, what earlier sessions took."""
        self._bench = bench
        self._spent_ns = round(spent_seconds * 1e9)
        self.name = name
        self.seconds = 0.0
        self.lost_readings = 0
        self.watch = LoopWatch()
        self.load = self._load(questions)

    async def run(self, device_log: Path) -> None:
        """Raises RunError, InputError."""
        bench = self._bench
        log = DeviceLog(device_log, bench.servers, self.name, bench.session, bench.say)
        try:
            async with log, bench.fleet.watched(self._join), self.watch:
                start = time.monotonic()
                try:
                    await self.load.run()
                finally:
                    self.seconds = time.monotonic() - start
        finally:
            self.lost_readings = log.lost

    def _load(self, questions: Sequence[Question]) -> Load:
        bench, plan, seed = self._bench, self._bench.settings.load, self._bench.settings.seed
        name, session = self.name, bench.session
        source = RequestSource(
            bench.builder,
            questions,
            bench.settings.batch_size,
            bench.worker,
            lambda unaskable: self._keep([record_of_unaskable(unaskable, name, session)]),
            id_prefix=f"{name}-{session}-",
            reference=name == VAL,
            reuse_prefix=bench.settings.reuse_prefix and name != VAL,
            shuffled=bench.settings.is_shuffled,
        )
        return Load(
            bench.servers,
            source,
            plan.pacing(seed),
            bench.settings.server_timeout,
            lambda answer: self._keep(records_of(answer, name, session)),
            bench.on_return,
            lambda: bench.recorder.is_enough,
            bench.say,
            self._left_ns,
        )

    def _keep(self, records: Sequence[Record]) -> None:
        self._bench.recorder.add(records, self.load.elapsed_ns / 1e9)

    def _join(self, server: Server) -> None:
        self._bench.on_join(server)
        self.load.join(server)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be asked: what earlier starts left is enough, or they took all the time."""
        return self._bench.recorder.is_enough or self._bench.settings.load.is_spent(self._spent_ns)

    @property
    def _left_ns(self) -> int | None:
        """Of --benchmark-duration."""
        duration = self._bench.settings.load.duration
        return None if duration is None else round(duration * 1e9) - self._spent_ns


async def warm_up(bench: Bench, questions: Sequence[Question], *, reference: bool) -> None:
    """Ask the first requests once, over and over where there are fewer, and forget the answers."""
    settings = bench.settings
    count = settings.load.warmup_requests * settings.batch_size
    if not count or not questions:
        return
    source = RequestSource(
        bench.builder,
        list(islice(cycle(questions), count)),
        settings.batch_size,
        bench.worker,
        lambda _: None,
        id_prefix="warmup-",
        reference=reference,
    )
    pacing = ClosedLoop(settings.load.concurrency)
    await Load(
        bench.servers,
        source,
        pacing,
        settings.server_timeout,
        lambda _: None,
        bench.on_return,
        lambda: False,
        bench.say,
    ).run()
