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
# What callers of a server that is killed are told.
TOLD = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def kill_servers(folder: Path, model: Path, kills: int, seed: int) -> Outcome:
    """Kill starts and runs of trt-server by turns, with a cache that is empty or left by the one before.

    Args:
        folder: Where caches are written; empty.
        model: The checkpoint.
        kills: How many kills, half of them in starts.
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
        with self._start() as server:
            started = time.monotonic()
            self._expected = reference_answer(server.wait_until_serving())
            self._start_seconds = time.monotonic() - started
            self._start_lines = next(n for n, line in enumerate(server.lines) if SERVING in line)
            assert server.stop() == 0
        self._whole = contents(self._cache)
        assert self._whole, "a start leaves nothing in the cache"

    def one_round(self, number: int) -> None:
        """A start that is killed, one that is let through, and a kill in its run."""
        rng, where = Random(f"{self._seed} server {number}"), f"seed {self._seed}, server kill {number}"
        if rng.random() < 0.7:
            shutil.rmtree(self._cache)
        with self._start() as server:
            self._kill_at(
                server, rng.randrange(self._start_lines + 1), rng.uniform(0, 0.2 * self._start_seconds)
            )
        self._hold_cache(where)
        with self._start() as server:
            answer = reference_answer(server.wait_until_serving())
            self._outcome.hold(is_same(answer, self._expected), f"{where}: it answers otherwise than before")
            self._kill_in_flight(server, rng, where)
        self._hold_cache(where)

    def _start(self) -> ServerProcess:
        return ServerProcess(*self._arguments, environment=gpu_machine(self._cache))

    def _kill_at(self, server: ServerProcess, lines: int, seconds: float) -> None:
        """So many seconds after it has logged so many lines: what is written is written between the lines."""
        while not (len(server.lines) >= lines or _serves(server)) and server.process.poll() is None:
            time.sleep(0.001)
        time.sleep(seconds)
        is_serving = _serves(server)
        self._outcome.hold(server.process.poll() is None, f"a start ended by itself: {server.lines[-1:]}")
        server.kill()
        self.kills["when it served already" if is_serving else "in its start"] += 1

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
