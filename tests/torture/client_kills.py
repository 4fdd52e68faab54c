"""SIGKILL at random points of a client's run: resumed, it asks for what was unanswered and nothing else."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from pathlib import Path
from random import Random

from client_process import SECONDS, ClientProcess, client
from double import Double, Verdict
from mmlu import write_benchmark
from outcome import Outcome
from tokenizer_kinds import byte_level, tokenizer_files

SIZES = {"alpha": 90, "beta": 60}
QUESTIONS = sum(SIZES.values())
# A run is killed so often before it is let through.
KILLS_A_RUN = 5
# The first kill of a run comes before its first answer: within so long, which a start takes more or less.
START_SECONDS = 1.5

Key = tuple[str, int]


def kill_clients(folder: Path, kills: int, seed: int) -> Outcome:
    """Kill runs of mmlu-client, resume each until it is whole, and hold what was asked against what was kept.

    Args:
        folder: Where data and runs are written; empty.
        kills: How many kills.
        seed: Where they come follows from it.

    Returns:
        How many kills came when, what was asked twice and what was lost, and what did not hold.
    """
    outcome = Outcome("client kills")
    data = write_benchmark(folder / "data", SIZES)
    campaign = _Campaign(outcome, data, seed)
    number = 0
    while campaign.kills < kills:
        campaign.one_run(folder / f"run-{number}", min(KILLS_A_RUN, kills - campaign.kills), number)
        number += 1
    outcome.tell("kills", campaign.kills)
    outcome.tell("of them before the first answer was kept", campaign.early)
    outcome.tell("runs", number)
    outcome.tell("questions", number * QUESTIONS)
    outcome.tell("asked again though their answer was kept", campaign.asked_again)
    outcome.tell("asked again whose answer was not kept yet", campaign.unanswered)
    outcome.tell("answers lost", campaign.lost)
    return outcome


class _Campaign:
    """Kills and resumes, and counts."""

    def __init__(self, outcome: Outcome, data: Path, seed: int) -> None:
        self._outcome = outcome
        self._data = data
        self._seed = seed
        self.kills = self.early = self.asked_again = self.unanswered = self.lost = 0

    def one_run(self, output: Path, kills: int, number: int) -> None:
        """A run that is killed so often, and then resumed to its end."""
        rng, victim = Random(f"{self._seed} run {number}"), _Victim()
        where = f"seed {self._seed}, run {number}"
        with Double(tokenizer_files(byte_level()), victim.decide) as double:
            for place in range(kills):
                before, asked = kept(output), len(double.asked)
                left = QUESTIONS - len(before)
                if not left:
                    break
                request = asked + (rng.randrange(left) if place else 0)
                in_start = None if place else rng.uniform(0, START_SECONDS)
                self._kill_once(double, victim, output, request, in_start)
                self._hold(double, asked, before, kept(output), where)
            before, asked = kept(output), len(double.asked)
            result = client(*self._arguments(double, output))
            self._hold(double, asked, before, kept(output), where)
            self._outcome.hold(result.returncode == 0, f"{where}: the last start failed: {result.stderr}")
        lines = (output / "records.jsonl").read_text().splitlines()
        keys = [_key(line) for line in lines]
        self._outcome.hold(len(keys) == QUESTIONS == len(set(keys)), f"{where}: {len(keys)} records")
        figures = json.loads((output / "summary.json").read_text())
        self._outcome.hold(figures["answered"] == QUESTIONS, f"{where}: {figures['answered']} were answered")
        self._outcome.hold(not list(output.glob(".*.part")), f"{where}: parts of files are left over")

    def _arguments(self, double: Double, output: Path) -> tuple[str | Path, ...]:
        """Of a run that goes on, or of a new one where the first was killed before it wrote what it is."""
        if (output / "manifest.json").exists():
            return ("--resume", output)
        return ("--url", double.url, "--data", self._data, "--output", output)

    def _kill_once(
        self, double: Double, victim: _Victim, output: Path, request: int, seconds: float | None
    ) -> None:
        """At the coming of a request, or so many seconds after the start where that is earlier."""
        victim.request = request
        victim.process = running = ClientProcess(*self._arguments(double, output))
        victim.is_known.set()
        if seconds is not None:
            threading.Event().wait(seconds)
            # It may have come to its end before.
            with contextlib.suppress(ProcessLookupError):
                running.signal(signal.SIGKILL)
        self.kills += running.finish().returncode == -signal.SIGKILL
        victim.is_known.clear()
        victim.request = None

    def _hold(
        self, double: Double, asked: int, before: dict[Key, str], after: dict[Key, str], where: str
    ) -> None:
        """Of one start: what it asked, and what is kept of what was there."""
        self.early += not after
        lost = [key for key, line in before.items() if after.get(key) != line]
        self.lost += len(lost)
        self._outcome.hold(not lost, f"{where}: the answers of {lost} are lost")
        prompts = [tuple(prompt.token_ids.ids) for each in double.asked[asked:] for prompt in each.prompts]
        unanswered = QUESTIONS - len(before)
        self._outcome.hold(
            len(prompts) <= unanswered and len(set(prompts)) == len(prompts),
            f"{where}: {unanswered} were unanswered, and {len(prompts)} asked",
        )
        self.asked_again += max(0, len(prompts) - unanswered)
        self.unanswered += max(0, len(prompts) - (len(after) - len(before)))


class _Victim:
    """The process that is killed when a request of this number comes in."""

    def __init__(self) -> None:
        self.process: ClientProcess | None = None
        self.request: int | None = None
        self.is_known = threading.Event()

    def decide(self, number: int) -> Verdict:
        if self.request is not None and number >= self.request:
            self.request = None
            assert self.is_known.wait(SECONDS)
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                self.process.signal(signal.SIGKILL)
        return None


def kept(output: Path) -> dict[Key, str]:
    """The whole lines of a run's records, by subject and index."""
    path = output / "records.jsonl"
    text = path.read_text() if path.exists() else ""
    return {_key(line): line for line in text.splitlines(keepends=True) if line.endswith("\n")}


def _key(line: str) -> Key:
    record = json.loads(line)
    return record["subject"], record["index"]
