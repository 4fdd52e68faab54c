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
class PhaseContext:
    """What phases work with. session: which start this is, from 0."""

    settings: Settings
    fleet: Fleet
    builder: PromptBuilder
    worker: ThreadPoolExecutor
    recorder: Recorder
    say: Callable[[str], None]
    session: int


class Phase:
    """Asks questions of the compiled engine, or, in VAL, of the reference.

    seconds: how long it did. lost_readings: those of devices that could not be written meanwhile.
    """

    def __init__(
        self,
        context: PhaseContext,
        name: str,
        questions: Sequence[Question],
        spent_seconds: float,
    ) -> None:
        """spent_seconds: of --benchmark-duration, what earlier sessions took."""
        self._context = context
        self._spent_ns = round(spent_seconds * 1e9)
        self.name = name
        self.seconds = 0.0
        self.lost_readings = 0
        self.watch = LoopWatch()
        self.load = self._load(questions)

    async def run(self, device_log: Path) -> None:
        """Raises RunError, InputError."""
        context = self._context
        log = DeviceLog(device_log, context.fleet.servers, self.name, context.session, context.say)
        try:
            async with log, context.fleet.watched(self.load.join), self.watch:
                start = time.monotonic()
                try:
                    await self.load.run()
                finally:
                    self.seconds = time.monotonic() - start
        finally:
            self.lost_readings = log.lost

    def _load(self, questions: Sequence[Question]) -> Load:
        context, plan, seed = self._context, self._context.settings.load, self._context.settings.seed
        name, session = self.name, context.session
        source = RequestSource(
            context.builder,
            questions,
            context.settings.batch_size,
            context.worker,
            lambda unaskable: self._keep([record_of_unaskable(unaskable, name, session)]),
            id_prefix=f"{name}-{session}-",
            reference=name == VAL,
            reuse_prefix=context.settings.reuse_prefix and name != VAL,
            shuffled=context.settings.is_shuffled,
        )
        return Load(
            context.fleet,
            source,
            plan.pacing(seed),
            context.settings.server_timeout,
            lambda answer: self._keep(records_of(answer, name, session)),
            lambda: context.recorder.is_enough,
            context.say,
            self._left_ns,
        )

    def _keep(self, records: Sequence[Record]) -> None:
        self._context.recorder.add(records, self.load.elapsed_ns / 1e9)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be asked: what earlier starts left is enough, or they took all the time."""
        return self._context.recorder.is_enough or self._context.settings.load.is_spent(self._spent_ns)

    @property
    def _left_ns(self) -> int | None:
        """Of --benchmark-duration."""
        duration = self._context.settings.load.duration
        return None if duration is None else round(duration * 1e9) - self._spent_ns


async def warm_up(context: PhaseContext, questions: Sequence[Question], *, reference: bool) -> None:
    """Ask the first requests once, over and over where there are fewer, and forget the answers."""
    settings = context.settings
    count = settings.load.warmup_requests * settings.batch_size
    if not count or not questions:
        return
    source = RequestSource(
        context.builder,
        list(islice(cycle(questions), count)),
        settings.batch_size,
        context.worker,
        lambda _: None,
        id_prefix="warmup-",
        reference=reference,
    )
    pacing = ClosedLoop(settings.load.concurrency)
    await Load(
        context.fleet,
        source,
        pacing,
        settings.server_timeout,
        lambda _: None,
        lambda: False,
        context.say,
    ).run()
