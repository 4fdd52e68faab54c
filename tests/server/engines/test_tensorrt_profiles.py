"""The shapes a plan is built for."""

from __future__ import annotations

import pytest
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.profiles import Profile, Span, profiles_for, rounded_up


def test_single_prompts_alone() -> None:
    (single,) = profiles_for(EngineLimits(max_prompt_tokens=2048, max_batch_size=1))
    assert single == Profile(Span(1, 1, 1), Span(1, 832, 2048), Span(1, 4, 64))


def test_batches_have_a_profile_of_their_own() -> None:
    single, many = profiles_for(EngineLimits(max_prompt_tokens=4096, max_batch_size=16))
    assert single.prompts == Span(1, 1, 1)
    assert many == Profile(Span(2, 16, 16), Span(1, 896, 4096), Span(1, 4, 64))


@pytest.mark.parametrize(("asked", "most"), [(2047, 2048), (2048, 2048), (1, 8), (13, 16)])
def test_longest_is_the_rounded_limit_and_best_within_it(asked: int, most: int) -> None:
    for profile in profiles_for(EngineLimits(asked, 2)):
        assert profile.tokens.most == most == rounded_up(asked)
        assert profile.tokens.least <= profile.tokens.best <= most


@pytest.mark.parametrize("batches", [1, 2, 7])
def test_every_batch_within_the_limits_has_exactly_one_profile(batches: int) -> None:
    profiles = profiles_for(EngineLimits(40, batches))
    for prompts in range(1, batches + 1):
        assert sum(profile.holds(prompts, 40, 64) for profile in profiles) == 1
    for beyond in ((0, 40, 4), (batches + 1, 40, 4), (1, 41, 4), (1, 40, 65), (1, 0, 4), (1, 40, 0)):
        assert not any(profile.holds(*beyond) for profile in profiles)


def test_input_shapes() -> None:
    profile = Profile(Span(2, 3, 4), Span(1, 16, 32), Span(1, 4, 64))
    assert profile.input_shapes() == {
        "token_ids": ((2, 1), (3, 16), (4, 32)),
        "lengths": ((2,), (3,), (4,)),
        "candidates": ((2, 1), (3, 4), (4, 64)),
    }
