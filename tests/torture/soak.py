"""Twice the load that a server can bear: it goes on at its own speed, and everybody else is told at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpc import aio
from outcome import Outcome, hold_the_rest, memory_mib, reference_answer
from processes import ServerProcess
from score_requests import ids_prompt, request

SCORE = "/scoring.v1.Scoring/Score"
CALLERS = 8
# So many are under way at once when the capacity is measured: the engine always has a next one.
AT_ONCE = 16
DEADLINE_SECONDS = 2.0
# Beside the deadline: a caller that has not been told by then never is.
GRACE_SECONDS = 60.0
CAPACITY_PART = 0.1
ALLOWED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
MOST_GROWTH_MIB = 60


def soak(model: Path, seconds: float) -> Outcome:
    """Measure what a server can bear, and then ask for twice as much.

    Args:
        model: The checkpoint.
        seconds: How long, with the measurement.

    Returns:
        What was asked and answered, memory at the beginning and at the end, and what did not hold.
    """
    outcome = Outcome("soak at twice the capacity")
    prompts = [ids_prompt([(7 * place + number) % 500 for place in range(200)]) for number in range(8)]
    arguments = ("--model", str(model), "--max-batch-size", "8", "--threads", "1", "--max-queue-size", "32")
    with ServerProcess(*arguments) as server:
        expected = reference_answer(server.wait_until_serving())
        load = _Load(server, request(*prompts))
        capacity = asyncio.run(load.capacity(seconds * CAPACITY_PART))
        load.statuses.clear()
        rate = 2 * capacity
        asyncio.run(load.offer(rate, seconds * CAPACITY_PART))
        before = memory_mib(server)
        asked = asyncio.run(load.offer(rate, seconds * (1 - 2 * CAPACITY_PART)))
        after = memory_mib(server)
        hold_the_rest(outcome, server, expected)
        outcome.hold(server.stop() == 0, "the server did not end with status 0")
    outcome.hold(set(load.statuses) <= ALLOWED, f"statuses {load.statuses}")
    outcome.hold(load.statuses["OK"] > 0, "nothing was answered")
    outcome.hold(
        load.statuses.total() > load.statuses["OK"], "all was answered: it was not twice the capacity"
    )
    outcome.hold(after - before < MOST_GROWTH_MIB, f"memory grew from {before} to {after} MiB")
    outcome.tell("capacity", f"{capacity:.1f} requests a second")
    outcome.tell("asked for", f"{asked:.1f} requests a second")
    outcome.tell("requests", load.statuses.total())
    outcome.tell("statuses", ", ".join(f"{name} {n:,}" for name, n in load.statuses.most_common()))
    outcome.tell("answered in time", f"{load.statuses['OK'] / (seconds * (1 - CAPACITY_PART)):.1f} a second")
    outcome.tell("memory before and after", f"{before} and {after} MiB")
    return outcome


class _Load:
    """Asks one server for the same, and counts what comes back."""

    def __init__(self, server: ServerProcess, asked: Message) -> None:
        self._server = server
        self._content = asked.SerializeToString()
        self.statuses: Counter[str] = Counter()

    async def capacity(self, seconds: float) -> float:
        """Answers a second while there is always a next request, and never more than the queue takes."""
        end = time.monotonic() + seconds

        async def work(channel: aio.Channel) -> None:
            while time.monotonic() < end:
                await self._ask(channel, None)

        async with aio.insecure_channel(self._server.url) as channel:
            await asyncio.gather(*(work(channel) for _ in range(AT_ONCE)))
        return self.statuses["OK"] / seconds

    async def offer(self, rate: float, seconds: float) -> float:
        """Ask so often a second, whatever comes back; the requests a second that were asked for."""
        channels = [aio.insecure_channel(self._server.url) for _ in range(CALLERS)]
        asking: set[asyncio.Task[None]] = set()
        start, sent = time.monotonic(), 0
        while (now := time.monotonic() - start) < seconds and self._server.process.poll() is None:
            while sent < now * rate:
                task = asyncio.ensure_future(self._ask(channels[sent % CALLERS], DEADLINE_SECONDS))
                asking.add(task)
                task.add_done_callback(asking.discard)
                sent += 1
            await asyncio.sleep(0.5 / rate)
        rest, elapsed = list(asking), time.monotonic() - start
        await asyncio.gather(*rest)
        for channel in channels:
            await channel.close()
        return sent / elapsed

    async def _ask(self, channel: aio.Channel, deadline: float | None) -> None:
        score: Any = channel.unary_unary(SCORE)
        call = score(self._content, timeout=deadline)
        try:
            await asyncio.wait_for(call, GRACE_SECONDS)
            self.statuses["OK"] += 1
        except asyncio.TimeoutError:
            self.statuses["never answered"] += 1
        except aio.AioRpcError as error:
            self.statuses[error.code().name] += 1
