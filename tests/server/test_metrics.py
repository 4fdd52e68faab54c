"""What is scraped against what was asked and answered."""

from __future__ import annotations

import re
import statistics
import urllib.request
from pathlib import Path

import grpc
import psutil
import pytest
from histograms import histogram_quantile
from processes import ServerProcess
from score_requests import ids_request, request, slow_request
from scoring.v1 import scoring_pb2 as pb


def test_counters_add_up_to_the_replies(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--peak-flops", "1e12") as server:
        stub = server.wait_until_serving().stub()
        replies = [stub.Score(ids_request(*lengths)) for lengths in ((5, 9, 2), (40,), (300, 7))]
        with pytest.raises(grpc.RpcError):
            stub.Score(pb.ScoreRequest())
        metrics = server.metrics()
        reading = stub.GetModel(pb.GetModelRequest()).device
        resident = psutil.Process(server.process.pid).memory_info().rss
    flops = sum(score.flops for reply in replies for score in reply.scores)
    core_seconds = sum(reply.timing.core_ns for reply in replies) / 1e9
    assert metrics["trt_server_requests_total{OK}"] == 3
    assert metrics["trt_server_requests_total{INVALID_ARGUMENT}"] == 1
    assert metrics["trt_server_tokens_total{onnxruntime,logical}"] == 5 + 9 + 2 + 40 + 300 + 7
    assert metrics["trt_server_tokens_total{onnxruntime,computed}"] == 5 + 9 + 2 + 40 + 300 + 7
    # On a CPU rows of so different length are not run together.
    assert metrics["trt_server_tokens_total{onnxruntime,padding}"] == 4 + 7
    assert metrics["trt_server_flops_total{onnxruntime}"] == flops
    assert metrics["trt_server_core_seconds_total{onnxruntime}"] == pytest.approx(core_seconds)
    assert metrics["trt_server_stage_seconds_count{onnxruntime,core}"] == 3
    assert metrics["trt_server_stage_seconds_sum{onnxruntime,core}"] == pytest.approx(core_seconds)
    assert metrics["trt_server_batch_size_sum{onnxruntime}"] == 6
    assert metrics["trt_server_mfu_ratio{onnxruntime}"] == pytest.approx(flops / core_seconds / 1e12)
    assert metrics["trt_server_peak_flops{onnxruntime,given with --peak-flops}"] == 1e12
    assert metrics["trt_server_queue_depth{onnxruntime}"] == 0
    assert metrics["trt_server_queue_limit{onnxruntime}"] == 256
    memory = {kind: metrics[f"trt_server_device_memory_{kind}_bytes"] for kind in ("used", "peak", "total")}
    assert memory["total"] == reading.memory_total_bytes == psutil.virtual_memory().total
    assert memory["used"] == pytest.approx(resident, rel=0.1)
    assert resident <= memory["peak"] * 1.01


@pytest.mark.parametrize("stage", ["core", "total"])
def test_the_median_of_a_stage_is_that_of_the_replies(slow_folder: Path, stage: str) -> None:
    with ServerProcess("--model", str(slow_folder)) as server:
        stub = server.wait_until_serving().stub()
        replies = [stub.Score(ids_request(80 + number)) for number in range(61)]
        metrics = server.metrics()
    found = (
        re.fullmatch(rf"trt_server_stage_seconds_bucket{{onnxruntime,(.+),{stage}}}", key) for key in metrics
    )
    buckets = {float(key[1]): metrics[key[0]] for key in found if key}
    median = statistics.median(getattr(reply.timing, f"{stage}_ns") for reply in replies) / 1e9
    assert median > 0.001
    assert histogram_quantile(0.5, buckets) == pytest.approx(median, rel=0.06)


def test_a_scrape_does_not_wait_for_the_engine(slow_folder: Path) -> None:
    with ServerProcess("--model", str(slow_folder)) as server:
        stub = server.wait_until_serving().stub()
        replies = [stub.Score.future(slow_request()) for _ in range(2)]
        waiting = server.metrics()
        assert not replies[-1].done()
        assert len([reply.result() for reply in replies]) == 2
    assert waiting["trt_server_requests_total{OK}"] < 2


def test_every_series_is_there_before_the_first_request() -> None:
    """A rate over a counter that comes up with its first event misses that event."""
    text = pb.Prompt(text="a", candidates=[pb.Candidate(text=" b")])
    with ServerProcess("--model", "dummy:tiny") as server:
        stub = server.wait_until_serving().stub()
        before = server.metrics()
        stub.Score(ids_request(5))
        # The model has no tokenizer.
        for wrong in (request(), request(text), ids_request(5, 10**5)):
            with pytest.raises(grpc.RpcError):
                stub.Score(wrong)
        after = server.metrics()
    assert after.keys() == before.keys()
    for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"):
        assert after[f"trt_server_requests_total{{{code}}}"] == 1


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_a_folder_of_another_programs_processes_is_left_alone(tmp_path: Path, name: str) -> None:
    with ServerProcess("--model", "demo", environment={name: str(tmp_path)}) as server:
        assert server.wait_until_serving().metrics()["trt_server_serving"] == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "application/openmetrics-text; version=x"},
        {"Accept": "application/openmetrics-text; version=1.x.0"},
        {"Accept": f"application/openmetrics-text; version={'9' * 6000}"},
        {"Accept": "text/plain;version=;version==, text/plain;version=1.0.0.0.x"},
        {"Accept": "application/openmetrics-text;version"},
        {"Accept": "\xff\xfe"},
        {"Expect": "100-continue"},
    ],
)
def test_whatever_format_is_asked_for_there_is_an_answer(
    server: ServerProcess, headers: dict[str, str]
) -> None:
    address = f"http://127.0.0.1:{server.ports['metrics_port']}/metrics"
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        assert b"trt_server_serving 1.0\n" in response.read()
    assert "Traceback" not in "".join(server.lines)


def test_openmetrics_are_told_where_they_are_asked_for(server: ServerProcess) -> None:
    address = f"http://127.0.0.1:{server.ports['metrics_port']}/metrics"
    accept = "application/openmetrics-text; version=x, application/openmetrics-text;version=1.0.0;q=0.5"
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept": accept})) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert response.read().endswith(b"# EOF\n")
