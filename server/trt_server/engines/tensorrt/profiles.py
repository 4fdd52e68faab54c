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

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """least and most are what is accepted, best is what the kernels are chosen for."""

    least: int
    best: int
    most: int

    def holds(self, value: int) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Profile:
    """Prompts in a batch, tokens of a prompt with its padding, candidates of a prompt."""

    prompts: Span
    tokens: Span
    candidates: Span

    def holds(self, prompts: int, tokens: int, candidates: int) -> bool:
        return self.prompts.holds(prompts) and self.tokens.holds(tokens) and self.candidates.holds(candidates)

    def input_shapes(self) -> dict[str, tuple[Shape, Shape, Shape]]:
        """Input name → its least, best and most shape."""
        prompts, tokens, candidates = (
            (span.least, span.best, span.most) for span in (self.prompts, self.tokens, self.candidates)
        )
        return {
            "token_ids": _triple(zip(prompts, tokens, strict=True)),
            "lengths": _triple(zip(prompts, strict=True)),
            "candidates": _triple(zip(prompts, candidates, strict=True)),
        }


def _triple(shapes: zip[tuple[int, ...]]) -> tuple[Shape, Shape, Shape]:
    least, best, most = shapes
    return least, best, most


def rounded_up(tokens: int) -> int:
    """The next multiple of LENGTH_MULTIPLE."""
    return padded_length(tokens, LENGTH_MULTIPLE)


def profiles_for(limits: EngineLimits) -> tuple[Profile, ...]:
    """One profile for single prompts, and a second for batches where the limits allow any."""
    candidates = Span(1, _MMLU_CANDIDATES, MAX_CANDIDATES)
    single = Profile(Span(1, 1, 1), _tokens(limits, _SINGLE_TOKENS), candidates)
    most = limits.max_batch_size
    if most == 1:
        return (single,)
    return single, Profile(Span(2, most, most), _tokens(limits, _MANY_TOKENS), candidates)


def _tokens(limits: EngineLimits, best: int) -> Span:
    most = rounded_up(limits.max_prompt_tokens)
    return Span(1, min(best, most), most)
