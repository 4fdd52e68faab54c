"""Optimization profiles: the shapes that a plan accepts, and those that its kernels are tuned for."""

from __future__ import annotations

from dataclasses import dataclass

from trt_server.engines.engine import EngineLimits, padded_length

# Kernels for attention and matrix products in fp16 read eight values at a time.
LENGTH_MULTIPLE = 8
MAX_CANDIDATES = 64

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
        prompts: The number of prompts.
        tokens: The tokens of a prompt, padding included.
        candidates: The candidates of a prompt.
        slots: The tokens of the KV cache, padding included; 0 where the plan takes none.
        kept: The new tokens whose keys and values are returned; 0 where the plan takes no KV cache.
    """

    prompts: int
    tokens: int
    candidates: int
    slots: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Profile:
    """The sizes of one optimization profile.

    The names of the attributes are part of a plan's fingerprint.

    Attributes:
        prompts: The number of prompts.
        tokens: The tokens of a prompt, padding included.
        candidates: The candidates of a prompt.
        past: The sizes of the KV cache; None where the plan takes none.
    """

    prompts: SizeRange
    tokens: SizeRange
    candidates: SizeRange
    past: KvCacheRanges | None = None

    def holds(self, size: BatchSize) -> bool:
        """Return whether a batch of this size is accepted."""
        spans = self.past or KvCacheRanges(_NONE, _NONE)
        return (
            self.prompts.holds(size.prompts)
            and self.tokens.holds(size.tokens)
            and self.candidates.holds(size.candidates)
            and spans.slots.holds(size.slots)
            and spans.kept.holds(size.kept)
        )

    def size(self, end: str) -> BatchSize:
        """Return the batch at one end of all ranges: "least", "best" or "most"."""
        prompts, tokens, candidates = (
            int(getattr(span, end)) for span in (self.prompts, self.tokens, self.candidates)
        )
        if self.past is None:
            return BatchSize(prompts, tokens, candidates)
        slots, kept = (int(getattr(span, end)) for span in (self.past.slots, self.past.kept))
        return BatchSize(prompts, tokens, candidates, slots, kept)


_NONE = SizeRange(0, 0, 0)


def rounded_up(tokens: int) -> int:
    """Return the next multiple of LENGTH_MULTIPLE."""
    return padded_length(tokens, LENGTH_MULTIPLE)


def profiles_for(limits: EngineLimits, max_prefix_tokens: int = 0) -> tuple[Profile, ...]:
    """Return a profile for single prompts, and one for batches where the limits allow more than one prompt.

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
    candidates = SizeRange(1, _MMLU_CANDIDATES, MAX_CANDIDATES)
    single = Profile(SizeRange(1, 1, 1), _tokens(limits, single_tokens), candidates, single_past)
    most = limits.max_batch_size
    if most == 1:
        return (single,)
    return single, Profile(SizeRange(2, most, most), _tokens(limits, many_tokens), candidates, many_past)


def _tokens(limits: EngineLimits, best: int) -> SizeRange:
    most = rounded_up(limits.max_prompt_tokens)
    return SizeRange(1, min(best, most), most)
