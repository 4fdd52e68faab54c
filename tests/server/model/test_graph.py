"""The graph as other engines read it: operators, types, weights in place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from checkpoints import FAMILIES, reference_logprobs, write_checkpoint
from onnx import TensorProto
from trt_server.model.checkpoint import open_checkpoint
from trt_server.model.conversion import weights_as
from trt_server.model.graph import OUTPUTS, Graph, build_graph

POSITIONS = 64

# The operators that stand in the table of TensorRT 8.6's ONNX parser for the types this graph gives them
# (onnx-tensorrt, release/8.6-GA, docs/operators.md).
# fmt: off
TENSORRT_8_6 = {
    "Add", "And", "ArgMax", "Cast", "Concat", "Div", "Exp", "Expand", "Gather", "GatherElements",
    "Gemm", "Less", "LessOrEqual", "Log", "MatMul", "Mul", "Neg", "Pow", "Range", "ReduceMax",
    "ReduceMean", "ReduceSum", "Reshape", "Shape", "Sigmoid", "Softmax", "Split", "Sqrt", "Squeeze",
    "Sub", "Transpose", "Unsqueeze", "Where",
}
# fmt: on


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "cache"))


def graph_of(folder: Path, dtype: str, with_past: bool = False) -> Graph:
    checkpoint = open_checkpoint(folder)
    return build_graph(checkpoint.geometry, weights_as(checkpoint, dtype), POSITIONS, with_past=with_past)


def session_of(graph: Graph) -> ort.InferenceSession:
    options = ort.SessionOptions()
    folder = os.fspath(graph.weights_folder)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    return ort.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", request.param, tokenizer=False)


@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_operators_and_types(folder: Path, dtype: str, with_past: bool) -> None:
    model = graph_of(folder, dtype, with_past).model
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.op_type for node in model.graph.node} <= TENSORRT_8_6
    # Strict mode checks every node's types and shapes against ONNX's own rules.
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    types |= {value.name: value.data_type for value in model.graph.initializer}
    inputs = {tensor.name: tensor.type.tensor_type.elem_type for tensor in model.graph.input}
    pasts = {inputs.pop(name) for name in [*inputs] if name.startswith("past.")}
    assert pasts == ({onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))} if with_past else set())
    assert set(inputs.values()) == {TensorProto.INT32}
    expected = {TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}
    expected |= {TensorProto.FLOAT16} if dtype == "float16" else set()
    assert set(types.values()) == expected
    for node in model.graph.node:
        if node.op_type in ("Softmax", "ReduceMean", "Exp", "Log", "ReduceSum", "ReduceMax"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
        if node.op_type in ("Gemm", "MatMul"):
            assert types[node.input[0]] == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), node.name


def test_int64_is_for_shapes_and_axes_alone(folder: Path) -> None:
    model = onnx.shape_inference.infer_shapes(graph_of(folder, "float32").model)
    wide = {
        value.name
        for value in model.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.INT64
    }
    wide |= {value.name for value in model.graph.initializer if value.data_type == TensorProto.INT64}
    users = {node.op_type for node in model.graph.node if wide & set(node.input)}
    assert users <= {"Cast", "Concat", "Expand", "Gather", "ReduceSum", "Reshape", "Squeeze", "Unsqueeze"}


def test_weights_are_named_in_place_with_their_length(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    graph = graph_of(folder, "float32")
    external = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    assert set(external) == set(checkpoint.weights)
    for name, place in external.items():
        tensor = checkpoint.weights[name]
        assert (graph.weights_folder / place["location"]).samefile(folder / "model.safetensors")
        assert (int(place["offset"]), int(place["length"])) == (tensor.offset, tensor.length)
    assert graph.model.ByteSize() < 250_000


def test_node_names_say_where_they_are(folder: Path) -> None:
    names = [node.name for node in graph_of(folder, "float32").model.graph.node]
    assert len(set(names)) == len(names)
    assert "layers.2.attention.all.scores" in names


def test_float16_graph_scores_like_the_checkpoint(folder: Path) -> None:
    """ONNX Runtime runs float16 on a CPU, slowly: enough to see that the graph is right in that type."""
    graph = graph_of(folder, "float16")
    tokens = np.random.default_rng(0).integers(0, 512, (1, 48), np.int32)
    candidates = np.arange(512, dtype=np.int32)[None]
    inputs = {"token_ids": tokens, "lengths": np.array([48], np.int32), "candidates": candidates}
    logprobs = session_of(graph).run(OUTPUTS, inputs)[0]
    assert logprobs.dtype == np.float32
    difference = torch.from_numpy(logprobs[0]) - reference_logprobs(folder, tokens[0].tolist())
    # 11 bits a product over three layers; what is wrong in type or scale is off by whole units.
    assert difference.abs().max() < 0.1


@pytest.mark.parametrize("length", [1, 5, 47])
def test_blocks_of_queries_change_no_answer(folder: Path, length: int) -> None:
    """More blocks than tokens, too: then some are empty."""
    checkpoint = open_checkpoint(folder)
    tokens = np.random.default_rng(0).integers(0, 512, (3, length), np.int32)
    inputs = {
        "token_ids": tokens,
        "lengths": np.array([length, 1, (length + 1) // 2], np.int32),
        "candidates": np.tile(np.arange(512, dtype=np.int32), (3, 1)),
    }
    plain, blocked = (
        session_of(build_graph(checkpoint.geometry, checkpoint.weights, POSITIONS, blocks)).run(
            OUTPUTS, inputs
        )
        for blocks in (1, 8)
    )
    for expected, actual in zip(plain, blocked, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_weights_of_several_types_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "bfloat16", "llama", dtype="bfloat16", tokenizer=False)
    checkpoint = open_checkpoint(folder)
    with pytest.raises(ValueError, match="bfloat16; convert them"):
        build_graph(checkpoint.geometry, checkpoint.weights, POSITIONS)
