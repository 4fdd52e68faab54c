"""The signals that stop the server."""

from __future__ import annotations

import asyncio
import os
import signal

from trt_server import exit_status

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Waits for the first signal that stops the server; the second ends the process at once."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()

    def catch(self) -> None:
        """Take the signals from now on, in the event loop that runs."""
        loop = asyncio.get_running_loop()
        for number in _caught():
            loop.add_signal_handler(number, self._on_first)

    async def first(self) -> None:
        """Return once one has come."""
        await self._stop.wait()

    def _on_first(self) -> None:
        for number in _caught():
            # Not the loop's, which may be busy.
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, _end_at_once)
        self._stop.set()


def _caught() -> list[signal.Signals]:
    """Return the signals that stop the server; what `nohup` has the process ignore stays ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _end_at_once(number: int, _: object) -> None:
    os._exit(exit_status.of_signal(number))
