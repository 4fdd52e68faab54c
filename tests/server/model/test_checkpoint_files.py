"""Checkpoint folders as they come: whole, sharded, linked, and broken in every way that is refused."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import edit_config, write_checkpoint
from safetensors.torch import load_file, save_file
from trt_server.errors import StartError
from trt_server.model.checkpoint import open_checkpoint


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


def test_unused_tensors_are_passed_over(folder: Path) -> None:
    edit_tensors(
        folder,
        lm_head__weight=torch.zeros(512, 64),
        model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(8),
    )
    assert "lm_head.weight" not in open_checkpoint(folder).weights


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


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.gguf"])
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


def test_tensor_that_would_change_the_answers(folder: Path) -> None:
    edit_tensors(folder, model__layers__1__mlp__up_proj__bias=torch.ones(160))
    assert "model.layers.1.mlp.up_proj.bias, which its config.json does not account for" in refusal(folder)


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
    (sharded / "model.safetensors.index.json").write_text(index)
    assert "is not a shard index" in refusal(sharded)
