"""What requests that went to an engine together are told of its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from trt_server.engines.engine import EngineTiming, Outcome, Scores
from trt_server.scheduling.request import ScoringRequest, TokenPrompt
from trt_server.scheduling.work import Work


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def prompt(*token_ids: int, reusable: int = 0) -> TokenPrompt:
    return TokenPrompt(np.array(token_ids, np.int32), np.array([1], np.int32), reusable)


def computed(requests: list[ScoringRequest], *timings: EngineTiming) -> Work:
    """Their work, one timing a part; it was queued at 0 and went to the engine 100 ns after its assembly."""
    work = Work(requests, 1)
    assert len(work.parts) == len(timings)
    for part, timing in zip(work.parts, timings, strict=True):
        rows = len(part.rows)
        scores = Scores(np.zeros((rows, 1), np.float32), np.zeros(rows, np.int32), np.zeros(rows, np.float32))
        work.outcomes.append(Outcome(scores, timing))
    work.submitted_ns = work.assemble_ns + 100
    return work


def test_merged_requests_share_the_work_and_each_waits_all_the_time(loop: asyncio.AbstractEventLoop) -> None:
    requests = [ScoringRequest([prompt(1, 2)], loop.create_future()) for _ in range(2)]
    work = computed(requests, EngineTiming(copy_in_ns=10, core_ns=80, copy_out_ns=6, waited_ns=50))
    for answer in work.answers(0):
        assert answer.stages.queue_ns == 100 + 50
        assert answer.stages.engine == EngineTiming(copy_in_ns=5, core_ns=40, copy_out_ns=3)


def test_waiting_for_ones_own_first_part_is_not_queueing(loop: asyncio.AbstractEventLoop) -> None:
    """The second part waits while the first computes, which is core time already."""
    prompts = [prompt(first, 9, 9, reusable=1) for first in (1, 2)]
    work = computed(
        [ScoringRequest(prompts, loop.create_future())],
        EngineTiming(copy_in_ns=1, core_ns=80, copy_out_ns=1, waited_ns=50),
        EngineTiming(copy_in_ns=1, core_ns=30, copy_out_ns=1, waited_ns=79),
    )
    (answer,) = work.answers(0)
    assert answer.stages.queue_ns == 100 + 50
    assert answer.stages.engine.core_ns == 80 + 30
