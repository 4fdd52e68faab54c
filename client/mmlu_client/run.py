"""One measured run, start to report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from mmlu_client.connection import Connection
from mmlu_client.dataset import Benchmark, load_benchmark
from mmlu_client.errors import ClientError, InputError, RunError, StoppedError
from mmlu_client.load import Load
from mmlu_client.manifest import manifest
from mmlu_client.model import ServedModel
from mmlu_client.progress import Progress, Tally, make_progress
from mmlu_client.prompt_format import FORMATS
from mmlu_client.prompts import PromptBuilder
from mmlu_client.records import Record, RecordFile, record_of_unaskable, records_of
from mmlu_client.report import (
    RECORDS,
    choose_output_folder,
    make_folder,
    summary_page,
    write_manifest,
    write_summary,
)
from mmlu_client.request_source import RequestSource
from mmlu_client.settings import Settings
from mmlu_client.summary import RunClock, Summary, summarize
from mmlu_client.tokenizer import Tokenizer, named_tokenizer, served_tokenizer, warm_import

LAST_CALL_SECONDS = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure and report. started: monotonic seconds, the process's start.

    Raises ClientError, after the report of what there is, for whatever ended the run or failed in it.
    """
    folder = choose_output_folder(settings.output)
    benchmark = load_benchmark(settings.data)
    asyncio.run(Run(settings, command_line, started, benchmark, folder).measure())


class Run:
    """The state of one run: what was asked so far can be reported whenever it ends."""

    def __init__(
        self,
        settings: Settings,
        command_line: Sequence[str],
        started: float,
        benchmark: Benchmark,
        folder: Path,
    ) -> None:
        """Raises InputError where subjects or shots are not in the benchmark."""
        self._settings = settings
        self._command_line = command_line
        self._started = started
        self._benchmark = benchmark
        self._folder = folder
        self._subjects = benchmark.pick_subjects(settings.subjects)
        self._questions = benchmark.questions(self._subjects, settings.limit)
        self._shots = benchmark.shots(self._subjects, settings.few_shots)
        self._progress: Progress = make_progress()
        self._records: list[Record] = []
        self._model: ServedModel | None = None
        self._source: RequestSource | None = None
        self._load: Load | None = None
        self._stopped_by: signal.Signals | None = None

    async def measure(self) -> None:
        """Ask everything and report what there is. Raises ClientError."""
        worker = ThreadPoolExecutor(1, "prompts")
        connection = Connection(self._settings.address, self._settings.tls_ca, self._progress.say)
        asking = asyncio.create_task(self._ask_all(connection, worker))
        self._stop_on_signals(asking)
        try:
            trouble = await self._ending(asking)
            if self._model is None or not self._records:
                raise trouble or RunError("there was nothing to ask")
            await self._report(connection, self._model, trouble)
        finally:
            worker.shutdown(wait=False, cancel_futures=True)
            await connection.close()

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

    async def _ask_all(self, connection: Connection, worker: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        importing = loop.run_in_executor(worker, warm_import)
        model = await connection.wait_for_model(self._settings.server_timeout)
        if self._settings.batch_size > model.max_batch_size:
            raise InputError(
                f"--bs {self._settings.batch_size} is too many: this server takes {model.max_batch_size}"
            )
        if model.notice:
            self._progress.say(f"{model.id}: {model.notice}")
        await importing
        tokenizer, origin = await self._tokenizer(connection, model, worker)
        await self._load_through(connection, worker, model, tokenizer, origin)

    async def _tokenizer(
        self, connection: Connection, model: ServedModel, worker: ThreadPoolExecutor
    ) -> tuple[Tokenizer, str]:
        """The tokenizer and, for the manifest, where it comes from."""
        loop = asyncio.get_running_loop()
        named = self._settings.tokenizer
        if named is not None:
            return await loop.run_in_executor(worker, named_tokenizer, named), named
        served = await connection.tokenizer_files()
        if served is None:
            raise InputError(
                f"{model.id} has no tokenizer: name one of its family with --tokenizer FOLDER|ID"
            )
        files, fingerprint = served
        return await loop.run_in_executor(worker, served_tokenizer, files), f"server {fingerprint}"

    async def _load_through(
        self,
        connection: Connection,
        worker: ThreadPoolExecutor,
        model: ServedModel,
        tokenizer: Tokenizer,
        origin: str,
    ) -> None:
        window = max(1, min(self._settings.concurrency, model.stream_window))
        make_folder(self._folder)
        with RecordFile(self._folder / RECORDS) as file:
            write_manifest(self._folder, self._manifest(model, origin, window))
            keep = partial(self._keep, file)
            self._source = RequestSource(
                self._prompt_builder(model, tokenizer),
                self._questions,
                self._settings.batch_size,
                worker,
                lambda unaskable: keep([record_of_unaskable(unaskable)]),
            )
            self._load = Load(
                connection,
                self._source,
                model,
                window,
                self._settings.server_timeout,
                lambda answer: keep(records_of(answer)),
                self._progress.say,
            )
            self._model = model
            self._progress.start(Tally(self._questions, model.notice))
            await self._load.run()

    def _keep(self, file: RecordFile, records: Sequence[Record]) -> None:
        file.append(records)
        self._records.extend(records)
        self._progress.update(records)

    def _prompt_builder(self, model: ServedModel, tokenizer: Tokenizer) -> PromptBuilder:
        style = FORMATS[self._settings.prompt_format]
        return PromptBuilder(tokenizer, style, self._shots, model.max_prompt_tokens, model.vocabulary_size)

    def _manifest(self, model: ServedModel, tokenizer: str, window: int) -> dict[str, Any]:
        return manifest(
            self._settings,
            self._command_line,
            self._benchmark,
            self._subjects,
            len(self._questions),
            model,
            tokenizer,
            window,
        )

    async def _report(self, connection: Connection, model: ServedModel, trouble: ClientError | None) -> None:
        """Print and write the figures. Raises the trouble, or RunError where figures or questions failed."""
        # Asked again for the memory it came to; a server that is gone has told it once.
        with contextlib.suppress(RunError):
            model = await connection.model(LAST_CALL_SECONDS)
        summary = summarize(
            self._records, len(self._questions), self._settings.batch_size, model, self._clock()
        )
        page = summary_page(summary, model, self._benchmark.name)
        try:
            write_summary(self._folder, summary, page)
            page += f"\nwritten to {self._folder}"
        except RunError as error:
            trouble = trouble or error
        try:
            print(page, flush=True)
        except OSError as error:
            trouble = trouble or RunError(f"cannot print the figures: {error.strerror}; see {self._folder}")
            # What stands in the buffer would fail again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        trouble = trouble or self._failures(summary)
        if trouble is not None:
            raise trouble

    def _clock(self) -> RunClock:
        begun = self._source.started_ns if self._source else None
        last = self._load.last_received_ns if self._load else None
        return RunClock(
            whole=(last - begun) / 1e9 if begun is not None and last is not None else None,
            client=time.monotonic() - self._started,
            interruptions=self._load.interruptions if self._load else 0,
            outage=self._load.outage_ns / 1e9 if self._load else 0.0,
        )

    def _failures(self, summary: Summary) -> RunError | None:
        if not summary.failed:
            return None
        first = next(record for record in self._records if record.error)
        question = first.question
        return RunError(
            f"{summary.failed} of {summary.questions} questions failed, the first "
            f"{question.subject} {question.index}: {first.error}"
        )
