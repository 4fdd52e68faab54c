"""One phase of a run: its questions asked of one engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Item
from mmlu_client.data.repeated import Repeated
from mmlu_client.load.answer import Answer, Collector
from mmlu_client.load.load import Load
from mmlu_client.load.load_limits import LoadLimits
from mmlu_client.load.pacing import ClosedLoop
from mmlu_client.load.source import RequestSource
from mmlu_client.prompts.prompt import PromptSource, Unaskable
from mmlu_client.run.recorder import Recorder
from mmlu_client.run.workload import Workload
from mmlu_client.rundir.answered import Answers
from mmlu_client.rundir.record import VAL, request_of
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.messages import Reply
from mmlu_client.watch.device_watch import DeviceWatch
from mmlu_client.watch.loop_watch import LoopWatch


@dataclass(frozen=True)
class PhaseContext:
    """What all phases of a session share.

    Attributes:
        settings: of the run.
        fleet: the servers.
        workload: what is asked, and how it is recorded.
        builder: builds the prompts.
        worker: the one thread that they are built in.
        recorder: takes the records.
        say: prints a line for the person.
        session: the number of this start of the client, from 0.
        counting: reads what the servers count before and after a phase, whose name it takes.
    """

    settings: Settings
    fleet: Fleet
    workload: Workload
    builder: PromptSource
    worker: ThreadPoolExecutor
    recorder: Recorder
    say: Callable[[str], None]
    session: int
    counting: Callable[[str], AbstractAsyncContextManager[object]]


class Phase:
    """Asks questions of the compiled engine, or, in VAL, of the reference.

    Attributes:
        name: INFER or VAL.
        seconds: how long it asked.
        lost_readings: how many readings of devices could not be written meanwhile.
        watch: how busy the client's own event loop was.
        load: sends the requests.
    """

    def __init__(
        self,
        context: PhaseContext,
        name: str,
        questions: Sequence[Item],
        spent_seconds: float,
    ) -> None:
        """Prepare to ask these questions.

        Args:
            context: what all phases share.
            name: INFER or VAL.
            questions: those without a record.
            spent_seconds: how much of --benchmark-duration earlier sessions took.
        """
        self._context = context
        self._spent_ns = round(spent_seconds * 1e9)
        self.name = name
        self.seconds = 0.0
        self.lost_readings = 0
        self.watch = LoopWatch()
        self._answers = Answers()
        self.load = self._load(questions)

    async def run(self, device_log: Path) -> None:
        """Ask the questions, and log what the devices tell meanwhile.

        Raises:
            RunError: the servers, the disk or the network let the run down.
            InputError: prompts could not be built.
        """
        context = self._context
        devices = DeviceWatch(device_log, context.fleet.servers, self.name, context.session, context.say)
        try:
            counting = context.counting(self.name)
            async with counting, devices, context.fleet.watched(self.load.join), self.watch:
                start = time.monotonic()
                try:
                    await self.load.run()
                finally:
                    self.seconds = time.monotonic() - start
        finally:
            self.lost_readings = devices.lost

    def _load(self, questions: Sequence[Item]) -> Load:
        context, settings = self._context, self._context.settings
        source = RequestSource(
            context.builder,
            questions,
            settings.batch_size,
            context.worker,
            self._record_unaskable,
            id_prefix=f"{self.name}-{context.session}-",
            reference=self.name == VAL,
            reuse_prefix=settings.reuse_prefix and self.name != VAL,
            shuffled=settings.is_shuffled,
            max_positions=context.fleet.max_scored_positions,
        )
        return Load(
            fleet=context.fleet,
            source=source,
            pacing=settings.load.pacing(settings.seed),
            limits=LoadLimits(
                server_timeout=settings.server_timeout,
                request_timeout=settings.request_timeout,
                duration_ns=self._left_ns,
            ),
            collector=Collector(self._record, lambda: context.recorder.is_enough),
            say=context.say,
        )

    def _record(self, answer: Answer) -> None:
        context, name, session = self._context, self.name, self._context.session
        context.recorder.add_answer(
            [context.workload.record(item, name, session) for item in self._answers.add(answer)],
            request_of(answer) if isinstance(answer.outcome, Reply) else None,
            name,
            session,
            self.load.elapsed_ns / 1e9,
        )

    def _record_unaskable(self, unaskable: Unaskable) -> None:
        context = self._context
        context.recorder.add([context.workload.record_of_unaskable(unaskable, self.name, context.session)])

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to ask: earlier sessions asked enough, or took all the time."""
        return self._context.recorder.is_enough or self._context.settings.load.is_spent(self._spent_ns)

    @property
    def _left_ns(self) -> int | None:
        """How much of --benchmark-duration is left, in nanoseconds; None where there is no such limit."""
        duration = self._context.settings.load.duration
        return None if duration is None else round(duration * 1e9) - self._spent_ns


async def warm_up(context: PhaseContext, questions: Sequence[Item], *, reference: bool) -> None:
    """Ask as many requests as --warmup-requests says, and forget the answers.

    Args:
        context: what all phases share.
        questions: what is asked, from the first on, and from the first again where there are too few.
        reference: whether the reference engine is asked.
    """
    settings = context.settings
    count = settings.load.warmup_requests * settings.batch_size
    if not count or not questions:
        return
    source = RequestSource(
        context.builder,
        Repeated(questions, count),
        settings.batch_size,
        context.worker,
        lambda _: None,
        id_prefix="warmup-",
        reference=reference,
        max_positions=context.fleet.max_scored_positions,
    )
    await Load(
        fleet=context.fleet,
        source=source,
        pacing=ClosedLoop(settings.load.concurrency),
        limits=LoadLimits(server_timeout=settings.server_timeout, request_timeout=settings.request_timeout),
        collector=Collector(lambda _: None),
        say=context.say,
    ).run()
