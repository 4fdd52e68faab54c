"""One signal ends a start at once, whatever that waits for."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from fake_gpu_machine import gpu_machine
from processes import ServerProcess, run_program
from silent_hub import SilentHub

# Nothing is computed by then: ending takes a fraction of one.
SECONDS = 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize(("after_list", "waits_for"), [(False, "/api/models/"), (True, "/resolve/")])
def test_while_the_hub_does_not_answer(
    tmp_path: Path, after_list: bool, waits_for: str, number: signal.Signals
) -> None:
    with SilentHub(after_list) as hub:
        environment = {**hub.environment, "HF_HOME": str(tmp_path)}
        with ServerProcess("--model", "owner/name", environment=environment) as server:
            assert waits_for in hub.wait_until_silent()
            server.signal(number)
            assert server.process.wait(SECONDS) == 0
    assert any("stopped before the model was loaded" in line for line in server.lines)
    assert not any("Traceback" in line for line in server.lines)


def test_while_the_plan_of_several_gpus_is_waited_for(llama_folder: Path, tmp_path: Path) -> None:
    """Held up where a server waits for another one that builds the same plan."""
    environment = gpu_machine(tmp_path, devices=2)
    model = ("--model", str(llama_folder), "--max-prompt-tokens", "100")
    built = run_program("trt-server", "build", *model, env={**os.environ, **environment})
    assert built.returncode == 0, built.stderr
    (lock,) = (tmp_path / "plans").glob("*.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with ServerProcess(*model, "--devices", "0,1", environment=environment) as server:
            server.wait_for_event("listening")
            # The last that it says before it looks for the plan.
            while not any("needs" in line and "on the device" in line for line in server.lines):
                time.sleep(0.1)
            time.sleep(0.5)
            server.signal(signal.SIGTERM)
            assert server.process.wait(SECONDS) == 0
