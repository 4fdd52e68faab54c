"""The CPU engine against transformers in PyTorch on the same checkpoint."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import FAMILIES, edit_config, reference_model, write_checkpoint
from transformers import AutoTokenizer
from trt_server.engines.engine import Batch, EngineLimits, Outcome, next_token_batch
from trt_server.engines.onnxruntime import OnnxRuntimeEngine
from trt_server.errors import ScoringError, StartError
from trt_server.model.files.checkpoint import open_checkpoint

# What is kept goes into a folder of the test's own.
pytestmark = pytest.mark.usefixtures("cache")

VOCABULARY_SIZE = 512
# Design: 1e-3. In fp32 the two differ by rounding alone.
TOLERANCE = 1e-4

MMLU = Path(__file__).parents[3].parent / "shared" / "data" / "mmlu" / "csv"

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def engine_of(folder: Path, **limits: int) -> OnnxRuntimeEngine:
    sizes = {"max_prompt_tokens": 256, "max_batch_size": 8} | limits
    return OnnxRuntimeEngine(open_checkpoint(folder), EngineLimits(**sizes), threads=2, peak_flops=1e12)


def random_prompts(*lengths: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, VOCABULARY_SIZE, length).tolist() for length in lengths]


def batch_of(prompts: list[list[int]], candidates: list[int] | None = None) -> Batch:
    tokens = np.zeros((len(prompts), max(map(len, prompts))), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    asked = list(range(VOCABULARY_SIZE)) if candidates is None else candidates
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    return next_token_batch(tokens, lengths, np.tile(np.array(asked, np.int32), (len(prompts), 1)))


def run(engine: OnnxRuntimeEngine, prompts: list[list[int]]) -> Outcome:
    return engine.submit(batch_of(prompts)).wait()


def assert_agrees(folder: Path, prompts: list[list[int]], tolerance: float = TOLERANCE) -> None:
    """One by one and in one batch, every token's log-probability and the arg-max are the reference's."""
    engine, reference = engine_of(folder), reference_model(folder)
    together = run(engine, prompts).scores
    targets = together.target_logprobs.reshape(len(prompts), -1)
    for row, prompt in enumerate(prompts):
        expected = reference(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).numpy()
        alone = run(engine, [prompt]).scores
        for scores, found, at in ((together, targets[row], row), (alone, alone.target_logprobs, 0)):
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
            assert scores.top_token[at] == expected.argmax()
            assert scores.top_logprob[at] == pytest.approx(expected.max(), abs=tolerance)


# Agreement.


@pytest.mark.parametrize("family", FAMILIES)
def test_family(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path, family, tokenizer=False)
    assert_agrees(folder, random_prompts(1, 200, 15, 16, 17, 63, 2, 128))


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
        ("llama", {"head_dim": 32, "rms_norm_eps": 1e-3}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("llama", {"rope_parameters": LLAMA3_ROPE}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "rope_theta": 1e4}}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 1}),
        ("qwen2", {"use_sliding_window": False, "tie_word_embeddings": False}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
        ("qwen3", {"attention_bias": True}),
    ],
    ids=str,
)
def test_variant(tmp_path: Path, family: str, overrides: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path, family, tokenizer=False, **overrides)
    assert_agrees(folder, random_prompts(1, 160, 40))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_checkpoint_is_the_same_checkpoint_in_fp32(tmp_path: Path, dtype: str) -> None:
    folder = write_checkpoint(tmp_path / "half", "qwen2", dtype=dtype, tokenizer=False)
    assert_agrees(folder, random_prompts(100, 7))


def test_sharded_and_linked_checkpoint(tmp_path: Path) -> None:
    """The hub's cache: shards are links to files in a folder beside."""
    folder = write_checkpoint(tmp_path / "snapshot", "llama", tokenizer=False, max_shard_size="150KB")
    (tmp_path / "blobs").mkdir()
    for number, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        shutil.move(shard, tmp_path / "blobs" / f"{number:08x}")
        shard.symlink_to(Path("..") / "blobs" / f"{number:08x}")
    assert_agrees(folder, random_prompts(100, 7))


def test_shards_in_two_folders(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "snapshot", "llama", tokenizer=False, max_shard_size="150KB")
    for number, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        target = tmp_path / "blobs" / str(number) / shard.name
        target.parent.mkdir(parents=True)
        shutil.move(shard, target)
        shard.symlink_to(target)
    assert_agrees(folder, random_prompts(100, 7))


def test_config_of_transformers_4(tmp_path: Path) -> None:
    """The same model, described in the words of either version."""
    new = write_checkpoint(tmp_path / "new", "llama", tokenizer=False, rope_parameters=LLAMA3_ROPE)
    old = Path(shutil.copytree(new, tmp_path / "old"))
    scaling = {name: value for name, value in LLAMA3_ROPE.items() if name != "rope_theta"}
    edit_config(
        old,
        rope_parameters=None,
        rope_theta=LLAMA3_ROPE["rope_theta"],
        rope_scaling=scaling,
        dtype=None,
        torch_dtype="float32",
        transformers_version="4.46.0",
    )
    prompts = random_prompts(100, 7)
    expected, scores = run(engine_of(new), prompts).scores, run(engine_of(old), prompts).scores
    np.testing.assert_array_equal(scores.target_logprobs, expected.target_logprobs)


@pytest.mark.skipif(not MMLU.is_dir(), reason="needs MMLU in ../shared/data beside the repository")
def test_real_questions(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with (MMLU / "dev" / "astronomy_dev.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))[:4]
    texts = ["\n".join(row[:5]) + "\nAnswer:" for row in rows]
    assert_agrees(folder, [tokenizer(text).input_ids[-250:] for text in texts])


# What a batch may look like.


def test_padding_is_harmless_whatever_it_holds(llama_folder: Path) -> None:
    engine = engine_of(llama_folder)
    batch = batch_of(random_prompts(100, 7))
    dirty = batch.token_ids.copy()
    dirty[1, 7:] = 511
    clean = engine.submit(batch).wait().scores
    other = engine.submit(replace(batch, token_ids=dirty)).wait().scores
    np.testing.assert_array_equal(clean.target_logprobs, other.target_logprobs)


def test_scores_are_float32_and_int32_of_the_shape_asked_for(llama_folder: Path) -> None:
    batch = replace(batch_of(random_prompts(5, 9, 3), [7, 7, 400]), top_count=4)
    scores = engine_of(llama_folder).submit(batch).wait().scores
    float32, int32 = np.dtype(np.float32), np.dtype(np.int32)
    shapes = {
        "target_logprobs": (float32, (9,)),
        "top_token": (int32, (3,)),
        "top_logprob": (float32, (3,)),
        "top_tokens": (int32, (3, 4)),
        "top_logprobs": (float32, (3, 4)),
    }
    for name, expected in shapes.items():
        array = getattr(scores, name)
        assert (array.dtype, array.shape) == expected, name
    np.testing.assert_array_equal(scores.target_logprobs[::3], scores.target_logprobs[1::3])


def test_longest_prompt_of_the_limits(llama_folder: Path) -> None:
    engine = engine_of(llama_folder, max_prompt_tokens=32)
    engine.warm_up()
    assert np.isfinite(run(engine, random_prompts(32)).scores.target_logprobs).all()


def test_batch_that_fails_does_not_end_the_engine(llama_folder: Path) -> None:
    engine = engine_of(llama_folder)
    before = run(engine, [[1, 2, 3]]).scores
    with pytest.raises(ScoringError, match="ONNX Runtime failed on this batch") as error:
        run(engine, [[1, 2, VOCABULARY_SIZE]])
    assert "\n" not in str(error.value)
    after = run(engine, [[1, 2, 3]]).scores
    np.testing.assert_array_equal(before.target_logprobs, after.target_logprobs)


# What it says of itself.


def test_description(llama_folder: Path) -> None:
    description = OnnxRuntimeEngine(open_checkpoint(llama_folder), EngineLimits(64, 1), threads=2).description
    assert (description.name, description.precision) == ("onnxruntime", "fp32")
    assert description.peak.source == "measured: fp32 matrix products, 2 threads"
    assert description.peak.flops_per_second > 1e9
    assert description.load_seconds > 0


def test_fingerprint_tells_the_weights_apart(llama_folder: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", "llama", seed=1)
    same = {engine_of(llama_folder).description.fingerprint for _ in range(2)}
    assert len(same) == 1
    assert engine_of(other).description.fingerprint not in same


def test_core_time_is_the_run_alone(llama_folder: Path) -> None:
    timing = run(engine_of(llama_folder), random_prompts(100)).timing
    assert timing.core_ns > 0
    assert (timing.copy_in_ns, timing.copy_out_ns) == (0, 0)


def test_weights_that_go_away_are_one_line(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "llama", tokenizer=False)
    checkpoint = open_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(StartError, match="does not take the model") as error:
        OnnxRuntimeEngine(checkpoint, EngineLimits(64, 1), threads=1, peak_flops=1e12)
    assert "\n" not in str(error.value)


def test_no_torch_in_the_process(llama_folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from trt_server.engines.engine import EngineLimits\n"
        "from trt_server.engines.onnxruntime import OnnxRuntimeEngine\n"
        "from trt_server.model.files.checkpoint import open_checkpoint\n"
        "from trt_server.model.source import resolve_model\n"
        "source = resolve_model(sys.argv[1], 'fp32')\n"
        "OnnxRuntimeEngine(open_checkpoint(source.folder), EngineLimits(64, 1), 1).warm_up()\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(llama_folder)], check=True, timeout=120)
