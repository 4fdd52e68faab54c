"""One measured run, start to report."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from mmlu_client.config.settings import Settings
from mmlu_client.data.benchmark import Benchmark, load_benchmark
from mmlu_client.data.question_file import Selection
from mmlu_client.errors import ClientError, InputError, NotWrittenError, RunError, StoppedError
from mmlu_client.figures.accuracy import accuracy_of
from mmlu_client.figures.ending import DONE, DURATION, EARLY_STOP
from mmlu_client.figures.summary import Summary, summarize
from mmlu_client.load.lane import Server
from mmlu_client.pages.page import DrawnChart
from mmlu_client.pages.run_page import drawn_charts
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.limit import prompt_limit
from mmlu_client.prompts.tokenizer import Tokenizer, load_checked
from mmlu_client.report.lm_eval_files import write_lm_eval_files
from mmlu_client.report.outcome import (
    figure_files,
    flaw,
    joined,
    loss,
    noted,
    print_text,
    printed,
    write_files,
)
from mmlu_client.run.early_stop import EarlyStop
from mmlu_client.run.phase import Bench, Phase, in_order, warm_up
from mmlu_client.run.resume import check_same_run, read_manifest, seconds_asked
from mmlu_client.rundir.device_log import reopen_device_log
from mmlu_client.rundir.finished_run import FinishedRun, read_run
from mmlu_client.rundir.folder import (
    DEVICE_LOG,
    RECORDS,
    check_holds_no_run,
    choose_output_folder,
    make_folder,
)
from mmlu_client.rundir.manifest import Asking, manifest, session
from mmlu_client.rundir.open_manifest import RunManifest, SessionEnd
from mmlu_client.rundir.record import INFER, VAL, Record
from mmlu_client.rundir.record_file import RecordFile
from mmlu_client.rundir.record_table import RecordTable, read_records
from mmlu_client.service.fleet import Fleet, check_batch_size, check_prompt_limit, check_reference
from mmlu_client.watch.metrics import Metrics
from mmlu_client.watch.metrics_server import MetricsServer
from mmlu_client.watch.progress import Progress, Tally, make_progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Given a run, its figures, and whether they are in its folder: prints them. Raises RunError.
Show: TypeAlias = Callable[[FinishedRun, Summary, bool], None]


def run(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure and report. started: monotonic seconds, the process's start.

    Raises ClientError, after the report of what there is, for whatever ended the run or failed in it.
    """
    folder = settings.resume or choose_output_folder(settings.output)
    benchmark = load_benchmark(settings.data)
    measured = Run(settings, command_line, started, benchmark, folder, shown_as(settings))
    try:
        asyncio.run(measured.measure())
    except ClientError as error:
        if measured.is_left_over and not isinstance(error, InputError):
            error.add(f"--resume {folder} goes on with it")
        raise


def shown_as(settings: Settings) -> Show:
    """Printed as the flags ask."""

    def show(run: FinishedRun, summary: Summary, is_written: bool) -> None:
        print_text(printed(run, summary, settings.format, is_whole=settings.verbose, is_written=is_written))

    return show


class Run:
    """The state of one run: what was asked so far can be reported whenever it ends.

    finished: what its figures were made of, once they were; None before.
    """

    def __init__(
        self,
        settings: Settings,
        command_line: Sequence[str],
        started: float,
        benchmark: Benchmark,
        folder: Path,
        show: Show,
        opened: Callable[[], None] | None = None,
    ) -> None:
        """opened: called when the folder is this run's, before anything is asked.

        Raises InputError where subjects or shots are not in the benchmark.
        """
        self._show = show
        self._opened = opened
        self._settings = settings
        self._command_line = command_line
        self._started = started
        self._benchmark = benchmark
        self._folder = folder
        self._subjects = benchmark.pick_subjects(settings.subjects)
        self._questions = in_order(benchmark.questions(self._subjects, settings.limit), settings)
        self._shots = benchmark.shots(self._subjects, settings.few_shots)
        self._progress: Progress = make_progress(is_whole=settings.verbose)
        self._metrics = Metrics()
        self._manifest: RunManifest | None = None
        self._end = SessionEnd()
        self._phase: Phase | None = None
        # Of the longest prompt that is asked; None until the servers are known.
        self._max_prompt_tokens: int | None = None
        self._early_stop = EarlyStop(settings.early_stop)
        self._records = 0
        self._why = DONE
        self._is_over_already = False
        self._stopped_by: signal.Signals | None = None
        self._is_broken_off = False
        self.finished: FinishedRun | None = None

    @property
    def is_left_over(self) -> bool:
        """Whether some questions have their answers, and others are still to be asked."""
        run = self.finished
        return self._is_broken_off and run is not None and 0 < len(run.records) < run.to_answer

    async def measure(self) -> None:
        """Ask everything and report what there is. Raises ClientError."""
        worker = ThreadPoolExecutor(1, "prompts")
        with contextlib.ExitStack() as stack:
            stack.callback(worker.shutdown, wait=False, cancel_futures=True)
            scraped = self._serve_metrics(stack)
            asking = asyncio.create_task(self._ask_all(worker))
            self._stop_on_signals(asking)
            trouble = await self._ending(asking)
            if self._is_over_already and trouble is None:
                finished = read_run(self._folder)
                self._print(finished, drawn_charts(finished), None, [])
                return
            if self._manifest is None or not self._records:
                raise trouble or RunError(self._why_nothing_was_asked())
            try:
                self._report(self._manifest, trouble)
            finally:
                await self._show_last_figures(scraped)

    def _why_nothing_was_asked(self) -> str:
        why = f"none of the {len(self._questions):,} questions was asked"
        duration = self._settings.load.duration
        return why if duration is None else f"{why}: --benchmark-duration {duration:g} s was over before"

    def _serve_metrics(self, stack: contextlib.ExitStack) -> MetricsServer | None:
        """Raises InputError."""
        settings = self._settings
        if settings.metrics_port is None:
            return None
        server = MetricsServer(self._metrics.registry, settings.metrics_host, settings.metrics_port)
        stack.callback(server.close)
        self._progress.say(f"metrics at http://{settings.metrics_host}:{server.port}/metrics")
        return server

    async def _show_last_figures(self, scraped: MetricsServer | None) -> None:
        """Until Prometheus has them, or a signal comes."""
        if scraped is None or not scraped.patience or self._stopped_by is not None:
            return
        self._progress.say(
            f"up to {scraped.patience:.0f} s more for Prometheus to read the last figures (Ctrl-C: not)"
        )
        await scraped.wait_for_last_scrapes(lambda: self._stopped_by is not None)

    def _stop_on_signals(self, asking: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            self._stopped_by = number
            asking.cancel()
            for each in SIGNALS:  # the next one ends the process at once
                loop.remove_signal_handler(each)

        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)

    async def _ending(self, asking: asyncio.Task[None]) -> ClientError | None:
        """Wait for the end of the asking: what went wrong, None where nothing did."""
        try:
            await asking
        except ClientError as error:
            return error
        except asyncio.CancelledError:
            if self._stopped_by is None:
                raise
            return StoppedError(self._stopped_by)
        finally:
            self._progress.stop()
        return None

    async def _ask_all(self, worker: ThreadPoolExecutor) -> None:
        settings = self._settings
        fleet = Fleet(settings.addresses, settings.tls_ca, self._progress.say, self._check)
        try:
            await fleet.connect(settings.server_timeout)
            self._settings = settings.within(fleet.places)
            model = fleet.servers[0].model
            if model.notice:
                self._progress.say(f"{model.id}: {model.notice}")
            tokenizer, origin = await self._tokenizer(fleet.servers[0], worker)
            await self._ask_through(fleet, worker, tokenizer, origin)
        finally:
            await fleet.close()

    def _check(self, server: Server, first: Server) -> None:
        """Whether it can do what is asked, beside the first one. Raises InputError, RunError."""
        check_batch_size(server, self._settings.batch_size)
        if self._max_prompt_tokens is not None:
            check_prompt_limit(server, self._max_prompt_tokens)
        if self._settings.validate:
            check_reference(server, first)

    async def _tokenizer(self, server: Server, worker: ThreadPoolExecutor) -> tuple[Tokenizer, str]:
        """The tokenizer and, for the manifest, where it comes from."""
        named, served = self._settings.tokenizer, await server.connection.tokenizer()
        load = partial(load_checked, named, served, server.model.id)
        tokenizer = await asyncio.get_running_loop().run_in_executor(worker, load)
        for note in tokenizer.notes:
            self._progress.say(f"{tokenizer.name}: {note}")
        return tokenizer, named or f"server {served.fingerprint if served else ''}"

    async def _ask_through(
        self, fleet: Fleet, worker: ThreadPoolExecutor, tokenizer: Tokenizer, origin: str
    ) -> None:
        settings, model = self._settings, fleet.servers[0].model
        style = FORMATS[settings.prompt_format]
        limit = prompt_limit(style, settings.max_prompt_tokens, fleet.max_prompt_tokens)
        self._max_prompt_tokens = limit.tokens
        builder = PromptBuilder(tokenizer, style, self._shots, limit.tokens, model.vocabulary_size)
        make_folder(self._folder)
        with RecordFile(self._folder / RECORDS) as file:
            if settings.resume is None:
                # Another client may have had the folder since this one looked; now none can.
                check_holds_no_run(self._folder)
            if self._opened is not None:
                self._opened()
            reopen_device_log(self._folder / DEVICE_LOG, keep=settings.resume is not None)
            asking = Asking(self._benchmark, self._subjects, len(self._questions), origin, tokenizer, limit)
            earlier = read_records(self._folder / RECORDS)
            self._manifest = self._opened_manifest(fleet, asking, earlier)
            if self._manifest is None:
                self._progress.say(f"nothing left to ask: these are the figures of {self._folder} as it was")
                self._is_over_already = True
                return
            say, session = self._progress.say, self._manifest.session
            note = partial(self._note_server, self._manifest)
            take_again = partial(self._take_again, fleet, note)
            bench = Bench(settings, fleet, note, take_again, builder, worker, say, session)
            if settings.validate:
                await self._ask(bench, self._manifest, VAL, self._questions, earlier, file)
            questions = self._validated() if settings.validate else self._questions
            await self._ask(bench, self._manifest, INFER, questions, earlier, file)
            for server in await fleet.with_peaks_measured_again():
                note(server)

    def _opened_manifest(self, fleet: Fleet, asking: Asking, earlier: RecordTable) -> RunManifest | None:
        """None where earlier sessions left nothing to ask: their figures stay what they are.

        Raises InputError where the run that is to be gone on with is another one.
        """
        made_of = manifest(self._settings, asking, fleet.servers)
        before = None
        if self._settings.resume is not None:
            before = read_manifest(self._folder)
            check_same_run(self._folder, before, made_of)
            if not self._is_something_left(earlier, before["sessions"]):
                return None
        opened = RunManifest(self._folder, made_of, session(self._command_line, self._started), before)
        opened.add_servers(fleet.servers)
        return opened

    def _is_something_left(self, earlier: RecordTable, sessions: Sequence[dict[str, Any]]) -> bool:
        """Whether this session would ask anything after those before it."""

        def asks(name: str, questions: Selection) -> bool:
            mine = earlier.phase(name)
            spent = round(seconds_asked(sessions, mine, name) * 1e9)
            is_over = self._early_stop.is_met_by(accuracy_of(mine)) or self._settings.load.is_spent(spent)
            return bool(questions.without(set(mine.questions()))) and not is_over

        if not self._settings.validate:
            return asks(INFER, self._questions)
        return asks(VAL, self._questions) or asks(INFER, self._validated())

    def _take_again(self, fleet: Fleet, note: Callable[[Server], None], server: Server) -> None:
        """One that came back. Raises ClientError where it cannot do what is asked any more."""
        self._check(server, fleet.servers[0])
        note(server)

    def _note_server(self, manifest: RunManifest, server: Server) -> None:
        """One more, or one as it came back, in the middle of the run."""
        manifest.add_servers([server])
        self._add_servers_to_metrics(manifest)

    def _add_servers_to_metrics(self, manifest: RunManifest) -> None:
        for entry in manifest.servers:
            self._metrics.add_server(entry["name"], entry["session"], entry["peak_flops"])

    async def _ask(
        self,
        bench: Bench,
        manifest: RunManifest,
        name: str,
        questions: Selection,
        earlier: RecordTable,
        file: RecordFile,
    ) -> None:
        """Ask those questions of one phase that have no record yet."""
        mine = earlier.phase(name)
        before = self._records
        self._records += len(mine)
        self._early_stop.start(accuracy_of(mine))
        done = set(mine.questions())
        missing = questions.without(done)
        tally = Tally(questions, bench.servers[0].model.notice, name)
        tally.add_earlier(mine)
        if name == INFER:
            self._describe(bench, manifest, questions, mine)
        spent = seconds_asked(manifest.earlier_sessions, mine, name)
        keep = partial(self._keep, file)
        self._phase = Phase(bench, name, missing, keep, lambda: self._early_stop.is_met, spent)
        load = self._phase.load
        self._metrics.watch_in_flight(lambda: load.in_flight)
        is_asked = bool(missing) and not self._phase.is_over
        if is_asked:
            await warm_up(bench, missing, reference=name == VAL)
        self._progress.start(tally)
        try:
            if is_asked:
                await self._phase.run(self._folder / DEVICE_LOG)
        finally:
            self._end.add(self._phase)
        if self._records - before < len(questions):
            self._why = EARLY_STOP if self._early_stop.is_met else DURATION

    def _describe(
        self, bench: Bench, manifest: RunManifest, questions: Selection, earlier: RecordTable
    ) -> None:
        self._metrics.describe(
            questions,
            bench.servers[0].model,
            data=self._benchmark.name,
            prompt_format=self._settings.prompt_format,
            batch_size=self._settings.batch_size,
            reuse_prefix=self._settings.reuse_prefix,
        )
        self._add_servers_to_metrics(manifest)
        self._metrics.add_earlier(earlier)

    def _validated(self) -> Selection:
        """The questions that the reference was asked: fewer than all where that ended early."""
        asked = set(read_records(self._folder / RECORDS).phase(VAL).questions())
        return self._questions.among(asked)

    def _keep(self, file: RecordFile, records: Sequence[Record]) -> None:
        file.append(records)
        self._records += len(records)
        self._early_stop.add(records)
        self._progress.update(records)
        if records[0].phase == INFER and self._phase is not None:
            self._metrics.add(records)
            self._metrics.set_whole_seconds(self._phase.load.elapsed_ns / 1e9)

    def _report(self, manifest: RunManifest, trouble: ClientError | None) -> None:
        """Close the session, and print and write the figures. Raises what _print does."""
        self._is_broken_off = trouble is not None
        lost: list[NotWrittenError] = []
        with noted(lost):
            manifest.end(self._end, str(trouble) if trouble else self._why)
        try:
            finished = replace(read_run(self._folder), manifest=manifest.content)
        except ClientError as error:
            raise trouble or error from None
        charts = drawn_charts(finished)
        if not lost:
            # Once more, as late as a figure can tell of it: reading records and drawing charts takes a while.
            with noted(lost):
                manifest.end_now()
        self._print(replace(finished, manifest=manifest.content), charts, trouble, lost)

    def _print(
        self,
        finished: FinishedRun,
        charts: Sequence[DrawnChart],
        trouble: ClientError | None,
        lost: Sequence[NotWrittenError],
    ) -> None:
        """Write the figures, and print them, written or not.

        lost: what could not be written before. Raises the trouble, or RunError where the figures or questions
        failed, or the engine does not hold against the reference.
        """
        self.finished, summary = finished, summarize(finished)
        lost = [*lost, *write_files(figure_files(finished, summary, charts))]
        others: list[ClientError] = list(loss(lost, "report"))
        try:
            self._show(finished, summary, not lost)
        except RunError as error:
            others.append(RunError(f"{error}; see {self._folder}"))
        if self._settings.format == "lm-eval":
            try:
                write_lm_eval_files(finished, lambda: self._benchmark)
            except RunError as error:
                others.append(error)
        trouble = joined(trouble or flaw(finished, summary), others)
        if trouble is not None:
            raise trouble
