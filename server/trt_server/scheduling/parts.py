"""A request that is larger than a batch may be, run in parts with other callers' batches between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trt_server.scheduling.batching import Batching
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import PromptResult, ScoringResult
from trt_server.scheduling.row import PromptRow, rows_of
from trt_server.scheduling.stages import Stages
from trt_server.scheduling.work import numbers_by_prefix


@dataclass(frozen=True)
class Part:
    """What is run at once of a request.

    Attributes:
        prompts: Prompts of the request, or rows of them as prompts of their own.
        owners: The number, in the request, of the prompt that each of them is or comes from.
    """

    prompts: Sequence[TokenPrompt]
    owners: Sequence[int]


def parts_of(prompts: Sequence[TokenPrompt], max_row_tokens: int, batching: Batching) -> list[Part]:
    """Split a request into parts that are a batch each, where all of it is more than a batch may be.

    A prompt that is longer than a batch may be is a part of its own.

    Args:
        prompts: Those of the request.
        max_row_tokens: Of a row of a batch, a prefix included.
        batching: The largest batch.
    """
    whole = Part(prompts, range(len(prompts)))
    if len(prompts) * max(prompt.logical_tokens for prompt in prompts) <= batching.max_tokens:
        return [whole]
    owned = [(owner, row) for owner, prompt in enumerate(prompts) for row in rows_of(prompt, max_row_tokens)]
    rows = [row for _, row in owned]
    batches = [part for numbers in numbers_by_prefix(rows) for part in batching.split(rows, numbers)]
    tokens = sum(_tokens([rows[number] for number in numbers]) for numbers in batches)
    if len(batches) == 1 or tokens <= batching.max_tokens:
        return [whole]
    return [
        Part([_as_prompt(rows[number]) for number in numbers], [owned[number][0] for number in numbers])
        for numbers in batches
    ]


def joined(parts: Sequence[Part], results: Sequence[ScoringResult]) -> ScoringResult:
    """Return what came of a request, from what came of its parts.

    The batch that it tells of is that of the part with the most rows, and the engine is that part's.

    Args:
        parts: Those of the request, in their order.
        results: One for each of them.
    """
    if len(parts) == 1:
        return results[0]
    largest = max(results, key=lambda result: result.batch_rows)
    return replace(
        largest,
        prompts=list(_prompt_results(parts, results)),
        padding_tokens=sum(result.padding_tokens for result in results),
        stages=_stages([result.stages for result in results]),
    )


def _tokens(rows: Sequence[PromptRow]) -> int:
    """Tokens of a batch, its padding and its prefix counted."""
    return len(rows) * max(row.tokens for row in rows) + rows[0].prompt.reusable_tokens


def _as_prompt(row: PromptRow) -> TokenPrompt:
    """Return a prompt that is this row alone."""
    return replace(
        row.prompt, candidates=row.candidates, continuations=row.continuations, own_tokens=row.own_tokens
    )


def _prompt_results(parts: Sequence[Part], results: Sequence[ScoringResult]) -> Iterator[PromptResult]:
    by_owner: dict[int, list[PromptResult]] = {}
    for part, result in zip(parts, results, strict=True):
        for owner, found in zip(part.owners, result.prompts, strict=True):
            by_owner.setdefault(owner, []).append(found)
    for _, rows in sorted(by_owner.items()):
        # The first row has what is asked of the prompt itself.
        yield replace(
            rows[0],
            continuations=[continuation for row in rows for continuation in row.continuations],
            computed=[stretch for row in rows for stretch in row.computed],
            scored_positions=sum(row.scored_positions for row in rows),
            last_layer=_last_layer(rows),
        )


def _last_layer(rows: Sequence[PromptResult]) -> list[int] | None:
    """Return the positions for which the last layer was computed whole; None: for all."""
    found: list[int] = []
    for row in rows:
        if row.last_layer is None:
            return None
        found.extend(row.last_layer)
    return found


def _stages(parts: Sequence[Stages]) -> Stages:
    """Add them up.

    The parts were queued at once: a later one waits while the others are computed, which is no queueing.
    """
    assemble, copy_in, core, copy_out = (
        sum(getattr(part, f"{name}_ns") for part in parts)
        for name in ("assemble", "copy_in", "core", "copy_out")
    )
    last = max(parts, key=lambda part: part.queue_ns)
    others = assemble + copy_in + core + copy_out
    others -= last.assemble_ns + last.copy_in_ns + last.core_ns + last.copy_out_ns
    return Stages(
        tokenize_ns=parts[0].tokenize_ns,
        queue_ns=max(parts[0].queue_ns, last.queue_ns - others),
        assemble_ns=assemble,
        copy_in_ns=copy_in,
        core_ns=core,
        copy_out_ns=copy_out,
    )
