"""First contact with a GPU: eight minutes, one call, a table line by line, and a verdict on every belief.

    python -m bench.gpu_first --output FOLDER [--seconds 480]

Each step runs in a process of its own with a time limit; one that fails or is not done in time is named, and
the next begins. Two things end it: a plan that does not run at all, and answers that are no numbers. FOLDER
gets the table, the steps' logs, the plans' layers and the builder's timings, each as it comes: whoever ends
the program loses nothing that was found.

Steps: a small plan; two families against PyTorch; answers that repeat; 2 and 6 layers as wide as those of 7 B
parameters, at bs 1; the rate of the device's own products, and PyTorch on the same layers; kernels by their
time, if ncu is installed; and one variant. Where attention is not one kernel a layer it is the graph that has
attention as one operator, if this TensorRT takes that; else, or where a layer takes over 2.9 times its
products, the plan that goes on after a prefix.

Exit status 1 where a belief that matters is refuted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpu.families import WIDE_SIZES
from trt_server.cache.folder import cache_folder
from trt_server.engines.tensorrt.presence import Missing

from bench.beliefs import BELIEFS, layer_ms, wanted_variant, whole_mfu, whole_ms
from bench.found_gpu import find_gpu
from bench.gpu_first_step import VARIANTS, wide_prompt
from bench.reference_python import reference_environment, reference_python

HERE = Path(__file__).parent
_PYTORCH_RUNS = 20
_TOP_KERNELS = 12


class FirstContact:
    """Runs the steps, and writes their findings as they come."""

    def __init__(self, output: Path, scratch: Path, seconds: float, width: int) -> None:
        self._output, self._scratch, self._width = output, scratch, width
        self._end = time.monotonic() + seconds
        self.found: dict[str, Any] = {}
        output.mkdir(parents=True, exist_ok=True)
        self._table = (output / "table.txt").open("w")

    def say(self, line: str) -> None:
        """Print a line, and write it into the table at once."""
        print(line, flush=True)
        print(line, file=self._table, flush=True)

    def run(
        self, name: str, limit: float, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> str:
        """Return what a step printed; empty where it failed or was not done in time.

        Its errors go to a log.
        """
        limit = min(limit, self._end - time.monotonic())
        if limit <= 0:
            self.say(f"{name:<26} not done: no time left")
            return ""
        log = self._output / f"{name.replace(' ', '-')}.log"
        start = time.monotonic()
        with log.open("w") as errors:
            try:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    timeout=limit,
                    env=environment,
                    cwd=HERE.parent,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                what = f"after {limit:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
                self.say(f"{name:<26} not done: {what}")
                return ""
        seconds = time.monotonic() - start
        if done.returncode:
            last = (log.read_text().strip().splitlines() or ["it says nothing"])[-1]
            self.say(f"{name:<26} FAILED after {seconds:.0f} s, status {done.returncode}: {last}")
            return ""
        self.say(f"{name:<26} {seconds:.0f} s")
        return done.stdout

    def step(self, name: str, limit: float, step: str, folder: Path, *flags: str) -> dict[str, Any]:
        """Return a step's last line of JSON, which is also kept under its name; empty where it has none."""
        arguments = [step, str(folder), "--width", str(self._width), *flags]
        out = self.run(name, limit, [sys.executable, "-m", "bench.gpu_first_step", *arguments])
        line = _last_object(out)
        if line:
            self.keep(str(line.get("name", line["step"])), line)
        return line

    def keep(self, name: str, line: dict[str, Any]) -> None:
        """Keep a finding and write all of them."""
        self.found[name] = line
        shown = {
            key: value for key, value in line.items() if key not in ("step", "name", "answers", "version")
        }
        for key, value in shown.items():
            self.say(f"{'':<26}   {key} {f'{value:.4g}' if isinstance(value, float) else value}")
        (self._output / "found.json").write_text(json.dumps(self.found, indent=2))

    def steps(self) -> bool:
        """Run the steps; return False where the engine does not run at all."""
        weights = self._in_background("wide")
        try:
            return self._steps(weights)
        finally:
            weights.kill()
            weights.wait()

    def _steps(self, weights: subprocess.Popen[str]) -> bool:
        scratch = self._scratch
        if not self.step("small checkpoints", 90, "small", scratch):
            return False
        if not self.step("it runs", 120, "runs", scratch).get("finite"):
            return False
        if self.step("agrees with PyTorch", 120, "agrees", scratch).get("fp16") == float("inf"):
            return False
        self.step("repeats itself", 60, "repeats", scratch)
        with suppress(subprocess.TimeoutExpired):
            weights.wait(max(1.0, self._end - time.monotonic()))
        for layers in (2, 6):
            file = str(self._output / f"layers-{layers}.json")
            self.step(f"{layers} wide layers", 120, "layers", scratch / f"wide-{layers}", "--layers", file)
        self._pytorch()
        self._kernels()
        if (variant := wanted_variant(self.found)) is not None:
            for layers in (2, 6):
                name, folder = f"{layers} {VARIANTS[variant]}", scratch / f"wide-{layers}"
                self.step(name, 90, "layers", folder, "--variant", variant)
        return True

    def _in_background(self, step: str) -> subprocess.Popen[str]:
        """Start a step beside the others, whose result is files."""
        command = [sys.executable, "-m", "bench.gpu_first_step", step, str(self._scratch)]
        with (self._output / f"{step}.log").open("w") as log:
            return subprocess.Popen(
                [*command, "--width", str(self._width)], stdout=log, stderr=log, text=True, cwd=HERE.parent
            )

    def _pytorch(self) -> None:
        prompts = self._scratch / "prompts.json"
        prompt = {"ids": wide_prompt().tolist(), "shared": 0, "candidates": [0, 31, 62, 93]}
        prompts.write_text(json.dumps([prompt] * _PYTORCH_RUNS))
        program = [reference_python(), str(HERE / "gpu_torch.py"), str(prompts)]

        def ask(name: str, folder: Path, mode: str) -> dict[str, Any]:
            flags = ["--mode", mode, "--bs", "1"]
            return _last_object(self.run(name, 60, [*program, str(folder), *flags], reference_environment()))

        if rate := ask("its own products", self._scratch / "wide-2", "rate"):
            self.keep("rate", rate)
        for layers in (2, 6):
            if line := ask(f"PyTorch {layers} layers", self._scratch / f"wide-{layers}", "eager"):
                core_ms = line["core_seconds"] / _PYTORCH_RUNS * 1e3
                self.keep(f"PyTorch eager, {layers} layers", {**line, "core_ms": core_ms})

    def _kernels(self) -> None:
        """Find the names and the times of the kernels that one prompt runs."""
        if (ncu := shutil.which("ncu")) is None:
            self.say(f"{'kernels by time':<26} not done: no ncu on the path")
            return
        command = [ncu, "--clock-control", "none", "--metrics", "gpu__time_duration.sum", "--csv"]
        program = [sys.executable, "-m", "bench.gpu_first_step", "one", str(self._scratch / "wide-2")]
        out = self.run("kernels by time", 90, [*command, "--profile-from-start", "off", *program])
        (self._output / "kernels.csv").write_text(out)
        times: dict[str, float] = defaultdict(float)
        # Messages of the program and of ncu are before and after the table.
        for row in csv.DictReader(line for line in out.splitlines() if line.startswith('"')):
            times[row["Kernel Name"]] += float(row["Metric Value"].replace(",", ""))
        for name, duration in sorted(times.items(), key=lambda item: -item[1])[:_TOP_KERNELS]:
            self.say(f"{'':<26}   {duration / sum(times.values()):6.1%} {name[:100]}")

    def report(self) -> bool:
        """Print each belief and the verdict; return False where one that matters is refuted."""
        told = [(belief, belief.verdict(self.found)) for belief in BELIEFS]
        for belief, verdict in told:
            self.say(f"{verdict:<10} {belief.text}")
        try:
            layer, whole, share = layer_ms(self.found), whole_ms(self.found), whole_mfu(self.found)
            self.say(f"a layer takes {layer:.2f} ms; 32 of them, extrapolated: {whole:.1f} ms")
            self.say(f"which is an MFU of {share:.1%} of the datasheet's peak, the head left out")
        except KeyError:
            self.say("nothing can be extrapolated: not all wide layers ran, or the device is in no table")
        counts = [
            sum(verdict == kind for _, verdict in told) for kind in ("confirmed", "REFUTED", "not seen")
        ]
        bad = [belief.text for belief, verdict in told if belief.matters and verdict == "REFUTED"]
        verdict = f"NOT FIT: {'; '.join(bad)}" if bad else "nothing that matters is refuted"
        self.say("verdict: {} confirmed, {} refuted, {} not seen; {}".format(*counts, verdict))
        return not bad

    def take_timings(self) -> None:
        """Copy the builder's timings for another day."""
        timings = cache_folder() / "timings"
        if timings.is_dir():
            shutil.copytree(timings, self._output / "timings", dirs_exist_ok=True)


def main() -> None:
    """Run the steps and exit."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--output", type=Path, required=True, help="folder for everything that is found")
    parse.add_argument("--seconds", type=float, default=480.0, help="for everything")
    parse.add_argument("--width", type=int, default=WIDE_SIZES["hidden_size"], help="of the wide layers")
    options = parse.parse_args()
    gpu = find_gpu()
    if isinstance(gpu, Missing):
        sys.exit(f"bench.gpu_first: TensorRT cannot run here: {gpu.reason}")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("TRT_SERVER_CACHE", str(Path(scratch) / "cache"))
        contact = FirstContact(options.output, Path(scratch), options.seconds, options.width)
        contact.say(f"{gpu.name}; {' '.join(sys.argv)}")
        went_on = contact.steps()
        contact.take_timings()
        if not contact.report() or not went_on:
            sys.exit(1)


def _last_object(out: str) -> dict[str, Any]:
    """Return the last line of JSON that was printed."""
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else {}


if __name__ == "__main__":
    main()
