"""The shapes a plan is built for."""

from __future__ import annotations

import pytest
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.kv_cache import KvCacheLayout, input_shapes
from trt_server.engines.tensorrt.profiles import (
    BatchSize,
    KvCacheRanges,
    Profile,
    SizeRange,
    profiles_for,
    rounded_up,
)


def test_single_prompts_alone() -> None:
    (single,) = profiles_for(EngineLimits(max_prompt_tokens=2048, max_batch_size=1))
    assert single == Profile(SizeRange(1, 1, 1), SizeRange(1, 832, 2048), SizeRange(1, 4, 64))


def test_batches_have_a_profile_of_their_own() -> None:
    single, many = profiles_for(EngineLimits(max_prompt_tokens=4096, max_batch_size=16))
    assert single.prompts == SizeRange(1, 1, 1)
    assert many == Profile(SizeRange(2, 16, 16), SizeRange(1, 896, 4096), SizeRange(1, 4, 64))


@pytest.mark.parametrize(("asked", "most"), [(2047, 2048), (2048, 2048), (1, 8), (13, 16)])
def test_longest_is_the_rounded_limit_and_best_within_it(asked: int, most: int) -> None:
    for profile in profiles_for(EngineLimits(asked, 2)):
        assert profile.tokens.most == most == rounded_up(asked)
        assert profile.tokens.least <= profile.tokens.best <= most


@pytest.mark.parametrize("batches", [1, 2, 7])
def test_every_batch_within_the_limits_has_exactly_one_profile(batches: int) -> None:
    profiles = profiles_for(EngineLimits(40, batches))
    for prompts in range(1, batches + 1):
        assert sum(profile.holds(BatchSize(prompts, 40, 64)) for profile in profiles) == 1
    for beyond in ((0, 40, 4), (batches + 1, 40, 4), (1, 41, 4), (1, 40, 65), (1, 0, 4), (1, 40, 0)):
        assert not any(profile.holds(BatchSize(*beyond)) for profile in profiles)


def test_input_shapes() -> None:
    profile = Profile(SizeRange(2, 3, 4), SizeRange(1, 16, 32), SizeRange(1, 4, 64))
    assert input_shapes(profile, None) == {
        "token_ids": ((2, 1), (3, 16), (4, 32)),
        "lengths": ((2,), (3,), (4,)),
        "candidates": ((2, 1), (3, 4), (4, 64)),
    }


# With prefixes.

PAST = KvCacheLayout(
    ("past.0.key", "past.0.value"), ("kept.key", "kept.value"), heads=2, head_size=16, item_bytes=2
)


def test_with_prefixes_there_are_profiles_without_a_past_and_with_one() -> None:
    whole, many, continued, many_continued = profiles_for(EngineLimits(2048, 4), max_prefix_tokens=4096)
    one, empty, some = SizeRange(1, 1, 1), SizeRange(8, 8, 8), SizeRange(8, 688, 2048)
    # A prefix is computed alone, whole and without a past.
    assert whole.past == KvCacheRanges(empty, SizeRange(1, 1, 2048))
    assert many.past == KvCacheRanges(empty, one)
    assert continued.past == many_continued.past == KvCacheRanges(some, one)
    assert (whole.tokens.best, continued.tokens.best) == (832, 128)
    assert (many.prompts, many_continued.prompts) == (SizeRange(2, 4, 4), SizeRange(2, 4, 4))


def test_a_past_is_no_longer_than_what_can_be_kept() -> None:
    *_, continued = profiles_for(EngineLimits(2048, 1), max_prefix_tokens=160)
    assert continued.past == KvCacheRanges(SizeRange(8, 160, 160), SizeRange(1, 1, 1))


@pytest.mark.parametrize("size", [BatchSize(1, 8, 1, 8, 1), BatchSize(3, 2048, 64, 2048, 1)])
def test_what_is_scored_after_a_past_has_a_profile(size: BatchSize) -> None:
    profiles = profiles_for(EngineLimits(2048, 3), max_prefix_tokens=2048)
    assert any(profile.holds(size) for profile in profiles)
    without = profiles_for(EngineLimits(2048, 3))
    assert not any(profile.holds(size) for profile in without)


def test_input_shapes_with_a_past() -> None:
    profile = Profile(
        SizeRange(1, 1, 1),
        SizeRange(1, 16, 32),
        SizeRange(1, 4, 64),
        KvCacheRanges(SizeRange(8, 24, 48), SizeRange(1, 1, 32)),
    )
    assert input_shapes(profile, PAST) == {
        "token_ids": ((1, 1), (1, 16), (1, 32)),
        "lengths": ((1,), (1,), (1,)),
        "candidates": ((1, 1), (1, 4), (1, 64)),
        "past_length": ((1,), (1,), (1,)),
        "kept": ((1,), (1,), (32,)),
        "past.0.key": ((1, 2, 8, 16), (1, 2, 24, 16), (1, 2, 48, 16)),
        "past.0.value": ((1, 2, 8, 16), (1, 2, 24, 16), (1, 2, 48, 16)),
    }


def test_tensors_of_a_block_are_aligned_and_apart() -> None:
    odd = KvCacheLayout(("a", "b"), ("c", "d"), heads=1, head_size=8, item_bytes=2)
    addresses = odd.addresses(odd.inputs, 4096, tokens=8)
    assert addresses == {"a": 4096, "b": 4096 + 256}
    assert odd.bytes(8) == 512
    assert PAST.bytes(8) == 2 * 2 * 8 * 16 * 2


@pytest.mark.parametrize(("limit", "tokens"), [(0, 0), (1023, 0), (1024, 8), (3071, 16), (3072, 24)])
def test_the_longest_prefix_that_a_limit_can_keep(limit: int, tokens: int) -> None:
    assert PAST.max_tokens(limit) == tokens
    assert PAST.bytes(tokens) <= limit
