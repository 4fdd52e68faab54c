"""The ONNX graph that scores prompts, made of geometry and weights; every engine runs the same.

Opset 17 has primitive operators only, each of which is in the operator table of TensorRT 8.6's parser for the
types it is used with. Opset 23 differs only in attention, which is one operator there. The graph refers to
weights by file, offset and length, and never copies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from trt_server.model.attention import Attention
from trt_server.model.geometry import Geometry
from trt_server.model.node_list import NodeList
from trt_server.model.weights import Weights

OPSET = 17
# The first opset with the operator `Attention`.
ATTENTION_OPSET = 23
# The version of ONNX's file format for each opset.
IR_VERSIONS = {OPSET: 8, ATTENTION_OPSET: 11}

OUTPUTS = ("candidate_logprobs", "top_token", "top_logprob")


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
    query_blocks: int = 1,
    softmax_in_float32: bool = True,
    with_past: bool = False,
    opset: int = OPSET,
) -> Graph:
    """Build the graph that scores prompts of up to `positions` tokens.

    Its inputs, all int32, are token_ids [prompts, length], padded on the right; lengths [prompts]; candidates
    [prompts, width]. Its outputs, for the token that follows each prompt, are candidate_logprobs float32
    [prompts, width], top_token int32 [prompts] and top_logprob float32 [prompts].

    It computes in the type of the weights, which must be float32 for all or float16 for all. RMSNorm and the
    log-probabilities are always float32, attention's softmax unless softmax_in_float32 is False. Padding
    needs no mask: it is to the right of the scored token, and causal attention never looks there.

    With a past, prompts continue a KV cache of an earlier run, which is the same for all of them, and
    token_ids and lengths are those of the rest. Further inputs: past_length int32 [1]; past_inputs of the
    weights' type, each [1, key_value_heads, past, head_size] and padded on the right; kept int32 [kept], the
    new tokens whose keys and values are returned. Further outputs: kept_outputs, each [prompts,
    key_value_heads, kept, head_size].

    Args:
        geometry: The sizes of the model.
        weights: Its weights.
        positions: The tokens of the longest prompt, that of a past included.
        query_blocks: In how many blocks each layer's attention takes its queries. With 1 the nodes have the
            usual pattern, which TensorRT may fuse into one kernel. It has to be 1 with a past and with
            ATTENTION_OPSET.
        softmax_in_float32: False: attention's scores and their softmax have the type of the weights, as a
            fused kernel requires; whether that sums in float32 is up to the engine. With ATTENTION_OPSET that
            is always so.
        with_past: Whether the graph takes a KV cache.
        opset: OPSET, or ATTENTION_OPSET, with which each layer's attention is one `Attention` node. That node
            takes grouped heads as they are, and no mask where a query sees all keys before it.

    Raises:
        ValueError: There are several query blocks where only one is possible.
    """
    nodes = NodeList(weights, opset)
    _add_sizes(nodes)
    attention = Attention(geometry, nodes, positions, query_blocks, softmax_in_float32, with_past)
    _decode(geometry, nodes, attention)
    past, kept = _past_values(geometry, nodes.onnx_type) if with_past else ([], [])
    graph = helper.make_graph(
        nodes.nodes,
        "scoring",
        [
            helper.make_tensor_value_info("token_ids", TensorProto.INT32, ["prompts", "length"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["prompts"]),
            helper.make_tensor_value_info("candidates", TensorProto.INT32, ["prompts", "width"]),
            *past,
        ],
        [
            helper.make_tensor_value_info("candidate_logprobs", TensorProto.FLOAT, ["prompts", "width"]),
            helper.make_tensor_value_info("top_token", TensorProto.INT32, ["prompts"]),
            helper.make_tensor_value_info("top_logprob", TensorProto.FLOAT, ["prompts"]),
            *kept,
        ],
        initializer=list(nodes.initializers.values()),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSIONS[opset],
        producer_name="trt-server",
    )
    return Graph(model, nodes.weights_folder)


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
        helper.make_tensor_value_info(name, onnx_type, ["prompts", heads, "kept", size])
        for name in kept_outputs(geometry.layers)
    ]
    return inputs, outputs


def _add_sizes(nodes: NodeList) -> None:
    nodes.add("Shape", ["token_ids"], "token_ids.shape")
    _size(nodes, axis=0, name="prompts")
    _size(nodes, axis=1, name="length")


def _decode(geometry: Geometry, nodes: NodeList, attention: Attention) -> None:
    """Add all layers.

    Between them hidden states are [prompts × length, hidden_size]: one product a weight.
    """
    embedded = nodes.add("Gather", [nodes.weight("model.embed_tokens.weight"), "token_ids"], "embedding")
    hidden = nodes.add("Reshape", [embedded, nodes.sizes(-1, geometry.hidden_size)], "hidden")
    for layer in range(geometry.layers):
        with nodes.scope(f"layers.{layer}"):
            hidden = _layer(geometry, nodes, attention, hidden, layer)
    _score(geometry, nodes, hidden)


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


def _score(geometry: Geometry, nodes: NodeList, hidden: str) -> None:
    with nodes.scope("head"):
        last = _last_rows(nodes, hidden)
        normed = nodes.rms_norm(last, "model.norm.weight", geometry.rms_epsilon, "norm")
        tied = geometry.tied_embeddings
        weight = nodes.weight("model.embed_tokens.weight" if tied else "lm_head.weight")
        logits = nodes.float32(nodes.add("Gemm", [normed, weight], "logits", transB=1))
        highest = nodes.reduced("ReduceMax", logits, "highest")
        shifted = nodes.add("Sub", [logits, highest], "shifted")
        total = nodes.add("ReduceSum", [nodes.add("Exp", [shifted], "exp"), nodes.sizes(-1)], "total")
        log_total = nodes.add("Log", [total], "log_total")
        chosen = nodes.add("GatherElements", [shifted, "candidates"], "chosen", axis=1)
        top = nodes.add("ArgMax", [logits], "top", axis=-1, keepdims=0)
        top_logprob = nodes.add("Neg", [log_total], "top_logprob")
    nodes.add("Sub", [chosen, log_total], "candidate_logprobs")
    nodes.add("Cast", [top], "top_token", to=TensorProto.INT32)
    nodes.add("Squeeze", [top_logprob, nodes.sizes(-1)], "top_logprob")


def _last_rows(nodes: NodeList, hidden: str) -> str:
    """Return the hidden state of each prompt's last real token, [prompts, hidden_size]."""
    prompt = nodes.add("Range", [nodes.int32(0), "prompts", nodes.int32(1)], "prompt")
    start = nodes.add("Mul", [prompt, "length"], "start")
    end = nodes.add("Add", [start, "lengths"], "end")
    return nodes.add("Gather", [hidden, nodes.add("Sub", [end, nodes.int32(1)], "row")], "last_rows")
