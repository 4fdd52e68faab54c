"""Engines that fail before they serve: one line where a library or the machine failed, all where we did."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import FREE_PORTS, run_program
from trt_server.errors import EngineLostError, ScoringError, StartError
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.group import EngineGroup
from trt_server.scheduling.queue import RequestQueue

FULL_DEVICE = Path(__file__).parents[1] / "fakes" / "full_device"


@pytest.mark.parametrize("wanted", ["--engine", "--reference"])
@pytest.mark.parametrize("full_at", ["weights", "batch"])
def test_a_device_that_is_full_for_pytorch_is_one_line(llama_folder: Path, wanted: str, full_at: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FULL_DEVICE), "FULL_DEVICE": full_at}
    arguments = ("--model", str(llama_folder), wanted, "torch", *FREE_PORTS, "--log-level", "error")
    done = run_program("trt-server", *arguments, env=environment)
    assert done.returncode == 1
    assert "CUDA out of memory. Tried to allocate 14.00 GiB." in done.stderr
    assert done.stderr.startswith("trt-server: error: ")
    assert done.stderr.count("\n") == 1


class FailingEngine:
    """One that fails to warm up."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.closed = False

    def warm_up(self) -> None:
        raise self._error

    def close(self) -> None:
        self.closed = True


def start(make: Callable[[], Any]) -> None:
    async def started() -> None:
        batching = Batching(max_rows=1, max_tokens=1, max_delay_seconds=0)
        ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
        await EngineGroup([make], ["a device"], RequestQueue(1), batching, ignore, ignore).start()

    asyncio.run(started())


@pytest.mark.parametrize(
    "error",
    [EngineLostError("it is\nlost"), ScoringError("it is\nlost"), OSError("it is\nlost"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_what_a_library_or_the_machine_fails_at_is_one_line(error: Exception) -> None:
    engine = FailingEngine(error)
    with pytest.raises(StartError) as caught:
        start(lambda: engine)
    assert str(caught.value) == f"the engine cannot start: {'it is lost' if str(error) else 'out of memory'}"
    assert engine.closed


def test_a_fault_of_ours_stays_what_it_is() -> None:
    engine = FailingEngine(TypeError("not so"))
    with pytest.raises(TypeError, match="not so"):
        start(lambda: engine)
    assert engine.closed
