"""Everything that a run asks the servers, phase by phase."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Item
from mmlu_client.figures.ending import DONE, DURATION, EARLY_STOP
from mmlu_client.prompts.prompt import PromptSource
from mmlu_client.prompts.tokenizer import Tokenizer, load_checked, tokenizer_files
from mmlu_client.run.admission import Admission
from mmlu_client.run.early_stop import EarlyStop
from mmlu_client.run.folder_of_run import FolderOfRun, unanswered
from mmlu_client.run.new_manifest import Asking, new_manifest
from mmlu_client.run.phase import Phase, PhaseContext, warm_up
from mmlu_client.run.recorder import Recorder
from mmlu_client.run.resume import seconds_asked
from mmlu_client.run.servers_of_run import access_of, connected_fleet
from mmlu_client.run.session import Session
from mmlu_client.run.session_totals import SessionTotals
from mmlu_client.run.workload import Scorer, Workload
from mmlu_client.rundir.folder import COUNTER_LOG, DEVICE_LOG, RECORDS, make_folder
from mmlu_client.rundir.open_manifest import RunManifest, new_session
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_file import RecordFile
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.watch.metrics import OUTCOMES, SCORED
from mmlu_client.watch.progress import Tally


@dataclass(frozen=True)
class Start:
    """How this start of the client came about.

    Attributes:
        command_line: of its process.
        seconds: when its process started, by the monotonic clock.
        on_open: called when the folder is this run's, before anything is asked.
    """

    command_line: Sequence[str]
    seconds: float
    on_open: Callable[[], None] = lambda: None


class Evaluation:
    """Asks the servers every question of a run.

    Whatever ends it, what was asked until then can be reported.

    Attributes:
        manifest: of the run; None until the folder is this run's.
        end: the totals of this session so far.
        why: why it ended, if no error ended it.
        has_nothing_to_ask: whether earlier sessions left nothing.
    """

    def __init__(self, settings: Settings, workload: Workload, folder: Path, session: Session) -> None:
        self.manifest: RunManifest | None = None
        self.end = SessionTotals()
        self.why = DONE
        self.has_nothing_to_ask = False
        self._settings = settings
        self._workload = workload
        self._folder = folder
        self._session = session
        self._early_stop = EarlyStop(settings.early_stop)
        self._admission = Admission(settings, workload, self._on_admit)
        self._recorder: Recorder | None = None

    @property
    def records(self) -> int:
        """How many records the run has, those of earlier sessions included."""
        return self._recorder.records if self._recorder is not None else 0

    async def run(self, start: Start) -> None:
        """Connect to the servers and ask them everything.

        Raises:
            ClientError: the run cannot begin, or cannot go on.
        """
        settings, say = self._settings, self._session.say
        async with connected_fleet(settings, say, self._admission) as fleet:
            self._settings = settings.within(fleet.window)
            model = fleet.servers[0].model
            if model.notice:
                say(f"{model.id}: {model.notice}")
            if self._workload.note:
                say(self._workload.note)
            tokenizer, files, origin = await self._tokenizer(fleet)
            await self._ask_through(fleet, tokenizer, files, origin, start)

    async def _tokenizer(self, fleet: Fleet) -> tuple[Tokenizer, Mapping[str, bytes], str]:
        """Return the tokenizer, its files and, for the manifest, where it comes from."""
        named, served = self._settings.named_tokenizer, await fleet.tokenizer()
        load = partial(load_checked, named, served, fleet.servers[0].model.id)
        tokenizer = await asyncio.get_running_loop().run_in_executor(self._session.worker, load)
        for note in tokenizer.notes:
            self._session.say(f"{tokenizer.name}: {note}")
        origin = named or f"server {served.fingerprint if served else ''}"
        return tokenizer, tokenizer_files(named, served), origin

    async def _ask_through(
        self, fleet: Fleet, tokenizer: Tokenizer, files: Mapping[str, bytes], origin: str, start: Start
    ) -> None:
        workload, limit = self._workload, self._workload.limit(fleet.max_prompt_tokens)
        self._admission.bound(limit.tokens, fleet.max_scored_positions)
        scorer = Scorer(
            tokenizer=tokenizer,
            tokenizer_files=files,
            limit=limit,
            max_prompt_tokens=fleet.max_prompt_tokens,
            max_positions=fleet.max_scored_positions,
            vocabulary_size=fleet.servers[0].model.vocabulary_size,
        )
        in_worker = asyncio.get_running_loop().run_in_executor(self._session.worker, workload.prompts, scorer)
        builder = await in_worker
        asking = Asking(
            data=workload.data,
            tasks=workload.tasks,
            prompt_format=workload.prompt_format,
            few_shots=workload.few_shots,
            tokenizer_source=origin,
            tokenizer=tokenizer,
            limit=limit,
        )
        make_folder(self._folder)
        with RecordFile(self._folder / RECORDS) as file:
            folder = FolderOfRun(
                self._folder, self._settings, workload.items, self._early_stop, start.on_open
            )
            session = new_session(start.command_line, start.seconds)
            made_of = new_manifest(self._settings, asking, fleet.servers, session)
            self.manifest = folder.open_manifest(made_of)
            if self.manifest is None:
                self._session.say(f"nothing left to ask: these are the figures of {self._folder} as it was")
                self.has_nothing_to_ask = True
                return
            self.manifest.add_servers(fleet.servers)
            await self._ask_phases(fleet, builder, self.manifest, folder, file)

    async def _ask_phases(
        self,
        fleet: Fleet,
        builder: PromptSource,
        manifest: RunManifest,
        folder: FolderOfRun,
        file: RecordFile,
    ) -> None:
        session = self._session
        self._recorder = Recorder(file, self._early_stop, session.progress, session.metrics)
        async with contextlib.AsyncExitStack() as open_endpoints:
            counting = self._counting(manifest.session, open_endpoints)
            context = PhaseContext(
                settings=self._settings,
                fleet=fleet,
                workload=self._workload,
                builder=builder,
                worker=session.worker,
                recorder=self._recorder,
                say=session.say,
                session=manifest.session,
                counting=counting,
            )
            await self._ask_each(context, manifest, folder)
        for server in await fleet.with_peaks_measured_again():
            self._note(manifest, server)

    async def _ask_each(self, context: PhaseContext, manifest: RunManifest, folder: FolderOfRun) -> None:
        """Ask the reference, where it is to be, and the compiled engine."""
        validate, earlier = self._settings.validate, folder.earlier
        if validate:
            await self._ask(context, manifest, VAL, self._workload.items, earlier.phase(VAL))
        questions = folder.validated() if validate else self._workload.items
        self._describe(context, manifest, questions, earlier.phase(INFER))
        await self._ask(context, manifest, INFER, questions, earlier.phase(INFER))

    def _counting(
        self, session: int, open_endpoints: contextlib.AsyncExitStack
    ) -> Callable[[str], contextlib.AbstractAsyncContextManager[object]]:
        """Return what reads the servers' own counters around a phase; without --server-metrics nothing."""
        settings = self._settings
        if not settings.server_metrics:
            return lambda _: contextlib.nullcontext()
        from mmlu_client.service.http.endpoint import HttpEndpoint
        from mmlu_client.watch.server_counters import CounterWatch

        access = access_of(settings, self._session.say)
        endpoints = [HttpEndpoint(address, access) for address in settings.server_metrics]
        for endpoint in endpoints:
            open_endpoints.push_async_callback(endpoint.close)
        path, say = self._folder / COUNTER_LOG, self._session.say
        return lambda phase: CounterWatch(path, endpoints, phase, session, say)

    def _on_admit(self, server: RemoteServer) -> None:
        if self.manifest is not None:
            self._note(self.manifest, server)

    def _note(self, manifest: RunManifest, server: RemoteServer) -> None:
        """Record a server as it is now in the manifest and the metrics.

        Raises:
            NotWrittenError: the manifest cannot be written.
        """
        manifest.add_servers([server])
        self._add_servers_to_metrics(manifest)

    def _add_servers_to_metrics(self, manifest: RunManifest) -> None:
        for entry in manifest.manifest.servers:
            self._session.metrics.add_server(entry.name, entry.session, entry.peak_flops)

    async def _ask(
        self,
        context: PhaseContext,
        manifest: RunManifest,
        name: str,
        questions: Sequence[Item],
        earlier: RecordTable,
    ) -> None:
        """Ask those questions of one phase that have no record yet.

        Args:
            context: what phases share.
            manifest: of the run.
            name: of the phase.
            questions: all of the phase's.
            earlier: the phase's records of earlier sessions.
        """
        before = context.recorder.records
        context.recorder.start(earlier)
        missing = unanswered(questions, earlier)
        tally = Tally(questions, context.fleet.servers[0].model.notice, name)
        tally.add_earlier(earlier)
        phase = Phase(context, name, missing, seconds_asked(manifest.earlier_sessions, earlier, name))
        self._session.metrics.watch_in_flight(lambda: phase.load.in_flight)
        is_asked = bool(missing) and not phase.is_over
        if is_asked:
            await warm_up(context, missing, reference=name == VAL)
        self._session.progress.start(tally)
        try:
            if is_asked:
                await phase.run(self._folder / DEVICE_LOG)
        finally:
            self.end.add(phase)
        if context.recorder.records - before < len(questions):
            self.why = EARLY_STOP if context.recorder.is_enough else DURATION

    def _describe(
        self,
        context: PhaseContext,
        manifest: RunManifest,
        questions: Sequence[Item],
        earlier: RecordTable,
    ) -> None:
        """Tell the metrics what is measured, and what earlier sessions measured."""
        self._session.metrics.describe(
            questions,
            context.fleet.servers[0].model,
            data=self._workload.data.name,
            prompt_format=self._workload.prompt_format,
            batch_size=self._settings.batch_size,
            reuse_prefix=self._settings.reuse_prefix,
            outcomes=OUTCOMES if self._workload.tasks is None else (*OUTCOMES, SCORED),
        )
        self._add_servers_to_metrics(manifest)
        self._session.metrics.add_earlier(earlier)
