"""Optimization profiles: the shapes that a plan accepts, and those that its kernels are tuned for."""

from __future__ import annotations

from dataclasses import dataclass

from trt_server.engines.engine import EngineLimits, padded_length

Shape = tuple[int, ...]

# Kernels for attention and matrix products in fp16 read eight values at a time.
LENGTH_MULTIPLE = 8
MAX_CANDIDATES = 64
# The scored positions of a batch, where the limits name no number.
_SCORED_POSITIONS = 256

# MMLU 5-shot has 805 tokens a prompt on average with Llama 2's tokenizer; a batch is as long as its longest.
_SINGLE_TOKENS = 832
_MANY_TOKENS = 896
_MMLU_CANDIDATES = 4
# The tokens of the shots, which all prompts of a subject share, and of the rest of a prompt.
_SHARED_TOKENS = 688
_OWN_TOKENS = 128


@dataclass(frozen=True)
class SizeRange:
    """The sizes of one dimension: `least` to `most` are accepted, and kernels are tuned for `best`."""

    least: int
    best: int
    most: int

    def holds(self, value: int) -> bool:
        """Return whether the size is accepted."""
        return self.least <= value <= self.most


@dataclass(frozen=True)
class KvCacheRanges:
    """The sizes that belong to the KV cache.

    Attributes:
        slots: The tokens of the KV cache, padding included.
        kept: The new tokens whose keys and values are returned.
    """

    slots: SizeRange
    kept: SizeRange


@dataclass(frozen=True)
class BatchSize:
    """The sizes of a batch, by which its profile is chosen.

    Attributes:
        prompts: The number of prompts, which are the rows of the batch.
        tokens: The tokens of a row, padding included.
        scored: The positions of all rows whose next token is asked for.
        targets: The tokens whose log-probability is asked for.
        slots: The tokens of the KV cache, padding included; 0 where the plan takes none.
        kept: The new tokens whose keys and values are returned; 0 where the plan takes no KV cache.
    """

    prompts: int
    tokens: int
    scored: int
    targets: int
    slots: int = 0
    kept: int = 0

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """The shapes of the graph's inputs, by name, without those of the KV cache."""
        rows = (self.prompts, self.tokens)
        return {
            "scored": (self.scored,),
            "target_ids": (self.targets,),
            "target_places": (self.targets,),
            "token_ids": rows,
            "positions": rows,
            "visible_until": rows,
        }


@dataclass(frozen=True)
class Profile:
    """The sizes of one optimization profile.

    The names of the attributes are part of a plan's fingerprint.

    Attributes:
        prompts: The number of prompts.
        tokens: The tokens of a row, padding included.
        scored: The positions of all rows whose next token is asked for.
        targets: The tokens whose log-probability is asked for.
        past: The sizes of the KV cache; None where the plan takes none.
    """

    prompts: SizeRange
    tokens: SizeRange
    scored: SizeRange
    targets: SizeRange
    past: KvCacheRanges | None = None

    def holds(self, size: BatchSize) -> bool:
        """Return whether a batch of this size is accepted."""
        past = self.past or KvCacheRanges(_NONE, _NONE)
        return (
            self.prompts.holds(size.prompts)
            and self.tokens.holds(size.tokens)
            and self.scored.holds(size.scored)
            and self.targets.holds(size.targets)
            and past.slots.holds(size.slots)
            and past.kept.holds(size.kept)
        )

    def size(self, end: str) -> BatchSize:
        """Return the batch at one end of all ranges: "least", "best" or "most"."""
        past = self.past or KvCacheRanges(_NONE, _NONE)
        ranges = (self.prompts, self.tokens, self.scored, self.targets, past.slots, past.kept)
        return BatchSize(*(int(getattr(sizes, end)) for sizes in ranges))


_NONE = SizeRange(0, 0, 0)


def rounded_up(tokens: int) -> int:
    """Return the next multiple of LENGTH_MULTIPLE."""
    return padded_length(tokens, LENGTH_MULTIPLE)


def max_scored_positions(limits: EngineLimits) -> int:
    """Return the most scored positions of a batch: one a prompt at least.

    A plan computes all of them at once, so that this bounds the memory of the head: a float32 copy of the
    logits takes vocabulary size × positions × 4 bytes, and several copies may exist at a time.
    """
    return max(limits.max_scored_positions or _SCORED_POSITIONS, limits.max_batch_size)


def profiles_for(limits: EngineLimits, max_prefix_tokens: int = 0) -> tuple[Profile, ...]:
    """Return a profile for single prompts, and one for batches where the limits allow more than one prompt.

    Every profile takes the scored positions and the targets of the largest batch that its prompts can make:
    MAX_CANDIDATES candidates and continuations of each prompt, and one target more for each scored position.

    Args:
        limits: The largest batch that has to be accepted.
        max_prefix_tokens: The length of the longest shared prefix that can be stored, a multiple of
            LENGTH_MULTIPLE. Above 0 the plan takes a KV cache: these profiles then take an empty one, and as
            many more take one with a prefix.
    """
    if not max_prefix_tokens:
        return _with_past(limits, _SINGLE_TOKENS, _MANY_TOKENS, None, None)
    most = min(max_prefix_tokens, rounded_up(limits.max_prompt_tokens))
    one, empty = SizeRange(1, 1, 1), SizeRange(LENGTH_MULTIPLE, LENGTH_MULTIPLE, LENGTH_MULTIPLE)
    some = KvCacheRanges(SizeRange(LENGTH_MULTIPLE, min(_SHARED_TOKENS, most), most), one)
    # Prefixes are computed one by one.
    whole = _with_past(
        limits,
        _SINGLE_TOKENS,
        _MANY_TOKENS,
        KvCacheRanges(empty, SizeRange(1, 1, most)),
        KvCacheRanges(empty, one),
    )
    return whole + _with_past(limits, _OWN_TOKENS, _OWN_TOKENS, some, some)


def _with_past(
    limits: EngineLimits,
    single_tokens: int,
    many_tokens: int,
    single_past: KvCacheRanges | None,
    many_past: KvCacheRanges | None,
) -> tuple[Profile, ...]:
    single = _profile(limits, SizeRange(1, 1, 1), single_tokens, single_past)
    most = limits.max_batch_size
    if most == 1:
        return (single,)
    return single, _profile(limits, SizeRange(2, most, most), many_tokens, many_past)


def _profile(
    limits: EngineLimits, prompts: SizeRange, best_tokens: int, past: KvCacheRanges | None
) -> Profile:
    scored = max_scored_positions(limits)
    targets = prompts.most * MAX_CANDIDATES + scored
    return Profile(
        prompts,
        _tokens(limits, best_tokens),
        SizeRange(1, prompts.best, scored),
        SizeRange(1, prompts.best * _MMLU_CANDIDATES, targets),
        past,
    )


def _tokens(limits: EngineLimits, best: int) -> SizeRange:
    most = rounded_up(limits.max_prompt_tokens)
    return SizeRange(1, min(best, most), most)
