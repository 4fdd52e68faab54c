"""A sandbox that hides /proc, or some of its files: the server runs, and leaves out what it is not told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest
from checkpoints import reference_logprobs
from processes import ServerProcess
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb

MASKED = ("meminfo", "stat", "cpuinfo", "uptime", "self/cgroup")
HIDING = {
    "masked files": (
        "; ".join(f"mount --bind /dev/null /proc/{name}" for name in MASKED), "onnxruntime",
    ),
    # ONNX Runtime opens files by /proc/self/fd, and says so.
    "all of it": ("mount -t tmpfs none /proc", "torch"),
}  # fmt: skip


def in_a_sandbox(hide: str, *command: str) -> list[str]:
    return ["unshare", "--mount", "sh", "-ec", f'{hide}; exec "$@"', "sh", *command]


@pytest.mark.parametrize(("hide", "engine"), HIDING.values(), ids=HIDING)
@pytest.mark.usefixtures("measured_peak")
def test_it_serves_and_tells_what_it_can(llama_folder: Path, hide: str, engine: str) -> None:
    try:
        tried = subprocess.run(in_a_sandbox(hide, "true"), capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if tried.returncode:
        pytest.skip("no mount can be made here")
    arguments = ("--model", str(llama_folder), "--engine", engine)
    with ServerProcess(*arguments, before=in_a_sandbox(hide)) as server:
        stub = server.wait_until_serving().stub()
        asked = ids_request(20)
        (score,) = stub.Score(asked).scores
        expected = reference_logprobs(llama_folder, list(asked.prompts[0].token_ids.ids))
        for candidate, logprob in zip(score.candidate_ids, score.candidate_logprobs, strict=True):
            assert logprob == pytest.approx(float(expected[candidate]), abs=1e-4)
        device = stub.GetModel(pb.GetModelRequest(measure_peak=True)).device
        metrics = server.metrics()
        assert server.stop() == 0
    assert device.memory_total_bytes == pytest.approx(psutil.virtual_memory().total, rel=0.05)
    assert not device.HasField("memory_used_by_all_bytes")
    assert metrics["trt_server_device_memory_total_bytes"] == device.memory_total_bytes
    assert "trt_server_device_memory_used_by_all_bytes" not in metrics
