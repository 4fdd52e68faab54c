"""Checkpoints whose files hold what no model's do: one line on standard error, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from checkpoints import edit_config, write_checkpoint
from processes import run_program

DEEP = "[" * 200_000 + "]" * 200_000
# Deep, and not too deep for Python.
NESTED = "[" * 200 + "]" * 200
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"
HOSTILE = "\x1b[2J\x1b]0;evil\x07\ntrt-server: all is well\u202e"
SHOWN = "trt-server: all is well"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole"), "llama")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def check(folder: Path, *arguments: str) -> CompletedProcess[str]:
    variables = {**os.environ, "TRT_SERVER_CACHE": str(folder.parent / "cache")}
    return run_program("trt-server", "check", "--model", str(folder), *arguments, env=variables)


def the_error(done: CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    line = done.stderr.rstrip("\n")
    assert line.startswith("trt-server: error: ")
    assert line.isprintable()
    return line


def edit_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of the only file of weights."""
    content = (folder / SINGLE).read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    (folder / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


FIELDS: dict[str, Any] = {
    "a number as architectures": ("architectures", 5),
    "true as architectures": ("architectures", True),
    "an object as architectures": ("architectures", {"a": 1}),
    "a number in architectures": ("architectures", [5]),
    "layers beyond 64 bits": ("num_hidden_layers", 2**70),
    "a hundred million layers": ("num_hidden_layers", 10**8),
    "a vocabulary beyond 32 bits": ("vocab_size", 10**12),
    "positions beyond 32 bits": ("max_position_embeddings", 2**62),
    "an epsilon beyond all floats": ("rms_norm_eps", 10**400),
    "half of a character": ("architectures", ["\ud800"]),
    "control characters": ("model_type", HOSTILE),
    "a long value": ("hidden_size", "x" * 10**6),
}


@pytest.mark.parametrize(("field", "value"), FIELDS.values(), ids=FIELDS)
def test_an_odd_field_of_the_configuration_is_named(folder: Path, field: str, value: Any) -> None:
    edit_config(folder, **{field: value})
    line = the_error(check(folder))
    assert field in line or "half of a character" in line
    assert len(line) < 5000


YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({**YARN, "beta_slow": 1e308}, "beta_slow"),
        ({**YARN, "beta_fast": 1e-320}, "beta_fast"),
        ({**YARN, "rope_theta": 1}, "rope_theta"),
        ({**YARN, "rope_theta": 1e308}, "rope_theta"),
        ({**YARN, "factor": 10**400}, "factor"),
    ],
)
def test_rotations_that_cannot_be_computed_are_refused(
    folder: Path, parameters: dict[str, Any], name: str
) -> None:
    edit_config(folder, rope_parameters=parameters)
    assert f"config.json: {name} is " in the_error(check(folder))


@pytest.mark.parametrize("content", [DEEP, NESTED, '{"a": ' + NESTED + "}"], ids=["deep", "list", "object"])
@pytest.mark.parametrize(
    "name", ["config.json", INDEX, "tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_what_is_nested_deeply_is_named(folder: Path, name: str, content: str) -> None:
    if name == INDEX:
        (folder / SINGLE).unlink()
    (folder / name).write_text(content)
    assert name in the_error(check(folder))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_an_odd_file_is_named_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(b" " * (65 * 1024 * 1024))
    assert name in the_error(check(folder))
    if name == "config.json":
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert f"{name} is no file" in the_error(check(folder))


TOKENIZER: dict[str, dict[str, Any]] = {
    "a number as tokens": {"additional_special_tokens": 5},
    "true as tokens": {"extra_special_tokens": True},
    "an id beyond all numbers": {"added_tokens_decoder": {"1e999": "a"}},
}


@pytest.mark.parametrize("settings", TOKENIZER.values(), ids=TOKENIZER)
def test_an_odd_field_of_the_tokenizer_is_named(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "tokenizer_config.json" in the_error(check(folder))


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "nested": lambda header: header.update(a=json.loads(NESTED)),
    "infinite shape": lambda header: header[HEAD].update(shape=[float("inf"), 1]),
    "half an offset": lambda header: header[HEAD].update(data_offsets=[0.5, 4.5]),
    "offsets beyond 64 bits": lambda header: header[HEAD].update(data_offsets=[2**70, 2**71]),
    "true as a shape": lambda header: header[HEAD].update(shape=[True, True]),
    "half of a character": lambda header: header.update({"\ud800": header[HEAD]}),
    "control characters in a type": lambda header: header[HEAD].update(dtype=HOSTILE),
    "control characters in a name": lambda header: header.update({HOSTILE: header[HEAD]}),
    "a long name": lambda header: header.update({"x" * 10**6: header[HEAD]}),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_an_odd_header_of_weights_is_named(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_header(folder, change)
    line = the_error(check(folder))
    assert str(folder) in line
    assert len(line) < 5000


def test_weights_that_are_no_file_and_numbers_without_end_are_named(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "moved")
    os.mkfifo(folder / SINGLE)
    assert f"holds {SINGLE}, which is no file" in the_error(check(folder))
    (folder / "config.json").write_text(f'{{"hidden_size": {"9" * 5000}}}')
    assert "config.json is not JSON (it holds a number of thousands of digits)" in the_error(check(folder))


def test_a_deep_header_of_weights_is_named(folder: Path) -> None:
    text = f'{{"a": {DEEP}}}'.encode()
    (folder / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text)
    assert f"{SINGLE} is not a safetensors file" in the_error(check(folder))


def test_what_is_printed_of_a_model_controls_no_terminal(folder: Path) -> None:
    edit_config(folder, architectures=[HOSTILE])
    done = check(folder)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stdout.rstrip("\n").isprintable()
    assert SHOWN in done.stdout


def test_what_is_logged_of_a_model_controls_no_terminal(folder: Path) -> None:
    """An index that is not used names files that are not there."""
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": HOSTILE}}))
    done = check(folder)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    assert SHOWN in line
