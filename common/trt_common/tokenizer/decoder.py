"""Token ids → texts: of a row of tokens, and of each of its tokens by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from trt_common.tokenizer.model import VocabularyModel

# What bytes that are no whole character are shown as.
INCOMPLETE = "\ufffd"
# No character has so many tokens: these never become one.
MAX_OPEN_TOKENS = 8
# Behind another text a token keeps its leading blank.
ANCHOR = "a"
CACHED_TOKENS = 2**18


@dataclass(frozen=True)
class Place:
    """A place in a row of tokens, as far as the text of the next token depends on it.

    Attributes:
        is_start: Whether no token comes before it.
        open: The tokens right before it that end within a character.
        told: What of their text belongs to one of them already.
    """

    is_start: bool = False
    open: tuple[int, ...] = ()
    told: str = ""


START, BETWEEN = Place(is_start=True), Place()


@dataclass(frozen=True)
class TokenTexts:
    """The text of each token of a row.

    Attributes:
        texts: One for each token; one after the other they are the row's text.
        places: The place before each token, and the one after the last.
    """

    texts: list[str]
    places: list[Place]

    @property
    def text(self) -> str:
        """The text of the row."""
        return "".join(self.texts)


class TokenDecoder:
    """Turns token ids of one vocabulary into texts. Several threads may use it at once."""

    def __init__(self, model: VocabularyModel) -> None:
        self._model = model
        self._anchor = tuple(model.encode([ANCHOR])[0])
        self._anchor_text = model.decode(self._anchor)
        self._alone = lru_cache(CACHED_TOKENS)(self._alone_uncached)

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of special tokens."""
        return self._model.special_ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a row of tokens, special tokens included."""
        return self._model.decode(ids)

    def texts(self, ids: Sequence[int]) -> TokenTexts:
        """Return the text of each token of a row.

        A character of several tokens is the text of the last of them. Bytes that never become a character are
        U+FFFD, in the text of the last token that has some of them.
        """
        texts: list[str] = []
        places = [START]
        for token_id in ids:
            place = places[-1]
            if place.open and not self._goes_on(token_id):
                texts[-1] += self._left(place)
            text, after = self._step(place, token_id)
            texts.append(text)
            places.append(after)
        if places[-1].open:
            texts[-1] += self._left(places[-1])
        return TokenTexts(texts, places)

    def next_text(self, place: Place, token_id: int) -> str:
        """Return the text that a token adds in a place; empty where it only begins a character."""
        return self._step(place, token_id)[0]

    def _step(self, place: Place, token_id: int) -> tuple[str, Place]:
        """Return the text that a token adds, and the place after it."""
        before, told = (place.open, place.told) if self._goes_on(token_id) else ((), "")
        ids = (*before, token_id)
        if before:
            whole = self._behind_anchor(ids)
        else:
            whole = self._model.decode(ids) if place.is_start else self._alone(token_id)
        if not whole.endswith(INCOMPLETE) or len(ids) > MAX_OPEN_TOKENS:
            return whole[len(told) :], BETWEEN
        known = whole.rstrip(INCOMPLETE)
        return known[len(told) :], Place(open=ids, told=known)

    def _goes_on(self, token_id: int) -> bool:
        """Whether a token may begin within a character."""
        return self._alone(token_id).startswith(INCOMPLETE)

    def _left(self, place: Place) -> str:
        return self._behind_anchor(place.open)[len(place.told) :]

    def _alone_uncached(self, token_id: int) -> str:
        return self._behind_anchor((token_id,))

    def _behind_anchor(self, ids: tuple[int, ...]) -> str:
        text = self._model.decode((*self._anchor, *ids))
        if not text.startswith(self._anchor_text):
            return self._model.decode(ids)
        return text[len(self._anchor_text) :]
