"""The reference engine beside the compiled one, and alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_gpu_machine import gpu_machine
from processes import FREE_PORTS, ServerProcess, run_program
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb

LENGTHS = (3, 70, 25, 1)


def test_both_engines_answer_alike_in_ragged_batches(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--reference", "torch") as server:
        stub = server.wait_until_serving().stub()
        model = stub.GetModel(pb.GetModelRequest())
        request = ids_request(*LENGTHS)
        compiled = stub.Score(request)
        request.engine = pb.ENGINE_ROLE_REFERENCE
        reference = stub.Score(request)
        metrics = server.metrics()
    assert (model.engine.name, model.reference.name) == ("onnxruntime", "torch")
    assert model.engine.fingerprint != model.reference.fingerprint
    for ours, theirs in zip(compiled.scores, reference.scores, strict=True):
        np.testing.assert_allclose(ours.candidate_logprobs, theirs.candidate_logprobs, atol=1e-4)
        assert ours.top_token_id == theirs.top_token_id
        assert ours.tokens == theirs.tokens
        # transformers computes the last layer whole, which is the same for a prompt of one token.
        assert (ours.flops < theirs.flops) == (ours.tokens.computed > 1)
    assert reference.timing.core_ns > 0
    for engine in ("onnxruntime", "torch"):
        assert metrics[f"trt_server_tokens_total{{{engine},logical}}"] == sum(LENGTHS)


@pytest.mark.parametrize("family", ["aquila", "qwen3"])
def test_torch_serves_alone(tmp_path: Path, family: str) -> None:
    from checkpoints import reference_logprobs, write_checkpoint

    folder = write_checkpoint(tmp_path / family, family)
    with ServerProcess("--model", str(folder), "--engine", "torch") as server:
        stub = server.wait_until_serving().stub()
        request = ids_request(40)
        score = stub.Score(request).scores[0]
        model = stub.GetModel(pb.GetModelRequest())
    expected = reference_logprobs(folder, list(request.prompts[0].token_ids.ids))
    assert score.top_token_id == int(expected.argmax())
    np.testing.assert_allclose(score.candidate_logprobs, expected[list(score.candidate_ids)], atol=1e-4)
    assert model.engine.name == "torch"
    assert model.limits.prefix_cache_bytes == 0


def test_a_given_peak_is_that_of_a_reference_which_computes_alike(llama_folder: Path, tmp_path: Path) -> None:
    """On the CPU in fp32 both; and not where the one is on a GPU in fp16."""
    arguments = ("--model", str(llama_folder), "--reference", "torch", "--peak-flops", "1e13")
    for engine, environment in (("onnxruntime", {}), ("tensorrt", gpu_machine(tmp_path))):
        with ServerProcess(*arguments, "--engine", engine, environment=environment) as server:
            metrics = server.wait_until_serving().metrics()
        given = {
            name
            for name in ("onnxruntime", "tensorrt", "torch")
            if f"trt_server_peak_flops{{{name},given with --peak-flops}}" in metrics
        }
        assert given == {engine} | ({"torch"} if engine == "onnxruntime" else set())


def test_the_same_engine_twice_is_refused() -> None:
    arguments = ("--engine", "torch", "--reference", "torch", "--log-level", "error")
    done = run_program("trt-server", *arguments, *FREE_PORTS)
    assert done.returncode == 1
    assert "the same engine twice" in done.stderr
