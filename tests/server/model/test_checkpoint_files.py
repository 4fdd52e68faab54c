"""Checkpoint folders as they come: whole, sharded, linked, and broken in every way that is refused."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import edit_config, reference_logprobs, write_checkpoint
from safetensors.torch import load_file, save_file
from trt_server.engines.engine import EngineLimits, next_token_batch
from trt_server.engines.onnxruntime import OnnxRuntimeEngine
from trt_server.engines.torch import TorchEngine
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole"), "qwen2", tokenizer=False)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may break."""
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", "qwen2", tokenizer=False, max_shard_size="150KB")


def refusal(folder: Path) -> str:
    """The one line that the checkpoint is refused with."""
    with pytest.raises(StartError) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_reads_as_transformers(folder: Path) -> None:
    """Both engines score with the weights that transformers takes from the folder."""
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    expected = reference_logprobs(folder, prompt)
    assert_scores(folder, prompt, expected)


def assert_scores(folder: Path, prompt: list[int], expected: torch.Tensor) -> None:
    checkpoint, limits = open_checkpoint(folder), EngineLimits(8, 1)
    candidates = np.arange(512, dtype=np.int32)[None]
    tokens, lengths = np.array([prompt], np.int32), np.array([len(prompt)], np.int32)
    batch = next_token_batch(tokens, lengths, candidates)
    for engine in (
        OnnxRuntimeEngine(checkpoint, limits, 1, peak_flops=1e12),
        TorchEngine(checkpoint, limits, "fp32", 1, peak_flops=1e12),
    ):
        scored = engine.submit(batch).wait().scores.target_logprobs
        np.testing.assert_allclose(scored, expected.numpy(), atol=1e-4)


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Set tensors of the single file, take out those that are None; `__` in a name stands for a dot."""
    named = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    tensors = load_file(folder / "model.safetensors") | named
    save_file(
        {name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors"
    )


# What every tensor holds, wherever it lies.


def test_tensors_are_where_the_index_says(folder: Path) -> None:
    expected = load_file(folder / "model.safetensors")
    weights = open_checkpoint(folder).weights
    assert set(weights) == set(expected)
    for name, tensor in weights.items():
        read = tensor.read(0, tensor.elements).reshape(tensor.shape)
        assert (read == expected[name].numpy()).all()


def test_shards_and_single_file_are_one_checkpoint(folder: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert open_checkpoint(sharded).fingerprint == open_checkpoint(folder).fingerprint


def test_links_into_another_folder(folder: Path, tmp_path: Path) -> None:
    """A hub cache: the snapshot holds links to blobs."""
    fingerprint = open_checkpoint(folder).fingerprint
    (tmp_path / "blobs").mkdir()
    blob = shutil.move(folder / "model.safetensors", tmp_path / "blobs" / "0123abcd")
    (folder / "model.safetensors").symlink_to(Path("..") / "blobs" / "0123abcd")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.fingerprint == fingerprint
    assert {tensor.file for tensor in checkpoint.weights.values()} == {Path(blob).resolve()}


# Fingerprints.


def test_fingerprint_stays_when_files_move_or_are_touched(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert open_checkpoint(moved).fingerprint == open_checkpoint(folder).fingerprint


def test_fingerprint_tells_other_weights_and_other_configurations(folder: Path, tmp_path: Path) -> None:
    fingerprints = {open_checkpoint(folder).fingerprint}
    other_seed = write_checkpoint(tmp_path / "seed", "qwen2", seed=1, tokenizer=False)
    fingerprints.add(open_checkpoint(other_seed).fingerprint)
    edit_config(folder, rms_norm_eps=1e-5)
    fingerprints.add(open_checkpoint(folder).fingerprint)
    edit_tensors(folder, model__norm__weight=torch.ones(64))
    fingerprints.add(open_checkpoint(folder).fingerprint)
    assert len(fingerprints) == 4


def test_fingerprint_sees_both_ends_of_a_large_tensor(folder: Path) -> None:
    # 512 × 64 float32 are 128 KiB, more than is hashed whole.
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    fingerprints = {open_checkpoint(folder).fingerprint}
    for row in (0, -1):
        changed = embedding.clone()
        changed[row, row] += 1
        edit_tensors(folder, model__embed_tokens__weight=changed)
        fingerprints.add(open_checkpoint(folder).fingerprint)
    assert len(fingerprints) == 3


# Folders that are not checkpoints.


def test_no_such_folder(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nothing")


def test_a_file_is_no_folder(folder: Path) -> None:
    assert "is a file; name the checkpoint folder that it lies in" in refusal(folder / "model.safetensors")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "holds no config.json" in refusal(folder)


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "holds no JSON object")])
def test_config_that_is_none(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    assert said in refusal(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_other_formats_are_not_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    said = refusal(folder)
    assert name in said
    assert "save_pretrained" in said


# Files that are not what they should be.


def rewrite(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))


def with_header(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """Rewrite the header of a safetensors file, the data behind it as they were."""

    def rewritten(content: bytes) -> bytes:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return rewritten


def set_entry(**fields: Any) -> Callable[[bytes], bytes]:
    return with_header(lambda header: header["model.norm.weight"].update(fields))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-1], "is cut short"),
        (lambda content: content[:100], "is cut short"),
        (lambda _: b"", "is cut short"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (lambda _: b"<!DOCTYPE html><html>Sign in", "is a web page"),
        (lambda content: b"PK\x03\x04" + content, "is not a safetensors file"),
        (lambda content: content[:8] + b"[" + content[9:], "is not a safetensors file"),
        (set_entry(data_offsets=[8, 4]), "entry for model.norm.weight is damaged"),
        (set_entry(data_offsets="0-256"), "entry for model.norm.weight is damaged"),
        (set_entry(shape=None), "entry for model.norm.weight is damaged"),
        (set_entry(shape=[63]), "a size that does not fit its shape"),
        (set_entry(dtype="F8_E4M3"), "model.norm.weight is F8_E4M3; only float32, float16, bfloat16"),
    ],
    ids=range(12),
)
def test_damaged_file(folder: Path, change: Callable[[bytes], bytes], said: str) -> None:
    rewrite(folder, change)
    assert said in refusal(folder)


def test_tensor_is_missing(folder: Path) -> None:
    edit_tensors(folder, model__layers__2__mlp__up_proj__weight=None, model__norm__weight=None)
    said = refusal(folder)
    assert "lacks 2 of the 38 tensors" in said
    assert "model.norm.weight first" in said


def test_tensor_has_another_shape(folder: Path) -> None:
    edit_tensors(folder, model__norm__weight=torch.ones(65))
    assert "model.norm.weight has shape [65], config.json asks for [64]" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.mlp.up_proj.bias",
        "model.layers.1.self_attn.o_proj.bias",
        "model.layers.1.self_attn.q_norm.weight",
        "model.norm.bias",
        "model.embed_tokens.bias",
        "lm_head.bias",
        "score.weight",
    ],
)
def test_tensor_that_the_family_does_not_have(folder: Path, name: str) -> None:
    edit_tensors(folder, **{name: torch.ones(16)})
    assert f"holds {name}, which its config.json does not account for" in refusal(folder)


def test_one_tensor_under_two_names(folder: Path) -> None:
    edit_tensors(folder, norm__weight=torch.ones(64))
    assert "holds both norm.weight and model.norm.weight" in refusal(folder)


# Adapters and other formats.


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapter_beside_a_model(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    said = refusal(folder)
    assert f"holds an adapter ({name}) beside the model" in said
    assert "merge_and_unload" in said


def test_adapter_alone_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    (tmp_path / "adapter_model.safetensors").touch()
    said = refusal(tmp_path)
    assert "holds an adapter (adapter_config.json) to some/model and no model of its own" in said
    assert "merge_and_unload" in said


def test_adapter_among_the_model_s_tensors(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    edit_tensors(folder, **{name: torch.ones(4, 64)})
    said = refusal(folder)
    assert f"holds {name}, part of an adapter" in said
    assert "merge_and_unload" in said


@pytest.mark.parametrize("with_config", [True, False])
def test_gguf_is_refused_as_such(folder: Path, with_config: bool) -> None:
    (folder / "model.safetensors").rename(folder / "model-q8.gguf")
    if not with_config:
        (folder / "config.json").unlink()
    said = refusal(folder)
    assert "holds its weights as model-q8.gguf, and GGUF is not supported" in said
    assert refusal(folder / "model-q8.gguf") == said


def test_safetensors_of_another_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "holds consolidated.safetensors, and neither model.safetensors nor" in refusal(folder)


# Shards.


def test_shard_is_missing(sharded: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].unlink()
    assert re.search(rf"lacks 1 of its {len(shards)} weight files, {shards[1].name} first", refusal(sharded))


def test_shard_is_cut_short(sharded: Path) -> None:
    shard = max(sharded.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"{shard.name} is cut short" in refusal(sharded)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
    ],
)
def test_shard_index_is_damaged(sharded: Path, index: str) -> None:
    (sharded / INDEX).write_text(index)
    for shard in sharded.glob("*.safetensors"):
        shard.rename(shard.with_stem(f"old-{shard.stem}"))
    assert "is not a shard index" in refusal(sharded)


def test_shards_in_a_folder_below(sharded: Path) -> None:
    fingerprint = open_checkpoint(sharded).fingerprint
    (sharded / "weights").mkdir()
    for shard in sharded.glob("*.safetensors"):
        shard.rename(sharded / "weights" / shard.name)
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"] = {name: f"weights/{shard}" for name, shard in index["weight_map"].items()}
    (sharded / INDEX).write_text(json.dumps(index))
    assert open_checkpoint(sharded).fingerprint == fingerprint
    assert_reads_as_transformers(sharded)


def test_shards_without_an_index(sharded: Path) -> None:
    """They are not read by transformers; the reference engine reads them."""
    fingerprint, prompt = open_checkpoint(sharded).fingerprint, [3, 1, 4]
    expected = reference_logprobs(sharded, prompt)
    (sharded / INDEX).unlink()
    assert open_checkpoint(sharded).fingerprint == fingerprint
    assert_scores(sharded, prompt, expected)
    shards = sorted(sharded.glob("*.safetensors"))
    shards[-1].unlink()
    assert f"holds {len(shards) - 1} of {len(shards)} shards and no {INDEX}" in refusal(sharded)


# More than one set of weights.


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """Trained and saved whole, trained again and saved in shards."""
    folder = write_checkpoint(tmp_path / "both", "llama", tokenizer=False)
    whole = (folder / SINGLE).read_bytes()
    write_checkpoint(folder, "llama", seed=1, tokenizer=False, max_shard_size="150KB")
    (folder / SINGLE).write_bytes(whole)
    return folder


def test_two_models_in_one_folder(both: Path) -> None:
    assert f"two sets of weights that differ, {SINGLE} and the shards of {INDEX}" in refusal(both)
    (both / INDEX).unlink()
    assert re.search(
        rf"that differ, {SINGLE} and the \d+ shards model-00001-of-\d+\.safetensors", refusal(both)
    )


def test_one_model_twice(folder: Path, sharded: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    shutil.copy(folder / SINGLE, sharded)
    checkpoint = open_checkpoint(sharded)
    assert {tensor.file.name for tensor in checkpoint.weights.values()} == {SINGLE}
    assert f"weights are those of {SINGLE}; the shards of {INDEX} hold the same" in caplog.text


@pytest.mark.parametrize("left", ["index", "damaged index", "index and some shards", "damaged shards"])
def test_leftovers_beside_a_whole_file(both: Path, left: str, caplog: pytest.LogCaptureFixture) -> None:
    """As transformers, both engines read the whole file."""
    shards = sorted(both.glob("model-*.safetensors"))
    if left == "damaged shards":
        shards[0].write_bytes(b"{}")
    else:
        for shard in shards[1:] if left == "index and some shards" else shards:
            shard.unlink()
    if left == "damaged index":
        (both / INDEX).write_text("{")
    assert {tensor.file.name for tensor in open_checkpoint(both).weights.values()} == {SINGLE}
    assert caplog.text.count("\n") == 1
    assert_reads_as_transformers(both)


def test_stale_index_beside_whole_shards(sharded: Path, caplog: pytest.LogCaptureFixture) -> None:
    fingerprint = open_checkpoint(sharded).fingerprint
    (sharded / INDEX).write_text('{"metadata": {}, "weight_map": {"a": "model-00001-of-00099.safetensors"}}')
    assert open_checkpoint(sharded).fingerprint == fingerprint
    assert "names 1 files that are not there, model-00001-of-00099.safetensors first" in caplog.text


# A name of their own.


def test_weights_that_config_json_names(both: Path) -> None:
    """No other set counts then."""
    (both / SINGLE).rename(both / "mine.safetensors")
    edit_config(both, transformers_weights="mine.safetensors")
    assert {tensor.file.name for tensor in open_checkpoint(both).weights.values()} == {"mine.safetensors"}
    assert_reads_as_transformers(both)
    edit_config(both, transformers_weights=INDEX)
    assert len({tensor.file.name for tensor in open_checkpoint(both).weights.values()}) > 2
    assert_reads_as_transformers(both)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.safetensors", "lacks gone.safetensors, which its config.json names as transformers_weights"),
        ("../x.safetensors", "transformers_weights is '../x.safetensors', not a safetensors file"),
        ("/x.safetensors", "transformers_weights is '/x.safetensors', not a safetensors file"),
        ("pytorch_model.bin", "transformers_weights is 'pytorch_model.bin', not a safetensors file"),
        (3, "transformers_weights is 3, not a safetensors file"),
    ],
)
def test_name_that_is_none(folder: Path, name: object, said: str) -> None:
    edit_config(folder, transformers_weights=name)
    assert said in refusal(folder)
