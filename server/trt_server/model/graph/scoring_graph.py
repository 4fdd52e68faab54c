"""The ONNX graph that scores prompts, made of geometry and weights; every engine runs the same.

Opset 17 has primitive operators only, each of which is in the operator table of TensorRT 8.6's parser for the
types it is used with. Opset 23 differs only in attention, which is one operator there. The graph refers to
weights by file, offset and length, and never copies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from trt_common.model.geometry import Geometry

from trt_server.model.files.weights import Weights
from trt_server.model.graph.attention import Attention, AttentionForm
from trt_server.model.graph.node_list import NodeList

OPSET = 17
# The first opset with the operator `Attention`.
ATTENTION_OPSET = 23
# The version of ONNX's file format for each opset.
IR_VERSIONS = {OPSET: 8, ATTENTION_OPSET: 11}

# Of every run, and what a run is asked for besides.
OUTPUTS = ("target_logprobs", "top_token", "top_logprob")
TOP_OUTPUTS = ("top_tokens", "top_logprobs")
ASKED_STATES = "asked_states"
SCORED_STATES = "scored_states"


@dataclass(frozen=True)
class Graph:
    """A graph and the folder of its weights.

    Attributes:
        model: The graph.
        weights_folder: The folder that the paths of its external data are relative to.
    """

    model: onnx.ModelProto
    weights_folder: Path


def build_graph(
    geometry: Geometry,
    weights: Weights,
    positions: int,
    softmax_in_float32: bool = True,
    with_past: bool = False,
    opset: int = OPSET,
    top_tokens: int = 1,
) -> Graph:
    """Build the graph that scores texts of up to `positions` tokens.

    Inputs, int32, of rows of tokens that are padded on the right:
        token_ids [rows, length].
        positions [rows, length]: Each token's place in its own text.
        visible_until [rows, length]: The last place of its row that sees a token; those before it never do.
        scored [scored]: The tokens, counted through all rows, whose next token is asked for.
        target_ids [targets]: Tokens whose log-probability is asked for.
        target_places [targets]: In which place of `scored` each of them would be the next token.
    Outputs:
        target_logprobs: float32 [targets].
        top_token, top_logprob: int32 and float32 [scored], the most likely token.
        top_tokens, top_logprobs: int32 and float32 [scored, top_tokens], the most likely ones, first first.

    It computes in the type of the weights, which must be float32 for all or float16 for all. RMSNorm and the
    log-probabilities are always float32, attention's softmax unless softmax_in_float32 is False. Padding
    needs no mask: it is to the right of the scored token, and causal attention never looks there.

    With a past, rows continue a KV cache of an earlier run, which is the same for all of them, and
    token_ids and positions are those of the rest. Further inputs: past_length int32 [1]; past_inputs of the
    weights' type, each [1, key_value_heads, past, head_size] and padded on the right; kept int32 [kept], the
    new tokens whose keys and values are returned. Further outputs: kept_outputs, each [rows,
    key_value_heads, kept, head_size].

    Args:
        geometry: The sizes of the model.
        weights: Its weights.
        positions: The tokens of the longest prompt, that of a past included.
        softmax_in_float32: False: attention's scores and their softmax have the type of the weights, as a
            fused kernel requires; whether that sums in float32 is up to the engine. With ATTENTION_OPSET that
            is always so.
        with_past: Whether the graph takes a KV cache.
        opset: OPSET, or ATTENTION_OPSET, with which each layer's attention is one `Attention` node. That node
            takes grouped heads as they are.
        top_tokens: How many of the most likely tokens are returned.
    """
    nodes = NodeList(weights, opset)
    # Queries in one block are the usual pattern, which TensorRT may fuse into one kernel.
    form = AttentionForm(softmax_in_float32=softmax_in_float32, with_past=with_past)
    hidden = _add_body(geometry, nodes, positions, form)
    rows = nodes.add("Gather", [hidden, "scored"], "scored_states")
    _score(geometry, nodes, rows, top_tokens)
    past, kept = _past_values(geometry, nodes.onnx_type) if with_past else ([], [])
    inputs = [*_body_inputs(), _int32("scored", ["scored"]), *_head_inputs(), *past]
    return _graph(nodes, inputs, [*_head_outputs(top_tokens), *kept])


def build_body(
    geometry: Geometry,
    weights: Weights,
    positions: int,
    query_blocks: int = 1,
    with_past: bool = False,
    for_openvino: bool = False,
) -> Graph:
    """Build the graph without its head, for engines that run the head in slices.

    Inputs are those of `build_graph` without `scored` and the targets, but with asked int32 [rows, asked]:
    tokens of each row, counted through all rows, whose hidden states are returned. The last layer computes
    nothing but keys and values for the others. Its output is asked_states of the weights' type [rows × asked,
    hidden_size]; with a past also kept_outputs.

    Args:
        geometry: As `build_graph` has it.
        weights: As `build_graph` has it.
        positions: As `build_graph` has it.
        query_blocks: In how many blocks each layer's attention takes its queries; 1 with a past.
        with_past: As `build_graph` has it.
        for_openvino: Rotations are written as OpenVINO recognizes them, and the further input first_block,
            int32 [1], says how many queries of each row are taken in a first block, the others in a second.

    Raises:
        ValueError: There are several query blocks with a past.
    """
    nodes = NodeList(weights, OPSET)
    form = AttentionForm(query_blocks, True, with_past, asked_only=True, for_openvino=for_openvino)
    hidden = _add_body(geometry, nodes, positions, form)
    nodes.add("Identity", [hidden], ASKED_STATES)
    past, kept = _past_values(geometry, nodes.onnx_type) if with_past else ([], [])
    first_block = [_int32("first_block", [1])] if for_openvino else []
    inputs = [*_body_inputs(), _int32("asked", ["rows", "asked"]), *first_block, *past]
    return _graph(nodes, inputs, [_states(geometry, nodes, ASKED_STATES, "states"), *kept])


def build_head(geometry: Geometry, weights: Weights) -> Graph:
    """Build the graph of the head alone.

    Inputs: scored_states of the weights' type [scored, hidden_size]; target_ids and target_places as
    `build_graph` has them; top_count int32 [1], how many of the most likely tokens are returned. Outputs: the
    same as there.
    """
    nodes = NodeList(weights, OPSET)
    _score(geometry, nodes, SCORED_STATES, None)
    inputs = [_states(geometry, nodes, SCORED_STATES, "scored"), *_head_inputs(), _int32("top_count", [1])]
    return _graph(nodes, inputs, _head_outputs(None))


def _graph(
    nodes: NodeList, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> Graph:
    graph = helper.make_graph(
        nodes.nodes, "scoring", inputs, outputs, initializer=list(nodes.initializers.values())
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", nodes.opset)],
        ir_version=IR_VERSIONS[nodes.opset],
        producer_name="trt-server",
    )
    return Graph(model, nodes.weights_folder)


def _body_inputs() -> list[onnx.ValueInfoProto]:
    return [_int32(name, ["rows", "length"]) for name in ("token_ids", "positions", "visible_until")]


def _states(geometry: Geometry, nodes: NodeList, name: str, count: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, nodes.onnx_type, [count, geometry.hidden_size])


def _head_inputs() -> list[onnx.ValueInfoProto]:
    return [_int32(name, ["targets"]) for name in ("target_ids", "target_places")]


def _head_outputs(top_tokens: int | None) -> list[onnx.ValueInfoProto]:
    top = ["scored", top_tokens or "top_count"]
    return [
        helper.make_tensor_value_info("target_logprobs", TensorProto.FLOAT, ["targets"]),
        _int32("top_token", ["scored"]),
        helper.make_tensor_value_info("top_logprob", TensorProto.FLOAT, ["scored"]),
        _int32("top_tokens", top),
        helper.make_tensor_value_info("top_logprobs", TensorProto.FLOAT, top),
    ]


def _int32(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT32, shape)


def past_inputs(layers: int) -> list[str]:
    """Return the names of the KV cache's inputs: keys and values of each layer in turn."""
    return [f"past.{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]


def kept_outputs(layers: int) -> list[str]:
    """Return the names of the outputs with new keys and values, in the order of past_inputs."""
    return [f"layers.{layer}.attention.kept.{kind}" for layer in range(layers) for kind in ("key", "value")]


def _past_values(
    geometry: Geometry, onnx_type: int
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Return the further inputs and outputs of a graph with a past."""
    heads, size = geometry.key_value_heads, geometry.head_size
    inputs = [
        helper.make_tensor_value_info("past_length", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("kept", TensorProto.INT32, ["kept"]),
        *(
            helper.make_tensor_value_info(name, onnx_type, [1, heads, "past", size])
            for name in past_inputs(geometry.layers)
        ),
    ]
    outputs = [
        helper.make_tensor_value_info(name, onnx_type, ["rows", heads, "kept", size])
        for name in kept_outputs(geometry.layers)
    ]
    return inputs, outputs


def _add_sizes(nodes: NodeList) -> None:
    nodes.add("Shape", ["token_ids"], "token_ids.shape")
    _size(nodes, axis=0, name="rows")
    _size(nodes, axis=1, name="length")


def _add_body(geometry: Geometry, nodes: NodeList, positions: int, form: AttentionForm) -> str:
    """Add all layers, and return the last one's output.

    Between layers hidden states are [rows × length, hidden_size]: one product a weight.
    """
    _add_sizes(nodes)
    attention = Attention(geometry, nodes, positions, form)
    embedded = nodes.add("Gather", [nodes.weight("model.embed_tokens.weight"), "token_ids"], "embedding")
    hidden = nodes.add("Reshape", [embedded, nodes.sizes(-1, geometry.hidden_size)], "hidden")
    for layer in range(geometry.layers):
        with nodes.scope(f"layers.{layer}"):
            hidden = _layer(geometry, nodes, attention, hidden, layer)
    return hidden


def _size(nodes: NodeList, axis: int, name: str) -> None:
    """Add one size of token_ids as an int32 number, and as `name`.vector, int32 [1]."""
    size = nodes.add("Gather", ["token_ids.shape", nodes.sizes(axis)], f"{name}.size", axis=0)
    vector = nodes.add("Cast", [size], f"{name}.vector", to=TensorProto.INT32)
    nodes.add("Squeeze", [vector, nodes.sizes(0)], name)


def _layer(geometry: Geometry, nodes: NodeList, attention: Attention, hidden: str, layer: int) -> str:
    weights, epsilon = f"model.layers.{layer}", geometry.rms_epsilon
    normed = nodes.rms_norm(hidden, f"{weights}.input_layernorm.weight", epsilon, "attention_norm")
    with nodes.scope("attention"):
        attended = attention.add_layer(normed, layer)
    hidden = attention.queries(layer).of_rows(nodes, hidden, "asked")
    hidden = nodes.add("Add", [hidden, attended], "after_attention")
    normed = nodes.rms_norm(hidden, f"{weights}.post_attention_layernorm.weight", epsilon, "mlp_norm")
    with nodes.scope("mlp"):
        transformed = _mlp(nodes, normed, f"{weights}.mlp")
    return nodes.add("Add", [hidden, transformed], "after_mlp")


def _mlp(nodes: NodeList, hidden: str, weights: str) -> str:
    """Add down(silu(gate(x)) · up(x)) (Shazeer 2020, "GLU Variants Improve Transformer")."""
    gate = nodes.linear(hidden, f"{weights}.gate_proj", "gate")
    up = nodes.linear(hidden, f"{weights}.up_proj", "up")
    gate = nodes.add("Mul", [gate, nodes.add("Sigmoid", [gate], "gate.sigmoid")], "gate.silu")
    return nodes.linear(nodes.add("Mul", [gate, up], "gated"), f"{weights}.down_proj", "down")


def _score(geometry: Geometry, nodes: NodeList, rows: str, top_tokens: int | None) -> None:
    """From hidden states [scored, hidden_size] to all outputs of the head."""
    vocabulary = geometry.vocabulary_size
    with nodes.scope("head"):
        normed = nodes.rms_norm(rows, "model.norm.weight", geometry.rms_epsilon, "norm")
        tied = geometry.tied_embeddings
        weight = nodes.weight("model.embed_tokens.weight" if tied else "lm_head.weight")
        logits = nodes.float32(nodes.add("Gemm", [normed, weight], "logits", transB=1))
        most, most_ids = _most_likely(nodes, logits, top_tokens)
        if top_tokens:
            # They are computed anyway: the first of them saves two more passes over the vocabulary.
            highest = nodes.add("Gather", [most, nodes.sizes(0)], "highest", axis=-1)
            first = nodes.add("Gather", [most_ids, nodes.sizes(0)], "first", axis=-1)
            top = nodes.add("Squeeze", [first, nodes.sizes(-1)], "top")
        else:
            highest = nodes.reduced("ReduceMax", logits, "highest")
            top = nodes.add("ArgMax", [logits], "top", axis=-1, keepdims=0)
        shifted = nodes.add("Sub", [logits, highest], "shifted")
        most_shifted = nodes.add("Sub", [most, highest], "most.shifted")
        total = nodes.add("ReduceSum", [nodes.add("Exp", [shifted], "exp"), nodes.sizes(-1)], "total")
        log_total = nodes.add("Log", [total], "log_total")
        log_totals = nodes.add("Squeeze", [log_total, nodes.sizes(-1)], "log_totals")
        values = nodes.add("Reshape", [shifted, nodes.sizes(-1)], "values")
        start = nodes.add("Mul", ["target_places", nodes.int32(vocabulary)], "start")
        chosen = nodes.add("Gather", [values, nodes.add("Add", [start, "target_ids"], "place")], "chosen")
        chosen_total = nodes.add("Gather", [log_totals, "target_places"], "chosen.total")
    nodes.add("Sub", [chosen, chosen_total], "target_logprobs")
    nodes.add("Cast", [top], "top_token", to=TensorProto.INT32)
    nodes.add("Neg", [log_totals], "top_logprob")
    nodes.add("Cast", [most_ids], "top_tokens", to=TensorProto.INT32)
    nodes.add("Sub", [most_shifted, log_total], "top_logprobs")


def _most_likely(nodes: NodeList, logits: str, top_tokens: int | None) -> tuple[str, str]:
    """Return each row's largest logits and their tokens, top_tokens or top_count of them, largest first."""
    if top_tokens:
        count = nodes.sizes(top_tokens)
    else:
        count = nodes.add("Cast", ["top_count"], "top_count.size", to=TensorProto.INT64)
    most, most_ids = nodes.add_with_outputs("TopK", [logits, count], "most", ["", ".ids"])
    return most, most_ids
