"""Rotary position embeddings: the cosines and sines of the angles that queries and keys are rotated by."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from trt_common.model.geometry import Geometry
from trt_common.model.rope_parameters import RopeParameters


def rope_tables(geometry: Geometry, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosine and sine for positions 0 to `positions` - 1, float32 [positions, head_size / 2] each.

    Column i has the angle that elements i and i + head_size / 2 of a head are rotated by: the first half of a
    head is paired with the second, as in the checkpoints that transformers writes (Su et al. 2021,
    "RoFormer", equation 34, in that order).

    The angles are computed in float32, as when the models were trained; float64 would change the angle of a
    far position by up to positions × 6e-8 rad.
    """
    frequencies, attention_factor = _frequencies(geometry.rope, geometry.head_size)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies[None, :]
    return np.cos(angles) * np.float32(attention_factor), np.sin(angles) * np.float32(attention_factor)


def _frequencies(rope: RopeParameters, head_size: int) -> tuple[NDArray[np.float32], float]:
    """Return radians for each position, float32 [head_size / 2], and the factor of cosine and sine."""
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequencies = np.float32(1) / np.power(np.float32(rope.theta), exponents)
    if rope.kind == "linear":
        return frequencies / np.float32(rope.factor), 1.0
    if rope.kind == "llama3":
        return _llama3(rope, frequencies), 1.0
    if rope.kind == "yarn":
        return _yarn(rope, frequencies, head_size), _yarn_attention_factor(rope)
    # "dynamic" scales only prompts longer than max_positions, and those are never accepted.
    return frequencies, 1.0


def _llama3(rope: RopeParameters, frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply Llama 3.1's scaling: long waves are stretched, short ones kept, those between interpolated.

    Source: `apply_scaling` in meta-llama/llama-models, models/llama3/model.py.
    """
    wavelengths = 2 * math.pi / frequencies
    share_kept = (rope.original_max_positions / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    share_kept = np.clip(share_kept, 0, 1)
    kept = share_kept + (1 - share_kept) / rope.factor
    return (frequencies * kept).astype(np.float32)


def _yarn(rope: RopeParameters, frequencies: NDArray[np.float32], head_size: int) -> NDArray[np.float32]:
    """Apply YaRN's scaling: Peng et al. 2023 (arXiv 2309.00071), section 3.2, "NTK-by-parts".

    Pairs that rotate more than beta_fast times within the trained positions are kept, and those that rotate
    less than beta_slow times are interpolated, with a linear ramp over the pair's number between the two.
    """
    low = _pair_that_turns(rope.beta_fast, rope, head_size)
    high = _pair_that_turns(rope.beta_slow, rope, head_size)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_size - 1)
    if low == high:
        high += 0.001
    pairs = np.arange(head_size // 2, dtype=np.float32)
    share_interpolated = np.clip((pairs - np.float32(low)) / np.float32(high - low), 0, 1)
    interpolated = frequencies / np.float32(rope.factor)
    scaled: NDArray[np.float32] = interpolated * share_interpolated + frequencies * (1 - share_interpolated)
    return scaled.astype(np.float32)


def _pair_that_turns(turns: float, rope: RopeParameters, head_size: int) -> float:
    """Return the number of the pair that makes `turns` full rotations within the trained positions."""
    wavelength = rope.original_max_positions / (turns * 2 * math.pi)
    return head_size * math.log(wavelength) / (2 * math.log(rope.theta))


def _yarn_attention_factor(rope: RopeParameters) -> float:
    """Return the paper's √(1/t) = 0.1 ln(factor) + 1, with DeepSeek's `mscale` where both are given."""
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return _yarn_mscale(rope.factor, rope.mscale) / _yarn_mscale(rope.factor, rope.mscale_all_dim)
    return _yarn_mscale(rope.factor, 1.0)


def _yarn_mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
