"""OpenVINO against transformers in PyTorch on the same checkpoint."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from checkpoints import FAMILIES, reference_model, write_checkpoint
from processes import FREE_PORTS, ServerProcess, run_program
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb
from transformers import PreTrainedModel
from trt_server.engines.engine import EngineLimits, Scores, next_token_batch
from trt_server.engines.mapped_weights import MappedWeights
from trt_server.engines.openvino import OpenVinoEngine
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.files.tensor_file import TensorLocation

VOCABULARY_SIZE = 512
LENGTHS = (1, 200, 15, 16, 17, 63, 2, 128)
TOLERANCE = 1e-4

pytestmark = pytest.mark.usefixtures("cache")


def has_bf16() -> bool:
    import openvino
    from openvino import properties

    return "BF16" in openvino.Core().get_property("CPU", properties.device.capabilities)


def engine_of(folder: Path, precision: str, prefix_bytes: int = 0) -> OpenVinoEngine:
    limits = EngineLimits(256, len(LENGTHS), prefix_bytes)
    return OpenVinoEngine(open_checkpoint(folder), limits, precision, threads=2, peak_flops=1e12)


def run_python(program: str, *arguments: str) -> str:
    """Return what a program prints in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout


def prompts() -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, VOCABULARY_SIZE, length).tolist() for length in LENGTHS]


def run(engine: OpenVinoEngine, asked: list[list[int]]) -> Scores:
    tokens = np.zeros((len(asked), max(map(len, asked))), np.int32)
    for row, prompt in zip(tokens, asked, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt in asked], np.int32)
    candidates = np.tile(np.arange(VOCABULARY_SIZE, dtype=np.int32), (len(asked), 1))
    return engine.submit(next_token_batch(tokens, lengths, candidates)).wait().scores


def logprobs(model: PreTrainedModel, asked: list[list[int]]) -> torch.Tensor:
    """Of the token after each prompt, [prompts, vocabulary]."""
    return torch.stack([model(torch.tensor([each])).logits[0, -1].float().log_softmax(-1) for each in asked])


@pytest.mark.parametrize("prefix_bytes", [0, 2**20])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family(tmp_path: Path, family: str, precision: str, prefix_bytes: int) -> None:
    """One by one and in one batch, with a graph that takes keys and values and without."""
    if precision == "bf16" and not has_bf16():
        pytest.skip("this processor has no instructions for bf16")
    folder = write_checkpoint(tmp_path / "checkpoint", family, tokenizer=False)
    engine, reference, asked = engine_of(folder, precision, prefix_bytes), reference_model(folder), prompts()
    engine.warm_up()
    expected = logprobs(reference, asked)
    # What bf16 costs these random weights is what it costs transformers, give or take.
    tolerance = TOLERANCE
    if precision == "bf16":
        theirs = logprobs(deepcopy(reference).to(torch.bfloat16), asked)
        tolerance = 2 * float((theirs - expected).abs().max())
    together = run(engine, asked)
    alone = np.stack([run(engine, [each]).target_logprobs for each in asked])
    for found in (together.target_logprobs.reshape(alone.shape), alone):
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    if precision == "fp32":
        assert together.top_token.tolist() == expected.argmax(-1).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_in_bf16_takes_two_bytes_a_number(tmp_path: Path, family: str) -> None:
    if not has_bf16():
        pytest.skip("this processor has no instructions for bf16")
    folder = write_checkpoint(tmp_path, family, tokenizer=False)
    engine, reference = engine_of(folder, "bf16", 2**20), reference_model(folder)
    prefix, *endings = (np.array(prompt, np.int32) for prompt in prompts()[1:4])
    rows = np.zeros((2, 16), np.int32)
    for row, ending in zip(rows, endings, strict=True):
        row[: len(ending)] = ending
    candidates = np.tile(np.arange(VOCABULARY_SIZE, dtype=np.int32), (2, 1))
    lengths = np.array(list(map(len, endings)), np.int32)
    batch = replace(next_token_batch(rows, lengths, candidates, first_position=len(prefix)), prefix=prefix)
    outcomes = [engine.submit(batch).wait() for _ in range(2)]
    asked = [[*prefix.tolist(), *ending.tolist()] for ending in endings]
    expected = logprobs(reference, asked)
    theirs = logprobs(deepcopy(reference).to(torch.bfloat16), asked)
    tolerance = 2 * float((theirs - expected).abs().max())
    for outcome in outcomes:
        found = outcome.scores.target_logprobs.reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    assert [outcome.prefix_reused for outcome in outcomes] == [False, True]
    assert engine.prefixes is not None
    geometry = open_checkpoint(folder).geometry
    numbers = 2 * geometry.layers * geometry.key_value_heads * geometry.head_size * len(prefix)
    assert engine.prefixes.used_bytes == 2 * numbers


def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    """The hub's cache: files are links to others in a folder beside."""
    folder = write_checkpoint(tmp_path / "snapshot", "llama", tokenizer=False)
    expected = run(engine_of(folder, "fp32"), prompts())
    weights = folder / "model.safetensors"
    (tmp_path / "blobs").mkdir()
    weights.rename(tmp_path / "blobs" / "1")
    weights.symlink_to(Path("..") / "blobs" / "1")
    found = run(engine_of(folder, "fp32"), prompts())
    np.testing.assert_array_equal(found.target_logprobs, expected.target_logprobs)


@pytest.mark.usefixtures("measured_peak")
def test_server_says_what_computes(llama_folder: Path) -> None:
    if not has_bf16():
        pytest.skip("this processor has no instructions for bf16")
    arguments = ("--model", str(llama_folder), "--engine", "openvino", "--precision", "bf16")
    with ServerProcess(*arguments) as server:
        stub = server.wait_until_serving().stub()
        model = stub.GetModel(pb.GetModelRequest(measure_peak=True))
        reply = stub.Score(ids_request(40, 7))
    assert (model.engine.name, model.engine.precision) == ("openvino", "bf16")
    assert "bf16 matrix products in OpenVINO" in model.peak.source
    assert [score.tokens.computed for score in reply.scores] == [40, 7]


def test_bf16_is_compared_with_fp32(llama_folder: Path) -> None:
    if not has_bf16():
        pytest.skip("this processor has no instructions for bf16")
    arguments = ("--engine", "openvino", "--precision", "bf16", "--reference", "torch")
    with ServerProcess("--model", str(llama_folder), *arguments) as server:
        model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest())
    assert (model.engine.precision, model.reference.precision) == ("bf16", "fp32")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--engine", "openvino", "--precision", "fp16"), "openvino computes in fp32 or bf16 on a CPU"),
        (("--engine", "openvino", "--devices", "0"), "--devices names GPUs"),
        (("--engine", "openvino", "--tf32"), "--tf32 is for the tensorrt engine"),
        (("--engine", "onnxruntime", "--precision", "bf16"), "--precision bf16 is for --engine openvino"),
        (("--engine", "torch", "--precision", "bf16"), "--precision bf16 is for --engine openvino"),
    ],
)
def test_what_is_not_there_is_said(llama_folder: Path, arguments: tuple[str, ...], text: str) -> None:
    ended = run_program("trt-server", "--model", str(llama_folder), *FREE_PORTS, *arguments)
    assert ended.returncode == 1
    assert text in ended.stderr


_MEMORY = """
import sys
from pathlib import Path
from typing import Any
import psutil
from trt_server.engines.engine import EngineLimits
from trt_server.engines.openvino import OpenVinoEngine
from trt_server.model.files.checkpoint import open_checkpoint
engine = OpenVinoEngine(open_checkpoint(Path(sys.argv[1])), EngineLimits(256, 1, int(sys.argv[2])), "fp32", 2)
engine.warm_up()
print(psutil.Process().memory_info().rss)
"""


def test_weights_are_packed_once_for_prompts_with_a_prefix_and_without(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2}
    folder = write_checkpoint(tmp_path, "llama", tokenizer=False, **sizes)
    weights = (folder / "model.safetensors").stat().st_size
    without, with_prefixes = (
        int(run_python(_MEMORY, str(folder), str(prefix_bytes))) for prefix_bytes in (0, 2**24)
    )
    assert with_prefixes - without < weights / 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems map files by their own rules")
def test_a_file_that_is_larger_than_the_memory_is_mapped(tmp_path: Path) -> None:
    """As 7 B parameters in float32 are, of which OpenVINO keeps half the bytes in bf16."""
    file, elements = tmp_path / "weights", 16
    with file.open("wb") as stream:
        stream.truncate(2 * psutil.virtual_memory().total)
    tensor = TensorLocation(file, 4096, 4 * elements, "float32", (elements,))
    values = MappedWeights({"one": tensor}).array("one")
    values += 1
    assert values.tolist() == [1.0] * elements
    with file.open("rb") as stream:
        stream.seek(4096)
        assert stream.read(4 * elements) == bytes(4 * elements)
