"""Weights in another type: the same values, converted once, whatever happens to the copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.model.files.weights import Weights


@pytest.fixture
def bfloat16(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "bfloat16", "llama", dtype="bfloat16", tokenizer=False)


def assert_holds(weights: Weights, folder: Path, dtype: torch.dtype) -> None:
    expected = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        read = torch.from_numpy(tensor.read(0, tensor.elements)).reshape(tensor.shape)
        assert torch.equal(read, expected[name].to(dtype)), name


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_half_precision_becomes_float32_exactly(tmp_path: Path, cache: Path, stored: str) -> None:
    folder = write_checkpoint(tmp_path / stored, "llama", dtype=stored, tokenizer=False)
    weights = weights_as(open_checkpoint(folder), "float32")
    assert {cache / "weights"} == {tensor.file.parents[1] for tensor in weights.values()}
    assert_holds(weights, folder, torch.float32)


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_float16_is_rounded_to_nearest(tmp_path: Path, cache: Path, stored: str) -> None:
    folder = write_checkpoint(tmp_path / stored, "llama", dtype=stored, tokenizer=False)
    assert_holds(weights_as(open_checkpoint(folder), "float16"), folder, torch.float16)
    assert cache.exists()


def test_types_may_be_mixed(bfloat16: Path, cache: Path) -> None:
    path = bfloat16 / "model.safetensors"
    tensors = load_file(path)
    save_file({name: t.float() if "norm" in name else t for name, t in tensors.items()}, path)
    assert_holds(weights_as(open_checkpoint(bfloat16), "float32"), bfloat16, torch.float32)
    assert cache.exists()


def test_a_type_that_fits_is_read_in_place(llama_folder: Path, cache: Path) -> None:
    checkpoint = open_checkpoint(llama_folder)
    assert weights_as(checkpoint, "float32") is checkpoint.weights
    assert not cache.exists()


def test_converted_once(bfloat16: Path, cache: Path) -> None:
    first = weights_as(open_checkpoint(bfloat16), "float32")
    (file,) = cache.rglob("*.safetensors")
    written = file.stat()
    assert weights_as(open_checkpoint(bfloat16), "float32") == first
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


@pytest.mark.parametrize("damage", ["cut short", "other bytes", "no fingerprint", "left over"])
def test_damaged_copy_is_made_again(bfloat16: Path, cache: Path, damage: str) -> None:
    weights_as(open_checkpoint(bfloat16), "float32")
    (file,) = cache.rglob("*.safetensors")
    content = file.read_bytes()
    if damage == "cut short":
        file.write_bytes(content[:-4])
    elif damage == "other bytes":
        file.write_bytes(content[:-4] + bytes(4))
    elif damage == "no fingerprint":
        (file.parent / "fingerprint").unlink()
    else:
        file.parent.rename(file.parent.with_name(f"{file.parent.name}.partial"))
    assert_holds(weights_as(open_checkpoint(bfloat16), "float32"), bfloat16, torch.float32)
    assert file.read_bytes() == content
    assert not list(cache.rglob("*.partial"))


def test_changed_checkpoint_is_converted_anew(bfloat16: Path, cache: Path) -> None:
    weights_as(open_checkpoint(bfloat16), "float32")
    write_checkpoint(bfloat16, "llama", dtype="bfloat16", seed=1, tokenizer=False)
    assert_holds(weights_as(open_checkpoint(bfloat16), "float32"), bfloat16, torch.float32)
    assert len(list(cache.rglob("*.safetensors"))) == 2


def test_two_processes_at_once(bfloat16: Path, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from trt_server.model.files.checkpoint import open_checkpoint\n"
        "from trt_server.model.files.conversion import weights_as\n"
        "weights = weights_as(open_checkpoint(Path(sys.argv[1])), 'float32')\n"
        "print(next(iter(weights.values())).file)\n"
    )
    command = [sys.executable, "-c", program, str(bfloat16)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs == {str(*cache.rglob("*.safetensors"))}
    assert_holds(weights_as(open_checkpoint(bfloat16), "float32"), bfloat16, torch.float32)


def test_value_beyond_float16_is_refused(bfloat16: Path, cache: Path) -> None:
    path = bfloat16 / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, path)
    with pytest.raises(
        StartError, match=r"model\.norm\.weight holds values beyond float16; use --precision fp32"
    ):
        weights_as(open_checkpoint(bfloat16), "float16")
    assert not list(cache.rglob("fingerprint"))
    # Nothing of the attempt is taken for a result.
    with pytest.raises(StartError):
        weights_as(open_checkpoint(bfloat16), "float16")


def test_cache_that_cannot_be_written(
    bfloat16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "file"))
    with pytest.raises(StartError, match=r"cannot be written.*set TRT_SERVER_CACHE to another folder"):
        weights_as(open_checkpoint(bfloat16), "float32")


def test_cache_lies_where_xdg_says(bfloat16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRT_SERVER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    weights = weights_as(open_checkpoint(bfloat16), "float32")
    assert all(tensor.file.is_relative_to(tmp_path / "xdg" / "trt-server") for tensor in weights.values())
    assert np.isfinite(next(iter(weights.values())).read(0, 8)).all()
