"""What requests that went to an engine together are told of its time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from scoring.v1 import scoring_pb2 as pb
from trt_server.engines.engine import EngineTiming, Outcome, Scores
from trt_server.observe.work_metrics import STAGES
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.request import ScoringRequest
from trt_server.scheduling.result import ScoringResult
from trt_server.scheduling.stages import Stages
from trt_server.scheduling.work import Work


def prompt(*token_ids: int, reusable: int = 0) -> TokenPrompt:
    return TokenPrompt(np.array(token_ids, np.int32), np.array([1], np.int32), reusable_tokens=reusable)


def results(requests: Sequence[Sequence[TokenPrompt]], *timings: EngineTiming) -> list[ScoringResult]:
    """Of requests with these prompts and one timing a batch.

    Each took 7 ns to tokenize, was queued at 0 and went to the engine 100 ns after its assembly.
    """

    async def computed() -> list[ScoringResult]:
        work = Work(
            [ScoringRequest(prompts, 100, tokenize_ns=7) for prompts in requests], Batching(100, 10_000, 0.0)
        )
        for batch, timing in zip(work.batches, timings, strict=True):
            rows = len(batch.lengths)
            scores = Scores(np.zeros(rows, np.float32), np.zeros(rows, np.int32), np.zeros(rows, np.float32))
            work.outcomes.append(Outcome(scores, timing))
        work.submitted_ns = work.assemble_ns + 100
        assert work.assemble_ns > 0
        found = list(work.results(0))
        assert {result.stages.assemble_ns for result in found} == {work.assemble_ns}
        return found

    return asyncio.run(computed())


def test_merged_requests_share_the_work_and_each_waits_all_the_time() -> None:
    found = results(
        [[prompt(1, 2)]] * 2, EngineTiming(copy_in_ns=10, core_ns=80, copy_out_ns=6, waited_ns=50)
    )
    for result in found:
        assert result.stages == Stages(
            tokenize_ns=7,
            queue_ns=100 + 50,
            assemble_ns=result.stages.assemble_ns,
            copy_in_ns=5,
            core_ns=40,
            copy_out_ns=3,
        )


def test_waiting_for_ones_own_first_batch_is_not_queueing() -> None:
    """The second batch waits while the first computes, which is core time already."""
    (result,) = results(
        [[prompt(first, 9, 9, reusable=1) for first in (1, 2)]],
        EngineTiming(copy_in_ns=1, core_ns=80, copy_out_ns=1, waited_ns=50),
        EngineTiming(copy_in_ns=1, core_ns=30, copy_out_ns=1, waited_ns=79),
    )
    assert result.stages.queue_ns == 100 + 50
    assert result.stages.core_ns == 80 + 30


def test_the_contract_and_the_metrics_have_the_stages_and_the_total() -> None:
    in_contract = [field.name for field in pb.Timing.DESCRIPTOR.fields]
    assert in_contract == [*(field.name for field in fields(Stages)), "total_ns"]
    assert in_contract == [f"{stage}_ns" for stage in STAGES]
