"""The engine's graphs and build code in a real compiler: TensorRT-RTX's, which needs no GPU and no driver."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from gpu.families import FAMILIES, MAX_TOKENS, write_family
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.flavour import TENSORRT_RTX, installed_flavour
from trt_server.engines.tensorrt.plan.profiles import Profile, SizeRange, profiles_for
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.graph.scoring_graph import ATTENTION_OPSET, Graph, build_graph

from bench.layer_list import Kernel, kernels_a_layer, read_layer_list

pytestmark = pytest.mark.skipif(
    installed_flavour() is not TENSORRT_RTX, reason="needs TensorRT-RTX, and no TensorRT before it"
)

LAYERS = range(2)
AMPERE = PlanTarget("", ("sm80",))
PREFIXES = 8 << 20
# Kernels from the end of a layer to the end of the next: (fp16, fp32), and with a past in front.
GROUPED, FULL, NORMED = ((11, 17), (11, 17)), ((10, 17), (11, 17)), ((15, 19), (15, 19))
# The norm, the product, the search for the most likely tokens, the sum over the vocabulary, and three for a
# few values.
HEAD_KERNELS = 7
KERNELS = {
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "aquila": FULL,
    "deepseek": FULL,
    "qwen3": NORMED,
}


@dataclass(frozen=True)
class Compiler:
    """Builds plans of small checkpoints, each once."""

    root: Path

    def folder(self, family: str) -> Path:
        folder = self.root / family
        return folder if folder.is_dir() else write_family(folder, family)

    def profiles(self, family: str, precision: str, limits: EngineLimits) -> list[list[Kernel]]:
        """The kernels of each profile of the plan."""
        from trt_server.engines.tensorrt.plan.prepared import prepare_for

        checkpoint = open_checkpoint(self.folder(family))
        prepared = prepare_for(AMPERE, checkpoint, limits, precision, False, str)
        assert prepared.plan.path.stat().st_size > checkpoint.geometry.total_parameters * 2
        return read_layer_list(prepared.plan.layers)

    def graph(self) -> Graph:
        checkpoint = open_checkpoint(self.folder("llama"))
        return build_graph(
            checkpoint.geometry, checkpoint.weights, 256, softmax_in_float32=False, top_tokens=20
        )


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_SERVER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def without_a_past(prompts: int) -> EngineLimits:
    return EngineLimits(MAX_TOKENS, prompts)


def with_a_past(prompts: int) -> EngineLimits:
    return EngineLimits(MAX_TOKENS, prompts, PREFIXES)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("limits", [without_a_past, with_a_past])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_compiles_into_few_kernels(
    compiler: Compiler, family: str, limits: Callable[[int], EngineLimits], precision: str
) -> None:
    """Two profiles each: for single prompts and for batches, or without a past and with one."""
    past, half = limits is with_a_past, precision == "fp16"
    profiles = compiler.profiles(family, precision, limits(1 if past else 4))
    assert len(profiles) == 2
    for kernels in profiles:
        assert_merged(kernels)
        assert kernels_a_layer(kernels) <= KERNELS[family][past][not half]
        assert_head_is_short(kernels)
        if half:
            assert_fused(kernels)


@pytest.mark.parametrize(("prompts", "limits", "count"), [(1, without_a_past, 1), (4, with_a_past, 4)])
def test_one_profile_and_four(
    compiler: Compiler, prompts: int, limits: Callable[[int], EngineLimits], count: int
) -> None:
    profiles = compiler.profiles("llama", "fp16", limits(prompts))
    assert len(profiles) == count
    for kernels in profiles:
        assert_merged(kernels)
        assert_fused(kernels)
        assert kernels_a_layer(kernels) <= 11


def assert_fused(kernels: list[Kernel]) -> None:
    """Scores, softmax and values in one kernel a layer, and those nodes in no other."""
    for layer in LAYERS:
        nodes = [f"layers.{layer}.attention.all.{name}" for name in ("scores", "shares", "context")]
        assert sum(kernel.computes(*nodes) for kernel in kernels) == 1
        assert sum(any(node in kernel.nodes for node in nodes) for kernel in kernels) == 1


def assert_head_is_short(kernels: list[Kernel]) -> None:
    """The vocabulary is searched once for the most likely tokens, the first of which is the arg-max."""
    head = [kernel for kernel in kernels if any(node.startswith(("head.", "top_")) for node in kernel.nodes)]
    assert len(head) <= HEAD_KERNELS
    assert sum("topk" in kernel.name.lower() for kernel in head) == 1


def assert_merged(kernels: list[Kernel]) -> None:
    """Queries, keys and values are one product, gate and up another."""
    for layer in LAYERS:
        projections = [f"layers.{layer}.attention.{name}.projected" for name in ("query", "key", "value")]
        halves = [f"layers.{layer}.mlp.{name}" for name in ("gate", "up")]
        for nodes in (projections, halves):
            assert any(kernel.computes(*nodes) for kernel in kernels), nodes


def test_attention_that_is_not_fused_is_seen(compiler: Compiler) -> None:
    """In float32 it is not: what the tests above look for is not there in every list."""
    (kernels,) = compiler.profiles("llama", "fp32", without_a_past(1))
    with pytest.raises(AssertionError):
        assert_fused(kernels)


# The graph that is built, and the one that could be.

HEADS_OF_128 = {"hidden_size": 512, "intermediate_size": 1376}


@pytest.mark.parametrize("limits", [without_a_past, with_a_past])
@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        *((family, {}) for family in FAMILIES),
        ("llama", {**HEADS_OF_128, "num_key_value_heads": 1}),
        ("llama", {**HEADS_OF_128, "num_key_value_heads": 4}),
    ],
    ids=[*FAMILIES, "heads of 128, grouped", "heads of 128, full"],
)
def test_the_graph_that_is_built_is_the_better_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    sizes: dict[str, int],
    limits: Callable[[int], EngineLimits],
) -> None:
    """Where a release of TensorRT-RTX turns this around, attention_graph.py has to."""
    from trt_server.engines.tensorrt.library import FLAVOUR, VERSION
    from trt_server.engines.tensorrt.plan.attention_graph import graph_opset

    from bench.attention_graphs import compiled, spread_bytes
    from bench.other_graph import other_opset

    # Its memory is told while a plan is built, so none may be kept.
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "cache"))
    other = other_opset(FLAVOUR, VERSION)
    assert other is not None
    checkpoint = open_checkpoint(write_family(tmp_path / "checkpoint", family, sizes=sizes))
    opsets = graph_opset(FLAVOUR, VERSION, "fp16"), other
    ours, theirs = (compiled(checkpoint, limits(1), AMPERE, opset) for opset in opsets)
    assert ours.is_fused(len(LAYERS))
    assert theirs.is_fused(len(LAYERS))
    better = f"build the graph of opset {other}: attention_graph.py"
    assert ours.kernels_a_layer <= theirs.kernels_a_layer, better
    # The one price: without a past, keys and values of grouped heads are spread.
    spread = 0 if limits is with_a_past else spread_bytes(checkpoint.geometry, MAX_TOKENS)
    assert ours.scratch_bytes <= theirs.scratch_bytes + spread, better


def test_attention_as_one_operator_does_not_build_in_float32(compiler: Compiler) -> None:
    """Why the choice is fp16's alone: where it builds one day, attention_graph.py need not ask."""
    from trt_server.engines.tensorrt.plan.prepared import prepare_for

    checkpoint = open_checkpoint(compiler.folder("llama"))
    with pytest.raises(StartError, match="Attention operation was not supported"):
        prepare_for(AMPERE, checkpoint, without_a_past(1), "fp32", False, str, ATTENTION_OPSET)


# What it refuses, and what it cannot write.


def build(graph: Graph, path: Path, *profiles: Profile) -> None:
    from trt_server.engines.tensorrt.plan.build import BuildOptions, build_plan

    shapes = profiles or profiles_for(without_a_past(1))
    build_plan(graph, BuildOptions("fp16", False, shapes), AMPERE, path, "no memory")


def refusal(graph: Graph, path: Path, *profiles: Profile) -> str:
    with pytest.raises(StartError) as error:
        build(graph, path, *profiles)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_node_that_the_parser_does_not_take_is_named(compiler: Compiler, tmp_path: Path) -> None:
    graph = compiler.graph()
    (node,) = (node for node in graph.model.graph.node if node.name == "layers.1.mlp.gated")
    node.op_type = "Convolve"
    text = refusal(graph, tmp_path / "plan")
    assert text.startswith("TensorRT-RTX 1.")
    assert "does not take the model: " in text
    assert text.endswith("at layers.1.mlp.gated")


@pytest.mark.parametrize(("kept", "what"), [(None, "is not there any more"), (5000, "was cut short")])
def test_weights_that_are_gone_are_told_as_that(
    compiler: Compiler, tmp_path: Path, kept: int | None, what: str
) -> None:
    graph = compiler.graph()
    if kept is not None:
        whole = (graph.weights_folder / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[:kept])
    text = refusal(Graph(graph.model, tmp_path), tmp_path / "plan")
    assert text.startswith(f"{tmp_path / 'model.safetensors'} {what}")


def test_a_profile_that_cannot_be_is_told(compiler: Compiler, tmp_path: Path) -> None:
    beyond = Profile(SizeRange(1, 1, 1), SizeRange(1, 16, 8), SizeRange(1, 1, 256), SizeRange(1, 4, 320))
    assert "tokens" in refusal(compiler.graph(), tmp_path / "plan", beyond)


def test_a_disk_that_is_full_is_told_by_the_system_s_error(compiler: Compiler) -> None:
    with pytest.raises(OSError, match="No space left") as error:
        build(compiler.graph(), Path("/dev/full"))
    assert error.value.errno == errno.ENOSPC
