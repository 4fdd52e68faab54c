"""Disks that are full at some point: one line says so, nothing half-written counts, with room it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from client_kills import kept
from client_process import client
from double import Double
from fake_gpu_machine import gpu_machine
from mmlu import write_benchmark
from outcome import MIB, Outcome, is_same, reference_answer
from processes import ServerProcess
from server_kills import contents
from small_disk import small_disk
from tokenizer_kinds import byte_level, tokenizer_files

SIZES = {"alpha": 20, "beta": 20}
QUESTIONS = sum(SIZES.values())
# A run of that many questions and its figures, with its page: more than any of the disks has at first.
RUN_BYTES = 6 * MIB
DISK_BYTES = 32 * MIB


def fill_disks(folder: Path, model: Path, rounds: int, seed: int) -> Outcome:
    """Start a server and run a client on a disk with a random rest of room, and again with more of it.

    Args:
        folder: Where the disks are mounted; empty.
        model: The checkpoint.
        rounds: How many disks of each.
        seed: How much room they have follows from it.

    Returns:
        How many ran out of room, and what did not hold.
    """
    outcome, ends = Outcome("full disks"), Counter[str]()
    folder.mkdir(exist_ok=True)
    data = write_benchmark(folder / "data", SIZES)
    expected, needed, whole = _undisturbed(folder / "cache", model)
    for number in range(rounds):
        rng, where = Random(f"{seed} disk {number}"), f"seed {seed}, disk {number}"
        try:
            with small_disk(folder / f"server-{number}", DISK_BYTES) as disk:
                leave(disk, rng.randrange(8192, needed + MIB))
                ends[_server(disk, model, expected, whole, outcome, where)] += 1
            with small_disk(folder / f"client-{number}", DISK_BYTES) as disk:
                leave(disk, rng.randrange(4096, RUN_BYTES))
                ends[_client(disk, data, outcome, where)] += 1
        except pytest.skip.Exception as skipped:
            outcome.tell("not done", skipped.msg)
            return outcome
    for end, count in sorted(ends.items()):
        outcome.tell(end, count)
    return outcome


def leave(disk: Path, room: int) -> None:
    """Fill a disk but for so many bytes."""
    with (disk / "filler").open("wb") as file:
        file.write(bytes(DISK_BYTES - room))


def _undisturbed(cache: Path, model: Path) -> tuple[list[float], int, dict[str, dict[str, str]]]:
    """What a server answers whose disk has room; the bytes of its cache, and what is in it."""
    with _start(cache, model) as server:
        answer = reference_answer(server.wait_until_serving())
        assert server.stop() == 0
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return answer, size, contents(cache)


def _start(cache: Path, model: Path) -> ServerProcess:
    arguments = ("--model", str(model), "--max-prompt-tokens", "100", "--max-batch-size", "4")
    return ServerProcess(*arguments, environment=gpu_machine(cache))


def _server(
    disk: Path,
    model: Path,
    expected: list[float],
    whole: dict[str, dict[str, str]],
    outcome: Outcome,
    where: str,
) -> str:
    cache = disk / "cache"
    with _start(cache, model) as server:
        try:
            server.wait_until_serving()
            end = "servers with room enough"
        except AssertionError:
            end = "servers without"
            outcome.hold(server.wait() == 1, f"{where}: the start ended with {server.process.returncode}")
            last = server.lines[-1] if server.lines else ""
            outcome.hold("error" in last and "Traceback" not in "".join(server.lines), f"{where}: {last}")
    found = contents(cache) if cache.is_dir() else {}
    # The plan of a fake TensorRT names its folder, and is another one in each: the next start reads it.
    weights = {name: each for name, each in found.items() if name.startswith("weights/")}
    outcome.hold(
        all(whole.get(name) == each for name, each in weights.items()), f"{where}: {weights} not whole"
    )
    (disk / "filler").unlink()
    with _start(cache, model) as server:
        answer = reference_answer(server.wait_until_serving())
        outcome.hold(is_same(answer, expected), f"{where}: it answers otherwise than before")
    return end


def _client(disk: Path, data: Path, outcome: Outcome, where: str) -> str:
    output = disk / "run"
    with Double(tokenizer_files(byte_level())) as double:
        arguments = ("--url", double.url, "--data", data, "--output", output)
        first = client(*arguments)
        outcome.hold(first.returncode in (0, 1), f"{where}: the run ended with {first.returncode}")
        outcome.hold("Traceback" not in first.stderr, f"{where}: {first.stderr}")
        before, asked = kept(output), len(double.asked)
        (disk / "filler").unlink()
        again = client(*(("--resume", output) if (output / "manifest.json").exists() else arguments))
        outcome.hold(again.returncode == 0, f"{where}: the resumed run ended with {again.stderr}")
        after = kept(output)
        outcome.hold(len(after) == QUESTIONS, f"{where}: {len(after)} answers of {QUESTIONS}")
        outcome.hold(
            all(after.get(key) == line for key, line in before.items()), f"{where}: answers are lost"
        )
        prompts = sum(len(each.prompts) for each in double.asked[asked:])
        outcome.hold(prompts == QUESTIONS - len(before), f"{where}: {prompts} were asked again")
    return "runs without" if first.returncode else "runs with room enough"
