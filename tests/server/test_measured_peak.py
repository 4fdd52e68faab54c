"""The peak that MFU is a share of, measured again when a client asks for it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from processes import ServerProcess
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb
from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import Engine
from trt_server.scheduling.peak_turn import PeakTurn

pytestmark = pytest.mark.usefixtures("measured_peak")
AGAIN = pb.GetModelRequest(measure_peak=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_measured_peak_is_measured_again_and_the_largest_counts(llama_folder: Path, engine: str) -> None:
    with ServerProcess("--model", str(llama_folder), "--engine", engine) as server:
        stub = server.wait_until_serving().stub()
        first = stub.GetModel(pb.GetModelRequest()).peak
        peaks = [first, stub.GetModel(AGAIN).peak, stub.GetModel(AGAIN).peak]
        told = stub.GetModel(pb.GetModelRequest()).peak
        metrics = server.metrics()
    assert [peak.measured.count for peak in peaks] == [1, 2, 3]
    assert first.measured.least_flops_per_second == first.flops_per_second > 1e8
    assert first.source.startswith("measured: ")
    assert told == peaks[-1]
    for before, after in pairwise(peaks):
        assert after.flops_per_second >= before.flops_per_second
        assert after.measured.least_flops_per_second <= before.measured.least_flops_per_second
        assert before.measured.contended or not after.measured.contended
        assert after.source == before.source
    measured = told.measured
    assert metrics[f"trt_server_peak_flops{{{engine},{told.source}}}"] == told.flops_per_second
    assert metrics[f"trt_server_peak_least_flops{{{engine}}}"] == measured.least_flops_per_second
    assert metrics[f"trt_server_peak_measurements{{{engine}}}"] == 3
    assert metrics[f"trt_server_peak_contended{{{engine}}}"] == measured.contended


def test_mfu_follows_the_peak(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder)) as server:
        stub = server.wait_until_serving().stub()
        reply = stub.Score(ids_request(300))
        peak = stub.GetModel(AGAIN).peak
        ratio = server.metrics()["trt_server_mfu_ratio{onnxruntime}"]
    expected = reply.scores[0].flops / (reply.timing.core_ns / 1e9 * peak.flops_per_second)
    assert ratio == pytest.approx(expected)


def test_a_given_peak_stays_what_it_is(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--peak-flops", "1e12") as server:
        peak = server.wait_until_serving().stub().GetModel(AGAIN).peak
        metrics = server.metrics()
    assert peak == pb.PeakFlops(flops_per_second=1e12, source="given with --peak-flops")
    assert not [name for name in metrics if "peak_measurements" in name]


def test_a_reference_measures_too(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--reference", "torch") as server:
        server.wait_until_serving().stub().GetModel(AGAIN)
        metrics = server.metrics()
    assert [metrics[f"trt_server_peak_measurements{{{name}}}"] for name in ("onnxruntime", "torch")] == [2, 2]


def test_requests_wait_meanwhile_and_are_answered(slow_folder: Path) -> None:
    with ServerProcess("--model", str(slow_folder)) as server:
        stub = server.wait_until_serving().stub()
        alone = stub.Score(ids_request(40)).scores
        asked = [stub.Score.future(ids_request(40)) for _ in range(4)]
        measuring = [stub.GetModel.future(AGAIN) for _ in range(2)]
        asked += [stub.Score.future(ids_request(40)) for _ in range(4)]
        for reply in asked:
            assert list(reply.result().scores) == list(alone)
        assert {each.result().peak.measured.count for each in measuring} == {2, 3}
        assert server.stop() == 0


class NeverAsked:
    """In the place of an engine whose peak nobody waits for."""

    def __init__(self) -> None:
        self.measured = 0

    def measure_peak(self) -> PeakFlops:
        self.measured += 1
        return PeakFlops(1.0, "made up")


def test_a_turn_that_nobody_waits_for_is_not_taken() -> None:
    """Whether a caller leaves before its turn comes is chance in a server: here it is certain."""

    async def left_and_stayed() -> tuple[int, int]:
        left, stayed, engine = PeakTurn(), PeakTurn(), NeverAsked()
        left.peak.cancel()
        left.take(cast(Engine, engine))
        after_left = engine.measured
        stayed.take(cast(Engine, engine))
        await stayed.peak
        return after_left, engine.measured

    assert asyncio.run(left_and_stayed()) == (0, 1)
