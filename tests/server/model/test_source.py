"""What --model names: folders, the demo, random weights, the hub, and what is none of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from trt_common.model.geometry import read_geometry
from trt_server.engines.engine import EngineLimits, next_token_batch
from trt_server.engines.onnxruntime import OnnxRuntimeEngine
from trt_server.errors import StartError
from trt_server.model.dummy import GEOMETRIES
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.source import resolve_model

# What is kept goes into a folder of the test's own.
pytestmark = pytest.mark.usefixtures("cache")


def test_folder(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_model(str(llama_folder), "fp32")
    assert (source.folder, source.notice) == (llama_folder.resolve(), "")
    monkeypatch.chdir(llama_folder)
    assert resolve_model(".", "fp32") == source
    assert source.model_id == llama_folder.name


def test_demo_ships_with_the_package() -> None:
    source = resolve_model("demo", "fp32")
    assert source.model_id == "demo"
    assert open_checkpoint(source.folder).geometry.family == "llama"


def test_nothing_of_that_name() -> None:
    with pytest.raises(
        StartError, match=r"--model no such thing: there is no such folder; give a checkpoint"
    ):
        resolve_model("no such thing", "fp32")


@pytest.mark.parametrize("name", ["./some", "../model", "./a/b", "a/b/", "a/..", "~/model", "/a/b"])
def test_a_path_is_no_hub_id(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is never asked for it."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(StartError, match=re.escape(f"--model {name}: there is no such folder; give a")):
        resolve_model(name, "fp32")


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 discards; nothing listens there.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StartError) as error:
        resolve_model("nobody/no-such-model", "fp32")
    assert "--model nobody/no-such-model: there is no such folder, and the hub cannot be reached" in str(
        error.value
    )
    assert "\n" not in str(error.value)


# Random weights.


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_dummy_weights_have_the_shape_and_the_precision(precision: str) -> None:
    source = resolve_model("dummy:tiny", precision)
    assert (source.model_id, source.notice) == ("dummy:tiny", "random weights")
    checkpoint = open_checkpoint(source.folder)
    assert checkpoint.geometry == read_geometry(GEOMETRIES["tiny"])
    dtype = {"fp32": "float32", "fp16": "float16"}[precision]
    assert {tensor.dtype for tensor in checkpoint.weights.values()} == {dtype}
    assert json.loads((source.folder / "config.json").read_text())["dtype"] == dtype


def test_dummy_weights_are_made_once_and_are_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = resolve_model("dummy:tiny", "fp32").folder
    made = (here / "model.safetensors").stat().st_mtime_ns
    assert (resolve_model("dummy:tiny", "fp32").folder / "model.safetensors").stat().st_mtime_ns == made
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "another"))
    there = resolve_model("dummy:tiny", "fp32").folder
    assert there != here
    assert open_checkpoint(there).fingerprint == open_checkpoint(here).fingerprint


def test_dummy_weights_are_random_and_of_the_stated_variance() -> None:
    weights = open_checkpoint(resolve_model("dummy:llama-15m", "fp32").folder).weights
    products = {name: t.read(0, t.elements) for name, t in weights.items() if len(t.shape) == 2}
    for name, values in products.items():
        inputs = 1 if "embed" in name else weights[name].shape[1]
        residual = 2 * 6 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
        assert values.var() == pytest.approx(1 / (inputs * residual), rel=0.02), name
    first, second = (products[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_damaged_dummy_weights_are_made_again() -> None:
    folder = resolve_model("dummy:tiny", "fp32").folder
    fingerprint = open_checkpoint(folder).fingerprint
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert open_checkpoint(resolve_model("dummy:tiny", "fp32").folder).fingerprint == fingerprint


def test_activations_stay_finite() -> None:
    """Any log-probability that is a number went through every layer as one."""
    checkpoint = open_checkpoint(resolve_model("dummy:llama-15m", "fp16").folder)
    engine = OnnxRuntimeEngine(checkpoint, EngineLimits(256, 1), threads=1, peak_flops=1e12)
    tokens = np.arange(200, dtype=np.int32)[None]
    candidates = np.arange(100, dtype=np.int32)[None]
    batch = next_token_batch(tokens, np.array([200], np.int32), candidates)
    scores = engine.submit(batch).wait().scores
    assert np.isfinite(scores.target_logprobs).all()
    assert scores.target_logprobs.std() > 0.1


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_is_one_the_graph_knows(name: str) -> None:
    assert read_geometry(GEOMETRIES[name]).total_parameters > 100_000


def test_unknown_geometry_names_the_known_ones() -> None:
    with pytest.raises(StartError, match=r"dummy:gpt-5 is not known; known geometries: tiny, .*aquila-7b"):
        resolve_model("dummy:gpt-5", "fp32")


def test_disk_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A geometry of 28 PB, so that no disk has room for it."""
    huge = GEOMETRIES["llama-2-7b"] | {"vocab_size": 2_000_000_000}
    monkeypatch.setitem(GEOMETRIES, "huge", huge)
    with pytest.raises(
        StartError, match=r"dummy:huge in fp32: \S+ TiB of disk are needed and \S+ [GT]iB are free"
    ):
        resolve_model("dummy:huge", "fp32")
