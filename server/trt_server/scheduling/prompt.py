"""One prompt as token ids, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _none() -> NDArray[np.int32]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True)
class TokenPrompt:
    """One prompt, and the tokens whose log-probabilities are asked for.

    Attributes:
        token_ids: int32 [tokens], at least one.
        candidates: int32 [width], next tokens after the prompt.
        continuations: int32 arrays of one token and more, each of which follows the prompt by itself.
        own_tokens: So many of the prompt's last tokens are scored; fewer than it has.
        top_count: So many of the most likely tokens are told wherever a token is scored, and after the
            prompt.
        reusable_tokens: So many of the first come from the engine's prefix store, or are computed for it: no
            more than the engine can keep, and none after which a token is scored. 0: none.
    """

    token_ids: NDArray[np.int32]
    candidates: NDArray[np.int32] = field(default_factory=_none)
    continuations: Sequence[NDArray[np.int32]] = ()
    own_tokens: int = 0
    top_count: int = 0
    reusable_tokens: int = 0

    @property
    def prefix(self) -> NDArray[np.int32]:
        """Its first tokens, which may come from the prefix store: int32 [reusable_tokens]."""
        return self.token_ids[: self.reusable_tokens]

    @property
    def rest(self) -> NDArray[np.int32]:
        """The tokens after the prefix, which are always computed: int32, at least one."""
        return self.token_ids[self.reusable_tokens :]

    @property
    def logical_tokens(self) -> int:
        """Tokens of all texts that are scored, as if each continuation had been asked for alone."""
        prompt = len(self.token_ids)
        return sum(prompt + len(each) for each in self.continuations) or prompt

    @property
    def longest_text(self) -> int:
        """Tokens of the prompt and its longest continuation together."""
        return len(self.token_ids) + max(map(len, self.continuations), default=0)

    @property
    def scored_positions(self) -> int:
        """Places whose next token is asked for, where all continuations fit in one row."""
        return self.own_tokens + 1 + sum(len(each) - 1 for each in self.continuations)
