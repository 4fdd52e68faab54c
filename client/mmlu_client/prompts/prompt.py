"""What is sent to be scored: token ids, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trt_common.tokenizer import TokenIds

from mmlu_client.data.item import Item


@dataclass(frozen=True)
class Prompt:
    """What is sent at once for one item, which may need several prompts.

    Attributes:
        item: The item.
        token_ids: The prompt.
        candidate_ids: The token ids whose log-probabilities after the prompt are asked for.
        shared_prefix_tokens: How many of the first tokens other prompts begin with too.
        shots: How many shots are in the prompt in full.
        truncated: Whether shots or tokens were left out because of the limit.
        continuations: The token ids of the texts that may follow the prompt, each of which is scored.
        own_tokens: How many of the prompt's last tokens are scored; fewer than it has.
        top_tokens: How many of the most likely tokens are asked for at each scored position.
        texts: Which of the item's texts each continuation is, or, where there are none, the own tokens with
            the candidate; empty for an item that has no texts.
        place: Which of the item's prompts this is, from 0.
        count: How many prompts the item has.
    """

    item: Item
    token_ids: TokenIds
    candidate_ids: tuple[int, ...]
    shared_prefix_tokens: int
    shots: int
    truncated: bool
    continuations: tuple[TokenIds, ...] = ()
    own_tokens: int = 0
    top_tokens: int = 0
    texts: tuple[int, ...] = ()
    place: int = 0
    count: int = 1

    @property
    def scored_positions(self) -> int:
        """How many positions the server scores for it, as it counts them against its limit."""
        return 1 + self.own_tokens + sum(len(each) - 1 for each in self.continuations)


@dataclass(frozen=True)
class Unaskable:
    """An item that no prompt can be made of.

    Attributes:
        item: The item.
        reason: Why.
    """

    item: Item
    reason: str


class PromptSource(Protocol):
    """Makes the prompts of items. Only one thread may use it."""

    def build(self, items: Sequence[Item]) -> list[Prompt | Unaskable]:
        """Return the prompts of each item, in order.

        Raises:
            InputError: The tokenizer or the server does not fit what is asked.
        """
        ...
