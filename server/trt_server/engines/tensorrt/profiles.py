"""The shapes a plan is built for: which are possible, and which it is tuned to."""

from __future__ import annotations

from dataclasses import dataclass

from trt_server.engines.engine import EngineLimits, padded_length

# Attention and matrix kernels in fp16 read eight values at a time.
LENGTH_MULTIPLE = 8
MAX_CANDIDATES = 64

# MMLU 5-shot: 805 tokens a prompt on average with Llama 2's tokenizer; of several prompts the longest counts.
_SINGLE_TOKENS = 832
_MANY_TOKENS = 896
_MMLU_CANDIDATES = 4
# Of those tokens the shots that a subject shares, and what is left of a prompt after them.
_SHARED_TOKENS = 688
_OWN_TOKENS = 128


@dataclass(frozen=True)
class Span:
    """least and most are what is accepted, best is what the kernels are chosen for."""

    least: int
    best: int
    most: int

    def holds(self, value: int) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class PastSpans:
    """slots: tokens of a past with its padding. kept: new tokens whose keys and values are wanted."""

    slots: Span
    kept: Span


@dataclass(frozen=True)
class BatchSize:
    """What a profile is chosen by. slots, kept: 0 where the plan knows no past."""

    prompts: int
    tokens: int
    candidates: int
    slots: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Profile:
    """Prompts in a batch, tokens of a prompt with its padding, candidates of a prompt, and what it goes on
    after: None where the plan knows no past."""

    prompts: Span
    tokens: Span
    candidates: Span
    past: PastSpans | None = None

    def holds(self, size: BatchSize) -> bool:
        spans = self.past or PastSpans(_NONE, _NONE)
        return (
            self.prompts.holds(size.prompts)
            and self.tokens.holds(size.tokens)
            and self.candidates.holds(size.candidates)
            and spans.slots.holds(size.slots)
            and spans.kept.holds(size.kept)
        )

    def size(self, end: str) -> BatchSize:
        """That of its "least", "best" or "most"."""
        prompts, tokens, candidates = (
            int(getattr(span, end)) for span in (self.prompts, self.tokens, self.candidates)
        )
        if self.past is None:
            return BatchSize(prompts, tokens, candidates)
        slots, kept = (int(getattr(span, end)) for span in (self.past.slots, self.past.kept))
        return BatchSize(prompts, tokens, candidates, slots, kept)


_NONE = Span(0, 0, 0)


def rounded_up(tokens: int) -> int:
    """The next multiple of LENGTH_MULTIPLE."""
    return padded_length(tokens, LENGTH_MULTIPLE)


def profiles_for(limits: EngineLimits, max_prefix_tokens: int = 0) -> tuple[Profile, ...]:
    """One profile for single prompts, and a second for batches where the limits allow any.

    max_prefix_tokens: of the longest shared prefix that can be kept, a multiple of LENGTH_MULTIPLE. Above 0
    the plan has a past: those two profiles then take the empty one, and as many again go on after another.
    """
    if not max_prefix_tokens:
        return _with_past(limits, _SINGLE_TOKENS, _MANY_TOKENS, None, None)
    most = min(max_prefix_tokens, rounded_up(limits.max_prompt_tokens))
    one, empty = Span(1, 1, 1), Span(LENGTH_MULTIPLE, LENGTH_MULTIPLE, LENGTH_MULTIPLE)
    some = PastSpans(Span(LENGTH_MULTIPLE, min(_SHARED_TOKENS, most), most), one)
    # Prefixes are computed one by one.
    whole = _with_past(
        limits, _SINGLE_TOKENS, _MANY_TOKENS, PastSpans(empty, Span(1, 1, most)), PastSpans(empty, one)
    )
    return whole + _with_past(limits, _OWN_TOKENS, _OWN_TOKENS, some, some)


def _with_past(
    limits: EngineLimits,
    single_tokens: int,
    many_tokens: int,
    single_past: PastSpans | None,
    many_past: PastSpans | None,
) -> tuple[Profile, ...]:
    candidates = Span(1, _MMLU_CANDIDATES, MAX_CANDIDATES)
    single = Profile(Span(1, 1, 1), _tokens(limits, single_tokens), candidates, single_past)
    most = limits.max_batch_size
    if most == 1:
        return (single,)
    return single, Profile(Span(2, most, most), _tokens(limits, many_tokens), candidates, many_past)


def _tokens(limits: EngineLimits, best: int) -> Span:
    most = rounded_up(limits.max_prompt_tokens)
    return Span(1, min(best, most), most)
