"""From when to when the client's own run is counted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from client_process import SECONDS
from double import Double
from mmlu import write_benchmark
from run_files import manifest, summary
from tokenizer_kinds import byte_level, tokenizer_files

# The program, which tells on stderr when it has its first line and when it reads what it wrote.
PROGRAM = """
import sys, time
print("began", time.monotonic_ns(), file=sys.stderr)

def tell(event, values):
    if event == "open" and str(values[0]).endswith("records.jsonl"):
        print("opened", time.monotonic_ns(), file=sys.stderr)

sys.addaudithook(tell)
from mmlu_client.cli import main
main()
"""
TICK_NS = 10**7


def test_from_the_processs_start_to_its_figures(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 3}), tmp_path / "run"
    with Double(tokenizer_files(byte_level())) as double:
        spawned = time.monotonic_ns()
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, "--url", double.url, "--data", data, "--output", output],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    told = [line.split() for line in result.stderr.splitlines() if line.startswith(("began ", "opened "))]
    (began,) = (int(when) for what, when in told if what == "began")
    last_read = max(int(when) for what, when in told if what == "opened")
    (session,) = manifest(output)["sessions"]
    start, end = session["process_started_ns"], session["ended"]["monotonic_ns"]
    assert spawned - TICK_NS <= start < began
    assert last_read < end
    figures = summary(output)
    loaded = figures["server_load_seconds"] + figures["server_build_seconds"]
    assert figures["e2e_time"] == pytest.approx(loaded + (end - start) / 1e9)
