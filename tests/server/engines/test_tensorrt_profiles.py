"""The shapes a plan is built for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.plan.kv_cache import KvCacheLayout, input_shapes
from trt_server.engines.tensorrt.plan.profiles import (
    BatchSize,
    KvCacheRanges,
    Profile,
    SizeRange,
    max_scored_positions,
    profiles_for,
    rounded_up,
)


def test_single_prompts_alone() -> None:
    (single,) = profiles_for(EngineLimits(max_prompt_tokens=2048, max_batch_size=1))
    scored, targets = SizeRange(1, 1, 256), SizeRange(1, 4, 64 + 256)
    assert single == Profile(SizeRange(1, 1, 1), SizeRange(1, 832, 2048), scored, targets)


def test_batches_have_a_profile_of_their_own() -> None:
    single, many = profiles_for(EngineLimits(max_prompt_tokens=4096, max_batch_size=16))
    assert single.prompts == SizeRange(1, 1, 1)
    scored, targets = SizeRange(1, 16, 256), SizeRange(1, 64, 16 * 64 + 256)
    assert many == Profile(SizeRange(2, 16, 16), SizeRange(1, 896, 4096), scored, targets)


@pytest.mark.parametrize(("prompts", "asked", "most"), [(4, 100, 100), (4, 1, 4), (300, None, 300)])
def test_scored_positions_are_as_many_as_asked_for_and_one_a_prompt(
    prompts: int, asked: int | None, most: int
) -> None:
    limits = EngineLimits(2048, prompts, max_scored_positions=asked)
    assert max_scored_positions(limits) == most
    single, many = profiles_for(limits)
    assert (single.scored, many.scored) == (SizeRange(1, 1, most), SizeRange(1, prompts, most))
    assert (single.targets.most, many.targets.most) == (64 + most, prompts * 64 + most)


@pytest.mark.parametrize(("asked", "most"), [(2047, 2048), (2048, 2048), (1, 8), (13, 16)])
def test_longest_is_the_rounded_limit_and_best_within_it(asked: int, most: int) -> None:
    for profile in profiles_for(EngineLimits(asked, 2)):
        assert profile.tokens.most == most == rounded_up(asked)
        assert profile.tokens.least <= profile.tokens.best <= most


@pytest.mark.parametrize("batches", [1, 2, 7])
def test_every_batch_within_the_limits_has_exactly_one_profile(batches: int) -> None:
    profiles = profiles_for(EngineLimits(40, batches))
    for prompts in range(1, batches + 1):
        for asked in ((1, 1), (256, 64 * prompts + 256)):
            assert sum(profile.holds(BatchSize(prompts, 40, *asked)) for profile in profiles) == 1
    most = 64 * batches + 256
    for beyond in (
        *((0, 40, 1, 4), (batches + 1, 40, 1, 4), (1, 41, 1, 4), (1, 0, 1, 4)),
        *((1, 40, 257, 4), (1, 40, 0, 4), (batches, 40, 1, most + 1), (1, 40, 1, 0)),
    ):
        assert not any(profile.holds(BatchSize(*beyond)) for profile in profiles)


def test_input_shapes() -> None:
    profile = Profile(SizeRange(2, 3, 4), SizeRange(1, 16, 32), SizeRange(1, 3, 100), SizeRange(1, 12, 356))
    rows, targets = ((2, 1), (3, 16), (4, 32)), ((1,), (12,), (356,))
    assert input_shapes(profile, None) == {
        "token_ids": rows,
        "positions": rows,
        "visible_until": rows,
        "scored": ((1,), (3,), (100,)),
        "target_ids": targets,
        "target_places": targets,
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


@pytest.mark.parametrize("size", [BatchSize(1, 8, 1, 1, 8, 1), BatchSize(3, 2048, 256, 448, 2048, 1)])
def test_what_is_scored_after_a_past_has_a_profile(size: BatchSize) -> None:
    profiles = profiles_for(EngineLimits(2048, 3), max_prefix_tokens=2048)
    assert any(profile.holds(size) for profile in profiles)
    without = profiles_for(EngineLimits(2048, 3))
    assert not any(profile.holds(size) for profile in without)


def test_input_shapes_with_a_past() -> None:
    profile = Profile(
        SizeRange(1, 1, 1),
        SizeRange(1, 16, 32),
        SizeRange(1, 1, 100),
        SizeRange(1, 4, 164),
        KvCacheRanges(SizeRange(8, 24, 48), SizeRange(1, 1, 32)),
    )
    assert input_shapes(profile, PAST) == {
        **input_shapes(replace(profile, past=None), None),
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
