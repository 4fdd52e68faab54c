"""One start of the client: its worker thread, what it shows while it runs, and the signals that end it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from mmlu_client.config.settings import Settings
from mmlu_client.errors import ClientError, StoppedError
from mmlu_client.watch.metrics import Metrics
from mmlu_client.watch.progress import Progress, make_progress
from mmlu_client.watch.served_metrics import ServedMetrics

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Session:
    """Serves the metrics and keeps the worker thread while it is open, as a context manager.

    Attributes:
        progress: what is shown while the run is on.
        metrics: what Prometheus reads.
        worker: the one thread that builds prompts.
    """

    def __init__(self, settings: Settings) -> None:
        self.progress: Progress = make_progress(is_whole=settings.verbose)
        self.metrics = Metrics()
        self.worker = ThreadPoolExecutor(1, "prompts")
        self._served = ServedMetrics(
            self.metrics.registry, settings.metrics_host, settings.metrics_port, self.say
        )
        self._stopped_by: signal.Signals | None = None
        self._resources = contextlib.ExitStack()

    def say(self, text: str) -> None:
        """Print a line for the person."""
        self.progress.say(text)

    def __enter__(self) -> Session:
        """Open the metrics' port, where one is asked for.

        Raises:
            InputError: it cannot be opened.
        """
        with contextlib.ExitStack() as unless_it_opens:
            unless_it_opens.callback(self.worker.shutdown, wait=False, cancel_futures=True)
            unless_it_opens.enter_context(self._served)
            self._resources = unless_it_opens.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    async def ending_of(self, work: Coroutine[None, None, None]) -> ClientError | None:
        """Do the work until it is done or a signal comes.

        Returns:
            What ended it early; None where nothing did.
        """
        task = asyncio.create_task(work)
        self._stop_on_signals(task)
        try:
            await task
        except ClientError as error:
            return error
        except asyncio.CancelledError:
            if self._stopped_by is None:
                raise
            return StoppedError(self._stopped_by)
        finally:
            self.progress.stop()
        return None

    def _stop_on_signals(self, task: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            self._stopped_by = number
            task.cancel()
            for each in SIGNALS:  # the next one ends the process at once
                loop.remove_signal_handler(each)

        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)

    async def show_last_figures(self) -> None:
        """Return when Prometheus has read the last figures, or a signal comes."""
        await self._served.show_last(lambda: self._stopped_by is not None)
