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
from trt_common.model.geometry import Geometry
from trt_server.engines.engine import next_token_batch
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.model.graph.scoring_graph import (
    ASKED_STATES,
    ATTENTION_OPSET,
    OPSET,
    OUTPUTS,
    SCORED_STATES,
    TOP_OUTPUTS,
    Graph,
    build_body,
    build_graph,
    build_head,
    past_inputs,
)

# What is kept goes into a folder of the test's own.
pytestmark = pytest.mark.usefixtures("cache")

POSITIONS = 64
# As TensorRT's graph has it.
TOP_TOKENS = 20

# The operators that stand in the table of TensorRT 8.6's ONNX parser for the types this graph gives them
# (onnx-tensorrt, release/8.6-GA, docs/operators.md).
# fmt: off
TENSORRT_8_6 = {
    "Add", "And", "Cast", "Concat", "Div", "Exp", "Expand", "Gather", "Gemm", "Less", "LessOrEqual",
    "Log", "MatMul", "Mul", "Neg", "Pow", "Range", "ReduceMean", "ReduceSum", "Reshape", "Shape",
    "Sigmoid", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where",
}
# fmt: on


def graph_of(folder: Path, dtype: str, with_past: bool = False) -> Graph:
    checkpoint = open_checkpoint(folder)
    weights = weights_as(checkpoint, dtype)
    return build_graph(checkpoint.geometry, weights, POSITIONS, with_past=with_past, top_tokens=TOP_TOKENS)


def inputs_of(tokens: np.ndarray, *lengths: int, past: int = 0) -> dict[str, np.ndarray]:
    """What the graph takes for prompts of these lengths, each asked for the whole vocabulary."""
    candidates = np.tile(np.arange(512, dtype=np.int32), (len(lengths), 1))
    batch = next_token_batch(tokens, np.array(lengths, np.int32), candidates, first_position=past)
    names = ("token_ids", "positions", "visible_until", "scored", "target_ids", "target_places")
    return {name: getattr(batch, name) for name in names}


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
    # TopK takes the number of tokens as int64, and returns them as int64.
    assert users <= {
        *("Cast", "Concat", "Expand", "Gather", "ReduceSum", "Reshape", "Squeeze", "TopK", "Unsqueeze")
    }


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
    logprobs = session_of(graph).run(OUTPUTS, inputs_of(tokens, 48))[0]
    assert logprobs.dtype == np.float32
    difference = torch.from_numpy(logprobs) - reference_logprobs(folder, tokens[0].tolist())
    # 11 bits a product over three layers; what is wrong in type or scale is off by whole units.
    assert difference.abs().max() < 0.1


@pytest.mark.parametrize("length", [1, 5, 47])
def test_blocks_of_queries_change_no_answer(folder: Path, length: int) -> None:
    """More blocks than tokens, too: then some are empty."""
    checkpoint = open_checkpoint(folder)
    tokens = np.random.default_rng(0).integers(0, 512, (3, length), np.int32)
    lengths = length, 1, (length + 1) // 2
    inputs = inputs_of(tokens, *lengths)
    names = ("token_ids", "positions", "visible_until")
    asked = np.arange(tokens.size, dtype=np.int32).reshape(tokens.shape)
    plain, blocked = (
        session_of(build_body(checkpoint.geometry, checkpoint.weights, POSITIONS, blocks)).run(
            [ASKED_STATES], {**{name: inputs[name] for name in names}, "asked": asked}
        )[0]
        for blocks in (1, 8)
    )
    real = (np.arange(length) < np.array(lengths)[:, None]).reshape(-1)
    # Hidden states, unlike log-probabilities, are of any size.
    np.testing.assert_allclose(blocked[real], plain[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "blocks", "first_block"),
    [("float32", 1, None), ("float32", 8, None), ("float16", 1, None)]
    + [("float32", 1, first_block) for first_block in (0, 1, 20, 40)],
)
@pytest.mark.parametrize("width", [1, 3, 40])
def test_the_head_alone_goes_on_from_the_body_alone(
    folder: Path, dtype: str, blocks: int, first_block: int | None, width: int
) -> None:
    """Together they answer what the whole graph does, in whichever tokens are asked for."""
    checkpoint = open_checkpoint(folder)
    weights = weights_as(checkpoint, dtype)
    tokens = np.random.default_rng(0).integers(0, 512, (2, 40), np.int32)
    asked = np.stack([np.arange(40 - width, 40), 40 + np.arange(width)]).astype(np.int32)
    inputs = inputs_of(tokens, 40, 40) | {"scored": asked.reshape(-1)}
    names = [*OUTPUTS, *TOP_OUTPUTS]
    expected = session_of(graph_of(folder, dtype)).run(names, inputs)
    targets = {name: inputs.pop(name) for name in ("target_ids", "target_places")}
    del inputs["scored"]
    for_openvino = first_block is not None
    if for_openvino:
        inputs["first_block"] = np.array([first_block], np.int32)
    body = build_body(checkpoint.geometry, weights, POSITIONS, blocks, for_openvino=for_openvino)
    (states,) = session_of(body).run([ASKED_STATES], {**inputs, "asked": asked})
    assert states.shape == (2 * width, checkpoint.geometry.hidden_size)
    count = {"top_count": np.array([TOP_TOKENS], np.int32)}
    head = session_of(build_head(checkpoint.geometry, weights))
    found = head.run(names, {SCORED_STATES: states, **targets, **count})
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5 if dtype == "float32" else 2e-2)


def past_of(geometry: Geometry, tokens: int, padding: int) -> dict[str, np.ndarray]:
    """Random keys and values of so many tokens, and padding behind them that no query may look at."""
    random = np.random.default_rng(1)
    shape = (1, geometry.key_value_heads, tokens + padding, geometry.head_size)
    values = {name: random.standard_normal(shape, np.float32) for name in past_inputs(geometry.layers)}
    return {"past_length": np.array([tokens], np.int32), "kept": np.arange(3, dtype=np.int32), **values}


@pytest.mark.parametrize("with_past", [False, True])
def test_attention_as_one_operator_changes_no_answer(folder: Path, with_past: bool) -> None:
    checkpoint = open_checkpoint(folder)
    tokens, past = np.random.default_rng(0).integers(0, 512, (3, 32), np.int32), 11 if with_past else 0
    inputs = {
        **inputs_of(tokens, 32, 1, 9, past=past),
        **(past_of(checkpoint.geometry, tokens=past, padding=5) if with_past else {}),
    }
    # A continuation from the second row's fifth token to its ninth.
    inputs["positions"][1, 9:] -= 5
    inputs["visible_until"][1, 4:9] = 8
    graphs = [
        build_graph(
            checkpoint.geometry,
            checkpoint.weights,
            POSITIONS,
            with_past=with_past,
            opset=opset,
            top_tokens=TOP_TOKENS,
        )
        for opset in (OPSET, ATTENTION_OPSET)
    ]
    # What the test is about: without it both would be one graph.
    assert [node.op_type for node in graphs[1].model.graph.node].count(
        "Attention"
    ) == checkpoint.geometry.layers
    primitive, operator = (session_of(graph).run(None, inputs) for graph in graphs)
    kept = 2 * checkpoint.geometry.layers if with_past else 0
    assert len(operator) == len(OUTPUTS) + len(TOP_OUTPUTS) + kept
    for expected, actual in zip(primitive, operator, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("with_past", [False, True])
def test_attention_as_one_operator_is_a_valid_graph(folder: Path, with_past: bool) -> None:
    checkpoint = open_checkpoint(folder)
    weights = weights_as(checkpoint, "float16")
    model = build_graph(
        checkpoint.geometry,
        weights,
        POSITIONS,
        with_past=with_past,
        opset=ATTENTION_OPSET,
        top_tokens=TOP_TOKENS,
    ).model
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 23)]
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    # A row may hold several continuations, so that causality alone is no mask.
    masked = [len(node.input) == 4 for node in model.graph.node if node.op_type == "Attention"]
    assert masked == [True] * checkpoint.geometry.layers
    # Grouped heads go in as they are.
    assert not [node.name for node in model.graph.node if ".spread" in node.name]


def test_weights_of_several_types_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "bfloat16", "llama", dtype="bfloat16", tokenizer=False)
    checkpoint = open_checkpoint(folder)
    with pytest.raises(ValueError, match="bfloat16; convert them"):
        build_graph(checkpoint.geometry, checkpoint.weights, POSITIONS)
