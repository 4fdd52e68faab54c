"""mmlu-client against vLLM itself, where TRT_SERVER_TEST_VLLM names its `vllm` command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_process import client, command
from harness_tasks import write_tasks
from mmlu import write_benchmark
from processes import ServerProcess
from run_files import manifest, page, records, summary
from trt_common import demo
from trt_common.model.flops import text_flops
from trt_common.model.geometry import read_geometry

from tools.free_port import free_port

VARIABLE = "TRT_SERVER_TEST_VLLM"
VLLM = os.environ.get(VARIABLE)
START_SECONDS = 240.0

pytestmark = [
    pytest.mark.skipif(
        not VLLM,
        reason=f"{VARIABLE} names no `vllm` command: set it, with any backend, to ask vLLM itself",
    ),
    pytest.mark.timeout(600),
]


class VllmProcess:
    """vLLM with the bundled model, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "vllm.log"
        settings = {
            "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        }  # fmt: skip
        program = Path(str(VLLM))
        path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
        # A virtual environment of the tests is none of vLLM's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(program), "serve", str(demo.FOLDER), "--served-model-name", "demo", "--host",
                    "127.0.0.1", "--port", str(self._port), "--dtype", "float32", "--max-model-len", "2048",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**settings, **inherited, "PATH": path},
                start_new_session=True,
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def wait_until_serving(self) -> VllmProcess:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            assert self._process.poll() is None, self._log.read_text()[-5000:]
            assert time.monotonic() < deadline, self._log.read_text()[-5000:]
            time.sleep(0.5)
        return self

    def _is_healthy(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=60)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    process = VllmProcess(tmp_path_factory.mktemp("vllm"))
    try:
        yield process.wait_until_serving()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def ours() -> Iterator[ServerProcess]:
    with ServerProcess("--model", "demo") as process:
        yield process.wait_until_serving()


def test_the_same_questions_have_the_same_answers(
    vllm: VllmProcess, ours: ServerProcess, tmp_path: Path
) -> None:
    mine, theirs = tmp_path / "ours", tmp_path / "vllm"
    assert client("--url", ours.url, "--limit", "4", "--output", mine).returncode == 0
    result = client(
        "--url", vllm.url, "--model-config", "demo", "--peak-flops", "1e12", "--limit", "4",
        "--server-metrics", f"{vllm.url}/metrics", "--output", theirs,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected = {(each["subject"], each["index"]): each for each in records(mine)}
    geometry = read_geometry(json.loads((demo.FOLDER / "config.json").read_text()))
    assert len(records(theirs)) == len(expected) == 36
    for record in records(theirs):
        other = expected[record["subject"], record["index"]]
        for key in ("predicted", "candidates", "top_token", "below"):
            assert record[key] == other[key], key
        # It computes all layers for all tokens, and the head for the last.
        assert record["flops"] == text_flops(geometry, [(0, other["tokens"]["logical"])], 1)
        for letter, logprob in record["logprobs"].items():
            assert logprob == pytest.approx(other["logprobs"][letter], abs=1e-3)
    kept, figures = manifest(theirs), summary(theirs)
    assert kept["engine"]["name"] == "vllm"
    assert kept["engine"]["version"]
    assert kept["scoring"]["told_tokens"] is None
    assert figures["prefix_hit_ratio"] == 0
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * 1e12))
    assert figures["p_infer_core"] is figures["mfu"] is figures["mem_used_gib"] is figures["e2e_time"] is None


def test_its_prefix_cache_is_told_as_reuse(vllm: VllmProcess, tmp_path: Path) -> None:
    """By its own metrics: its replies do not say it by default."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}, shots=20), tmp_path / "reused"
    result = client(
        "--url", vllm.url, "--tokenizer", "demo", "--data", data, "--few-shots", "20", "--output", output,
        "--reuse-prefix", "--server-metrics", f"{vllm.url}/metrics",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert summary(output)["prefix_hit_ratio"] > 0
    assert "vllm (prefix reuse)" in page(output)


def test_tasks_have_the_same_log_likelihoods(vllm: VllmProcess, ours: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    tasks = write_tasks(tmp_path / "tasks")
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    found = []
    for name, url, flags in (("ours", ours.url, ()), ("vllm", vllm.url, ("--tokenizer", "demo"))):
        done = command(
            "--url", url, "--task", "endings,last_words", "--include-path", tasks, "--limit", "4", "--output",
            tmp_path / name, *flags, environment=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append({(each["subject"], each["index"]): each for each in records(tmp_path / name)})
    mine, theirs = found
    assert mine.keys() == theirs.keys()
    for key, record in mine.items():
        assert theirs[key]["loglikelihoods"] == pytest.approx(record["loglikelihoods"], rel=1e-4, abs=1e-2)
        assert theirs[key]["greedy"] == record["greedy"]
