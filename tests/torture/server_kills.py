"""SIGKILL at random points of a server's start and run: its cache stays whole, and the next one serves."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import grpc
from fake_gpu_machine import gpu_machine
from outcome import SECONDS, Outcome, is_same, reference_answer
from processes import ServerProcess
from score_requests import ids_request
from trt_server.cache.entry import UNFINISHED, cache_entries
from trt_server.cache.folder import ABOUT

IN_FLIGHT = 24
SERVING = '"event": "serving"'
# A start that came to serve before its moment is followed by another one, and so many are started at most.
MOST_STARTS = 4
# What callers of a server that is killed are told.
TOLD = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def kill_servers(folder: Path, model: Path, kills: int, seed: int) -> Outcome:
    """Kill starts and runs of trt-server by turns, with a cache that is empty or left by the one before.

    Args:
        folder: Where caches are written; empty.
        model: The checkpoint.
        kills: How many kills: half of them in starts, before the server serves, the others in runs.
        seed: Where they come follows from it.

    Returns:
        How many kills came when, what they left in the cache, and what did not hold.
    """
    outcome = Outcome("server kills")
    campaign = _Campaign(outcome, folder, model, seed)
    for number in range((kills + 1) // 2):
        campaign.one_round(number)
    outcome.tell("kills", sum(campaign.kills.values()))
    for when, count in campaign.kills.items():
        outcome.tell(f"of them {when}", count)
    outcome.tell("entries of the cache that were compared, byte for byte", campaign.compared)
    outcome.tell("entries that a kill left unfinished, and the next start did not use", campaign.unfinished)
    outcome.tell("entries damaged", campaign.damaged)
    outcome.tell("callers in flight", campaign.callers)
    return outcome


class _Campaign:
    """Kills and starts again, and counts."""

    def __init__(self, outcome: Outcome, folder: Path, model: Path, seed: int) -> None:
        self._outcome, self._seed = outcome, seed
        self._cache = folder / "cache"
        self._arguments = ("--model", str(model), "--max-prompt-tokens", "100", "--max-batch-size", "4")
        self.kills: Counter[str] = Counter()
        self.compared = self.unfinished = self.damaged = self.callers = 0
        self._expected, self._start_with = [], {}
        for is_cached in (False, True):
            with self._start() as server:
                self._start_with[is_cached] = _times_of_lines(server)
                self._expected = reference_answer(server)
                assert server.stop() == 0
        self._whole = contents(self._cache)
        assert self._whole, "a start leaves nothing in the cache"

    def one_round(self, number: int) -> None:
        """A start that is killed, one that is let through, and a kill in its run."""
        rng, where = Random(f"{self._seed} server {number}"), f"seed {self._seed}, server kill {number}"
        for _ in range(MOST_STARTS):
            if rng.random() < 0.7:
                shutil.rmtree(self._cache)
            with self._start() as server:
                is_in_start = self._kill_at(server, *self._moment(rng))
            self._hold_cache(where)
            if is_in_start:
                break
        with self._start() as server:
            answer = reference_answer(server.wait_until_serving())
            self._outcome.hold(is_same(answer, self._expected), f"{where}: it answers otherwise than before")
            self._kill_in_flight(server, rng, where)
        self._hold_cache(where)

    def _start(self) -> ServerProcess:
        return ServerProcess(*self._arguments, environment=gpu_machine(self._cache))

    def _moment(self, rng: Random) -> tuple[int, float]:
        """A random moment of a start: a number of lines that it has logged, and seconds after the last.

        Half of the moments come from all of its time, and half from the time between two lines, which is
        short where little is done: what is written is written between the lines.
        """
        times = self._start_with[self._cache.is_dir()]
        if rng.random() < 0.5:
            return 0, rng.uniform(0, times[-1])
        lines = rng.randrange(len(times) - 1)
        return lines + 1, rng.uniform(0, times[lines + 1] - times[lines])

    def _kill_at(self, server: ServerProcess, lines: int, seconds: float) -> bool:
        """Kill it at a moment of its start, and return whether it did not serve yet."""
        while not (len(server.lines) >= lines or _serves(server)) and server.process.poll() is None:
            time.sleep(0.001)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not _serves(server):
            time.sleep(min(0.001, seconds))
        self._outcome.hold(server.process.poll() is None, f"a start ended by itself: {server.lines[-1:]}")
        server.kill()
        is_serving = _serves(server)
        self.kills["when it served already" if is_serving else "in its start"] += 1
        return not is_serving

    def _kill_in_flight(self, server: ServerProcess, rng: Random, where: str) -> None:
        stub = server.stub()
        calls: list[Any] = [
            stub.Score.future(ids_request(*[60] * rng.randint(1, 4)), timeout=SECONDS)
            for _ in range(IN_FLIGHT)
        ]
        for call in rng.sample(calls, rng.randrange(IN_FLIGHT)):
            call.exception()
        server.kill()
        self.kills["with requests in flight"] += 1
        codes = {call.code() for call in calls}
        self.callers += len(calls)
        self._outcome.hold(codes <= TOLD, f"{where}: callers were told {codes}")

    def _hold_cache(self, where: str) -> None:
        """What has an entry's name is whole: it is, byte for byte, what a start without a kill makes."""
        for name, content in contents(self._cache).items():
            self.compared += 1
            if not self._outcome.hold(content == self._whole.get(name), f"{where}: {name} is not whole"):
                self.damaged += 1
        self.unfinished += sum(each.state == UNFINISHED for each in cache_entries(self._cache))


def _times_of_lines(server: ServerProcess) -> list[float]:
    """When a server that has just been started logs each line until it serves, in seconds from now."""
    times: list[float] = []
    started = time.monotonic()
    while not times or not _serves(server):
        assert server.process.poll() is None, server.lines
        if len(server.lines) > len(times):
            times += [time.monotonic() - started] * (len(server.lines) - len(times))
        time.sleep(0.001)
    server.wait_until_serving()
    return times


def _serves(server: ServerProcess) -> bool:
    return any(SERVING in line for line in list(server.lines))


def contents(cache: Path) -> dict[str, dict[str, str]]:
    """Entries of a cache that count as finished → their files, each with the hash of its content."""
    entries = [each for each in cache_entries(cache) if each.state != UNFINISHED and each.path.is_dir()]
    return {each.name: _hashes(each.path) for each in entries}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ABOUT
    }
