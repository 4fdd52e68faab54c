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
from mmlu_client.figures.accuracy import accuracy_of
from mmlu_client.figures.ending import DONE, DURATION, EARLY_STOP
from mmlu_client.prompts.prompt import PromptSource
from mmlu_client.prompts.tokenizer import Tokenizer, load_checked, tokenizer_files
from mmlu_client.run.early_stop import EarlyStop
from mmlu_client.run.new_manifest import Asking, new_manifest
from mmlu_client.run.phase import Phase, PhaseContext, warm_up
from mmlu_client.run.recorder import Recorder
from mmlu_client.run.resume import seconds_asked
from mmlu_client.run.session import Session
from mmlu_client.run.session_totals import SessionTotals
from mmlu_client.run.workload import Scorer, Workload
from mmlu_client.rundir.folder import COUNTER_LOG, DEVICE_LOG, RECORDS, check_holds_no_run, make_folder
from mmlu_client.rundir.manifest import Manifest, read_manifest
from mmlu_client.rundir.manifest import Session as RecordedSession
from mmlu_client.rundir.open_manifest import RunManifest, new_session
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_file import RecordFile
from mmlu_client.rundir.record_table import RecordTable, read_records
from mmlu_client.rundir.whole_lines import reopen_log
from mmlu_client.service.access import Access, in_plain_text
from mmlu_client.service.connecting import Connecting
from mmlu_client.service.fleet import (
    Fleet,
    check_batch_size,
    check_goals,
    check_positions,
    check_prompt_limit,
    check_reference,
)
from mmlu_client.service.model_config import read_model_config
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
        self._recorder: Recorder | None = None
        # Of the longest prompt that is asked; None until the servers are known.
        self._max_prompt_tokens: int | None = None
        # Of the positions that a request may have scored; None: any number.
        self._max_positions: int | None = None

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
        access = self._access()
        if access.token_file is not None and (bare := await in_plain_text(settings.addresses)):
            say(f"the token goes to {', '.join(bare)} as plain text: name addresses with TLS where there are")
        fleet = Fleet(settings.addresses, self._connecting(access), say, self._admit)
        try:
            await fleet.connect(settings.server_timeout)
            self._settings = settings.within(fleet.window)
            model = fleet.servers[0].model
            if model.notice:
                say(f"{model.id}: {model.notice}")
            if self._workload.note:
                say(self._workload.note)
            tokenizer, files, origin = await self._tokenizer(fleet)
            await self._ask_through(fleet, tokenizer, files, origin, start)
        finally:
            await fleet.close()

    def _access(self) -> Access:
        settings = self._settings
        flag = "--token-file" if settings.api_key_file is None else "--api-key-file"
        token_file = settings.token_file or settings.api_key_file
        files = settings.tls_ca, settings.tls_cert, settings.tls_key, token_file
        return Access(*files, self._session.say, flag)

    def _connecting(self, access: Access) -> Connecting:
        settings = self._settings
        return Connecting(
            settings.server_kind,
            access,
            self._session.say,
            settings.model_name,
            read_model_config(settings.model_config) if settings.model_config is not None else None,
            settings.peak_flops,
            settings.request_timeout,
        )

    def _admit(self, server: RemoteServer, first: RemoteServer) -> None:
        """Check that a server can do what the run asks, and record it once the manifest is open.

        Args:
            server: one of the start, one that joins, or one that came back.
            first: the first of the fleet.

        Raises:
            InputError: it cannot, as it was started.
            RunError: it cannot together with the first, or takes too short prompts.
            NotWrittenError: the manifest cannot be written.
        """
        check_batch_size(server, self._settings.batch_size)
        check_goals(server, self._settings.slos)
        self._workload.check(server)
        if self._max_prompt_tokens is not None:
            check_prompt_limit(server, self._max_prompt_tokens)
            if self._workload.tasks is not None:
                check_positions(server, self._max_positions)
        if self._settings.validate:
            check_reference(server, first)
        if self.manifest is not None:
            self._note(self.manifest, server)

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
        settings, workload, model = self._settings, self._workload, fleet.servers[0].model
        limit = workload.limit(fleet.max_prompt_tokens)
        self._max_prompt_tokens, self._max_positions = limit.tokens, fleet.max_scored_positions
        scorer = Scorer(
            tokenizer,
            files,
            limit,
            fleet.max_prompt_tokens,
            self._max_positions,
            model.vocabulary_size,
        )
        in_worker = asyncio.get_running_loop().run_in_executor(self._session.worker, workload.prompts, scorer)
        builder = await in_worker
        asking = Asking(
            workload.data,
            workload.tasks,
            workload.prompt_format,
            workload.few_shots,
            origin,
            tokenizer,
            limit,
        )
        make_folder(self._folder)
        with RecordFile(self._folder / RECORDS) as file:
            self._take_folder(start)
            earlier = read_records(self._folder / RECORDS)
            session = new_session(start.command_line, start.seconds)
            made_of = new_manifest(settings, asking, fleet.servers, session)
            self.manifest = self._open_manifest(made_of, earlier)
            if self.manifest is None:
                self._session.say(f"nothing left to ask: these are the figures of {self._folder} as it was")
                self.has_nothing_to_ask = True
                return
            self.manifest.add_servers(fleet.servers)
            await self._ask_phases(fleet, builder, self.manifest, earlier, file)

    def _take_folder(self, start: Start) -> None:
        """Make the folder this run's, now that no other client can write its records."""
        if self._settings.resume is None:
            # Another client may have had the folder since this one looked; now none can.
            check_holds_no_run(self._folder)
        start.on_open()
        for name in (DEVICE_LOG, COUNTER_LOG):
            reopen_log(self._folder / name, keep=self._settings.resume is not None)

    def _open_manifest(self, manifest: Manifest, earlier: RecordTable) -> RunManifest | None:
        """Begin this session's part of the manifest.

        Returns:
            The manifest; None where earlier sessions left nothing to ask, so that their figures stay.

        Raises:
            InputError: the run that is to be resumed is another one.
        """
        before = None
        if self._settings.resume is not None:
            before = read_manifest(self._folder)
            before.check_same_run(self._folder, manifest)
            if not self._is_something_left(earlier, before.sessions):
                return None
        return RunManifest(self._folder, manifest, before)

    def _is_something_left(self, earlier: RecordTable, sessions: Sequence[RecordedSession]) -> bool:
        """Whether earlier sessions left anything to ask."""

        def asks(name: str, questions: Sequence[Item]) -> bool:
            mine = earlier.phase(name)
            spent = round(seconds_asked(sessions, mine, name) * 1e9)
            is_over = self._early_stop.is_met_by(accuracy_of(mine)) or self._settings.load.is_spent(spent)
            return bool(_unanswered(questions, mine)) and not is_over

        if not self._settings.validate:
            return asks(INFER, self._workload.items)
        return asks(VAL, self._workload.items) or asks(INFER, self._validated())

    async def _ask_phases(
        self,
        fleet: Fleet,
        builder: PromptSource,
        manifest: RunManifest,
        earlier: RecordTable,
        file: RecordFile,
    ) -> None:
        settings, session = self._settings, self._session
        self._recorder = Recorder(file, self._early_stop, session.progress, session.metrics)
        async with contextlib.AsyncExitStack() as open_endpoints:
            counting = self._counting(manifest.session, open_endpoints)
            context = PhaseContext(
                settings,
                fleet,
                self._workload,
                builder,
                session.worker,
                self._recorder,
                session.say,
                manifest.session,
                counting,
            )
            await self._ask_each(context, manifest, earlier)
        for server in await fleet.with_peaks_measured_again():
            self._note(manifest, server)

    async def _ask_each(self, context: PhaseContext, manifest: RunManifest, earlier: RecordTable) -> None:
        """Ask the reference, where it is to be, and the compiled engine."""
        validate = self._settings.validate
        if validate:
            await self._ask(context, manifest, VAL, self._workload.items, earlier.phase(VAL))
        questions = self._validated() if validate else self._workload.items
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

        access = self._access()
        endpoints = [HttpEndpoint(address, access) for address in settings.server_metrics]
        for endpoint in endpoints:
            open_endpoints.push_async_callback(endpoint.close)
        path, say = self._folder / COUNTER_LOG, self._session.say
        return lambda phase: CounterWatch(path, endpoints, phase, session, say)

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
        missing = _unanswered(questions, earlier)
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

    def _validated(self) -> list[Item]:
        """Return the questions that the reference was asked: fewer than all where that ended early."""
        asked = set(read_records(self._folder / RECORDS).phase(VAL).questions())
        return [question for question in self._workload.items if question.key in asked]


def _unanswered(questions: Sequence[Item], records: RecordTable) -> list[Item]:
    """Those that have no record."""
    answered = set(records.questions())
    return [question for question in questions if question.key not in answered]
