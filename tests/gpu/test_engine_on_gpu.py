"""TensorRT on this machine's GPU: agreement with transformers, profile edges, the plan cache, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from continued_prompts import Tokens, packed
from gpu.families import (
    CONTINUED,
    FAMILIES,
    LARGE,
    MAX_TOKENS,
    PROMPTS,
    SHARED_TOKENS,
    SHARING,
    VOCABULARY,
    WIDE_MAX_TOKENS,
    WIDE_PROMPTS,
)
from numpy.typing import NDArray
from trt_server.engines.engine import Batch, EngineLimits, Outcome, next_token_batch
from trt_server.engines.tensorrt.plan.profiles import LENGTH_MULTIPLE
from trt_server.engines.tensorrt.presence import find_gpus
from trt_server.errors import InvalidRequestError, StartError
from trt_server.model.files.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine

BATCH = 4
# fp32 by design; fp16: 2 layers' rounding, on log-probabilities around -6.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2}
# Simulated: products of that width are off by 1.7e-2 where they add up in float16, by 2.3e-3 in float32.
WIDE_TOLERANCE = 8e-3
WIDTH = 64

Expected = dict[str, dict[str, NDArray[np.float32]]]


@contextmanager
def engine_of(
    folder: Path,
    precision: str = "fp16",
    prefix_cache_bytes: int = 0,
    max_tokens: int = MAX_TOKENS,
    max_batch: int = BATCH,
) -> Iterator[TensorRtEngine]:
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine

    limits = EngineLimits(max_tokens, max_batch, prefix_cache_bytes)
    engine = TensorRtEngine(open_checkpoint(folder), limits, precision, tf32=False)
    try:
        yield engine
    finally:
        engine.close()


def batch_of(
    *numbers: int,
    multiple: int = 8,
    width: int = WIDTH,
    shared: int = 0,
    of: Sequence[NDArray[np.int32]] = PROMPTS,
) -> Batch:
    """The prompts of these numbers, ragged, each with its own candidates.

    Their first `shared` tokens are their prefix.
    """
    prompts = [of[number][shared:] for number in numbers]
    longest = -(-max(map(len, prompts)) // multiple) * multiple
    tokens = np.zeros((len(prompts), longest), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    candidates = [[(7 * number + 11 * place) % VOCABULARY for place in range(width)] for number in numbers]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    batch = next_token_batch(tokens, lengths, np.array(candidates, np.int32), first_position=shared)
    return replace(batch, prefix=of[numbers[0]][:shared]) if shared else batch


def assert_agrees(
    batch: Batch, outcome: Outcome, numbers: tuple[int, ...], expected: dict[str, Any], tolerance: float
) -> None:
    scores, shape = outcome.scores, (len(numbers), -1)
    found, asked = scores.target_logprobs.reshape(shape), batch.target_ids.reshape(shape)
    for row, number in enumerate(numbers):
        logprobs = expected[str(number)]
        np.testing.assert_allclose(found[row], logprobs[asked[row]], atol=tolerance, rtol=0)
        assert scores.top_logprob[row] == pytest.approx(logprobs.max(), abs=tolerance)
        assert logprobs[scores.top_token[row]] == pytest.approx(logprobs.max(), abs=tolerance)
    assert outcome.timing.core_ns > 0
    assert outcome.timing.copy_in_ns > 0
    assert outcome.timing.copy_out_ns > 0


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_family_agrees_alone_and_in_ragged_batches(
    folders: dict[str, Path], expected: Expected, family: str, precision: str
) -> None:
    groups = [*((number,) for number in range(len(PROMPTS))), (0, 1, 2, 3), (4, 5, 6, 7), (8, 9), (9, 0, 1)]
    with engine_of(folders[family], precision) as engine:
        engine.warm_up()
        for numbers in groups:
            batch = batch_of(*numbers)
            outcome = engine.submit(batch).wait()
            assert_agrees(batch, outcome, numbers, expected[family], TOLERANCES[precision])


def test_norms_stay_in_float32(folders: dict[str, Path], expected: Expected) -> None:
    """Their squares of large activations are beyond float16: infinite, and every answer not a number."""
    with engine_of(folders[LARGE]) as engine:
        for number in range(len(PROMPTS)):
            batch = batch_of(number)
            assert_agrees(batch, engine.submit(batch).wait(), (number,), expected[LARGE], TOLERANCES["fp16"])


def test_layers_of_a_model_of_7_b_agree(wide_folder: Path, wide_expected: dict[str, Any]) -> None:
    """Sums as long as theirs, in kernels for their sizes; alone, and the longer one after a prefix."""
    for prefix_cache_bytes, shared in ((0, 0), (64 << 20, 700)):
        with engine_of(wide_folder, "fp16", prefix_cache_bytes, WIDE_MAX_TOKENS, 1) as engine:
            for number in range(len(WIDE_PROMPTS)):
                batch = batch_of(number, shared=shared, of=WIDE_PROMPTS)
                outcome = engine.submit(batch).wait()
                assert_agrees(batch, outcome, (number,), wide_expected, WIDE_TOLERANCE)


def test_profile_edges(folders: dict[str, Path], expected: Expected) -> None:
    """One token and the most, one target and the most, one prompt and the most; and not one more."""
    with engine_of(folders["llama"]) as engine:
        assert engine.max_scored_positions is not None
        alone = WIDTH + engine.max_scored_positions
        together = WIDTH + engine.max_scored_positions // BATCH
        for numbers, width in (((0,), 1), ((1,), alone), ((0, 0), 1), ((1, 1, 1, 1), together)):
            batch = batch_of(*numbers, multiple=1 if numbers[0] == 0 else 8, width=width)
            outcome = engine.submit(batch).wait()
            assert_agrees(batch, outcome, numbers, expected["llama"], TOLERANCES["fp16"])
        one = batch_of(0)
        positions = replace(one, scored=np.zeros(engine.max_scored_positions + 1, np.int32))
        targets = batch_of(0, width=alone + 1), batch_of(0, 0, 0, 0, width=together + 1)
        for beyond in (batch_of(0, 0, 0, 0, 0), *targets, positions, batch_of(1, multiple=264)):
            with pytest.raises(InvalidRequestError):
                engine.submit(beyond)


def test_two_in_flight_are_each_themselves(folders: dict[str, Path], expected: Expected) -> None:
    with engine_of(folders["qwen3"]) as engine:
        outcomes = []
        running = [(batch_of(0), (0,), engine.submit(batch_of(0)))]
        for number in [*range(1, len(PROMPTS)), *range(len(PROMPTS))]:
            batch = batch_of(number)
            running.append((batch, (number,), engine.submit(batch)))
            done, numbers, submission = running.pop(0)
            outcomes.append((done, submission.wait(), numbers))
        outcomes += [(batch, submission.wait(), numbers) for batch, numbers, submission in running]
        for batch, outcome, numbers in outcomes:
            assert_agrees(batch, outcome, numbers, expected["qwen3"], TOLERANCES["fp16"])


def test_engines_share_a_plan_each_in_a_thread(folders: dict[str, Path], expected: Expected) -> None:
    """On every device that is there, at the same time; where there is one, two engines on it."""
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine
    from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan

    found = find_gpus()
    assert isinstance(found, tuple)
    ordinals = [gpu.ordinal for gpu in found if gpu.name == found[0].name]
    checkpoint, limits = open_checkpoint(folders["llama"]), EngineLimits(MAX_TOKENS, BATCH)
    prepared = prepare_plan(checkpoint, limits, "fp16", False)
    together = threading.Barrier(max(2, len(ordinals)))

    def run(ordinal: int) -> list[Outcome]:
        engine = TensorRtEngine(checkpoint, limits, "fp16", False, ordinal, prepared)
        try:
            engine.warm_up()
            together.wait(60)
            return [engine.submit(batch_of(number)).wait() for number in range(len(PROMPTS))]
        finally:
            engine.close()

    with ThreadPoolExecutor(together.parties) as pool:
        for outcomes in pool.map(run, ordinals if len(ordinals) > 1 else 2 * ordinals):
            for number, outcome in enumerate(outcomes):
                assert_agrees(batch_of(number), outcome, (number,), expected["llama"], TOLERANCES["fp16"])


# Shared prefixes.


# Builds are what takes time: one family says what fp32 has to say.
@pytest.mark.parametrize(
    ("family", "precision"), [*((family, "fp16") for family in FAMILIES), ("llama", "fp32")]
)
def test_family_agrees_after_a_prefix(
    folders: dict[str, Path], expected: Expected, family: str, precision: str
) -> None:
    with engine_of(folders[family], precision, prefix_cache_bytes=8 << 20) as engine:
        engine.warm_up()
        for numbers, shared in (
            (SHARING, SHARED_TOKENS),
            (SHARING[:1], 8),
            ((1,), 249),
            ((1,), 1),
            (SHARING, 0),
        ):
            batch = batch_of(*numbers, shared=shared)
            for reused in (False, True):
                outcome = engine.submit(batch).wait()
                assert_agrees(batch, outcome, numbers, expected[family], TOLERANCES[precision])
                assert outcome.prefix_reused == (reused and shared > 0)


def test_prefixes_put_each_other_out(folders: dict[str, Path], expected: Expected) -> None:
    """Two batches are in flight, and there is room for one long prefix."""
    with engine_of(folders["llama"], prefix_cache_bytes=200 * 2 * 2 * 2 * 32 * 2) as engine:
        running = []
        for number in [1, 9, 1, 10, 8, 1, 11]:
            batch = batch_of(number, shared=100)
            running.append((batch, (number,), engine.submit(batch)))
            if len(running) == engine.depth:
                done, numbers, submission = running.pop(0)
                assert_agrees(done, submission.wait(), numbers, expected["llama"], TOLERANCES["fp16"])
        for done, numbers, submission in running:
            assert_agrees(done, submission.wait(), numbers, expected["llama"], TOLERANCES["fp16"])


# Continuations.


@pytest.mark.parametrize(
    ("family", "precision", "prefix_cache_bytes"),
    [
        *((family, "fp16", 8 << 20) for family in FAMILIES),
        ("llama", "fp32", 8 << 20),
        ("llama", "fp16", 0),
        ("mistral", "fp32", 0),
    ],
)
def test_continuations_agree(
    folders: dict[str, Path],
    continued_expected: dict[str, dict[Tokens, NDArray[np.float32]]],
    family: str,
    precision: str,
    prefix_cache_bytes: int,
) -> None:
    """Together and alone, with the most likely tokens and without, whole and after a prefix."""
    expected = continued_expected[family]
    with engine_of(folders[family], precision, prefix_cache_bytes) as engine:
        for shared in (0, SHARED_TOKENS) if prefix_cache_bytes else (0,):
            for prompts, top_count in ((CONTINUED, 5), (CONTINUED[::-1], 0), (CONTINUED[:1], 20)):
                asked = packed(prompts, shared, top_count, LENGTH_MULTIPLE)
                scores = engine.submit(asked.batch).wait().scores
                logprobs = np.stack([expected[context] for context in asked.contexts])
                asked.assert_agrees(scores, logprobs, TOLERANCES[precision])


# The plan cache.


def prepare(folder: Path, tokens: int, batch: int = 1) -> Any:
    from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan

    return prepare_plan(open_checkpoint(folder), EngineLimits(tokens, batch), "fp16", tf32=False)


def test_plan_is_found_again(folders: dict[str, Path]) -> None:
    first, second = prepare(folders["llama"], 96), prepare(folders["llama"], 96)
    assert first.plan.path == second.plan.path
    assert first.plan.build_seconds > 0 == second.plan.build_seconds


def test_damaged_and_foreign_plans_are_built_again(folders: dict[str, Path]) -> None:
    ours, foreign = prepare(folders["llama"], 96).plan.path, prepare(folders["llama"], 104).plan.path
    whole = ours.read_bytes()
    half = len(whole) // 2
    turned = whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]
    for content in (whole[:-100], turned, foreign.read_bytes()):
        ours.write_bytes(content)
        assert prepare(folders["llama"], 96).plan.build_seconds > 0
        assert ours.read_bytes() != content
    for path in foreign.parent.iterdir():
        (ours.parent / path.name).write_bytes(path.read_bytes())
    assert prepare(folders["llama"], 96).plan.build_seconds > 0


BUILD = """
import sys
from pathlib import Path
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan
from trt_server.model.files.checkpoint import open_checkpoint
prepared = prepare_plan(open_checkpoint(Path(sys.argv[1])), EngineLimits(112, 1), "fp16", False)
print(prepared.plan.build_seconds > 0)
"""


def test_two_processes_at_once_build_once(folders: dict[str, Path]) -> None:
    command = [sys.executable, "-c", BUILD, str(folders["llama"])]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    built = [process.communicate(timeout=240)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(built) == ["False", "True"]


# Memory.


def test_full_device_is_one_line(folders: dict[str, Path]) -> None:
    """All but 256 MB are taken before, and the activations of such a batch need more."""
    tokens, batch = 2048, 128
    prepare(folders["llama"], tokens, batch)
    program = FULL_DEVICE.format(tokens=tokens, batch=batch)
    done = subprocess.run(
        [sys.executable, "-c", program, str(folders["llama"])],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "is out of memory" in done.stdout
    assert done.stdout.strip().count("\n") == 0


FULL_DEVICE = """
import sys
from pathlib import Path
import pycuda.driver as cuda
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.run.engine import TensorRtEngine
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
cuda.init()
context = cuda.Device(0).retain_primary_context()
context.push()
held = cuda.mem_alloc(cuda.mem_get_info()[0] - (256 << 20))
try:
    TensorRtEngine(open_checkpoint(Path(sys.argv[1])), EngineLimits({tokens}, {batch}), "fp16", False)
except StartError as error:
    print(error)
held.free()
context.pop()
context.detach()
"""


def test_start_error_is_raised_for_a_device_that_is_not_there(folders: dict[str, Path]) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", BUILD, str(folders["llama"])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 1
    assert f"{StartError.__name__}: no usable CUDA device" in done.stderr
