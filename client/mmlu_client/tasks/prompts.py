"""Documents → prompts: texts with one context are the continuations of one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trt_common.tokenizer import TokenIds

from mmlu_client.data.item import Item, Key
from mmlu_client.errors import InputError
from mmlu_client.prompts.prompt import Prompt, Unaskable
from mmlu_client.tasks.document import Document

if TYPE_CHECKING:
    from mmlu_client.tasks.encoding import HarnessEncoder


@dataclass(frozen=True)
class ScoringLimits:
    """The limits on prompts.

    Attributes:
        max_length: the tokens that a model sees before the last one that it predicts; what is longer loses
            its beginning, as with lm-eval's `hf`.
        max_row_tokens: the tokens of a prompt with all its continuations.
        max_positions: the positions of a request that are scored; None: any number.
        vocabulary_size: the number of the model's token ids.
    """

    max_length: int
    max_row_tokens: int
    max_positions: int | None
    vocabulary_size: int


class DocumentPrompts:
    """Makes the prompts of documents. Only one thread may use it. See `PromptSource`."""

    def __init__(
        self, encoder: HarnessEncoder, documents: Mapping[Key, Document], limits: ScoringLimits
    ) -> None:
        """Prepare to make prompts.

        Args:
            encoder: makes token ids of texts.
            documents: what is asked, by key.
            limits: of the prompts.
        """
        self._encoder = encoder
        self._documents = documents
        self._limits = limits

    def build(self, items: Sequence[Item]) -> list[Prompt | Unaskable]:
        """Return the prompts of each document, in order.

        Raises:
            InputError: The tokenizer does not fit the model, or the server scores too few positions.
        """
        return [prompt for item in items for prompt in self._prompts(self._documents[item.key])]

    def _prompts(self, document: Document) -> list[Prompt | Unaskable]:
        try:
            prompts = [*self._continued(document), *self._rolled(document)]
        except _UnaskableError as error:
            return [Unaskable(document, str(error))]
        if not prompts:
            return [Unaskable(document, "its text has no tokens")]
        self._check(prompts)
        return [replace(prompt, place=place, count=len(prompts)) for place, prompt in enumerate(prompts)]

    def _continued(self, document: Document) -> Iterator[Prompt]:
        """Yield the prompts of the document's texts that have a context."""
        numbers = [number for number, each in enumerate(document.requests) if each.context is not None]
        if not numbers:
            return
        texts = [(each.context, each.text) for each in document.requests if each.context is not None]
        try:
            pairs = self._encoder.pairs(texts)
        except IndexError:  # of an empty context and an empty text
            raise _UnaskableError("a choice is empty") from None
        groups: dict[tuple[int, ...], _Group] = {}
        for number, (context, text) in zip(numbers, pairs, strict=True):
            _check_text(context, text, self._limits.max_length)
            tokens = [*context, *text][-(self._limits.max_length + 1) :]
            before, is_cut = tokens[: -len(text)], len(tokens) < len(context) + len(text)
            if len(tokens) > self._limits.max_row_tokens:
                # With its last token, which the model only predicts, it is longer than the server takes.
                yield _own(document, number, before, text, truncated=is_cut, with_top=True)
                continue
            group = groups.get(tuple(before))
            if group is None or not group.has_room_for(text, self._limits):
                if group is not None:
                    yield group.prompt(document)
                group = groups[tuple(before)] = _Group(before)
            group.add(number, text, is_cut=is_cut)
        for group in groups.values():
            yield group.prompt(document)

    def _rolled(self, document: Document) -> Iterator[Prompt]:
        """Yield the windows of the document's texts that are scored as a whole."""
        for number, request in enumerate(document.requests):
            if request.context is None:
                for before, text in self._encoder.windows(request.text, self._limits.max_length):
                    yield _own(document, number, before, text, truncated=False, with_top=False)

    def _check(self, prompts: Sequence[Prompt]) -> None:
        """Check that the server can score the prompts of one document.

        Raises:
            InputError: A token id is beyond its vocabulary, or too many positions are to be scored.
        """
        limits = self._limits
        largest = max(map(_largest_id, prompts))
        if largest >= limits.vocabulary_size:
            raise InputError(
                f"the tokenizer gives token id {largest}, the model's vocabulary has "
                f"{limits.vocabulary_size}: it is not this model's tokenizer"
            )
        positions = max(prompt.scored_positions for prompt in prompts)
        if limits.max_positions is not None and positions > limits.max_positions:
            item = prompts[0].item
            raise InputError(
                f"{item.subject} {item.index} needs {positions} positions scored in one request, the server "
                f"takes {limits.max_positions}: start trt-server with --max-scored-positions {positions} or "
                "more"
            )


class _UnaskableError(Exception):
    """A document cannot be asked; the text says why."""


@dataclass
class _Group:
    """Texts with one context."""

    before: TokenIds
    numbers: list[int] = field(default_factory=list)
    texts: list[TokenIds] = field(default_factory=list)
    is_cut: bool = False

    def has_room_for(self, text: TokenIds, limits: ScoringLimits) -> bool:
        """Return whether one more text fits into the row, and its positions into a request."""
        tokens = len(self.before) + sum(map(len, self.texts)) + len(text)
        positions = 1 + sum(len(each) - 1 for each in [*self.texts, text])
        return tokens <= limits.max_row_tokens and (
            limits.max_positions is None or positions <= limits.max_positions
        )

    def add(self, number: int, text: TokenIds, *, is_cut: bool) -> None:
        self.numbers.append(number)
        self.texts.append(text)
        self.is_cut |= is_cut

    def prompt(self, document: Document) -> Prompt:
        return Prompt(
            document,
            self.before,
            (),
            shared_prefix_tokens=0,
            shots=document.shots,
            truncated=self.is_cut,
            continuations=tuple(self.texts),
            texts=tuple(self.numbers),
        )


def _own(
    document: Document, number: int, before: TokenIds, text: TokenIds, *, truncated: bool, with_top: bool
) -> Prompt:
    """Return a prompt whose own last tokens are the text, but for its last one, which is a candidate."""
    return Prompt(
        document,
        [*before, *text[:-1]],
        (text[-1],),
        shared_prefix_tokens=0,
        shots=document.shots,
        truncated=truncated,
        own_tokens=len(text) - 1,
        top_tokens=int(with_top),
        texts=(number,),
    )


def _largest_id(prompt: Prompt) -> int:
    parts = (prompt.token_ids, prompt.candidate_ids, *prompt.continuations)
    return max(max(part, default=0) for part in parts)


def _check_text(context: TokenIds, text: TokenIds, max_length: int) -> None:
    """Check that a text can be scored behind its context.

    Raises:
        _UnaskableError: lm-eval's `hf` would end with an assertion.
    """
    if not context or not text:
        raise _UnaskableError(f"a {'choice' if context else 'context'} has no tokens")
    if len(text) > max_length:
        raise _UnaskableError(f"a choice has {len(text)} tokens: the limit is {max_length}")
