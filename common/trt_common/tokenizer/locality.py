"""Whether the ids at the end of a text are those of that end by itself.

In general they are not. Where all of this holds, and the ids of the end by itself are the last ones of the
whole text's, the ids of the whole text with anything behind it are those before the end, and then those of
the end with the same behind it, as long as the end's own ids are in both.

- The model is BPE. Ids are BPE's encoding of a text if and only if every two neighbours among them are the
  encoding of their own text: the order of two merges depends only on their ranks and places. Each pair of
  neighbours is then in one of two encodings that were made as one. (Unigram chooses over a whole word at
  once.)
- Words are split by what is in them and next to them. Counting from the beginning of the text is not that.
- No text is taken whole because it is a token, and no added token is as long as the end.
"""

from __future__ import annotations

import json
from typing import Any

# Splitters that look at the characters of a text, and not at their place in it.
LOCAL_SPLITTERS = frozenset(
    {
        "BertPreTokenizer",
        "ByteLevel",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Split",
        "Whitespace",
        "WhitespaceSplit",
    }
)


def is_local(library: Any | None, least_characters: int) -> bool:
    """Return whether an end of a text that has so many characters or more can be encoded by itself.

    Args:
        library: The `tokenizers.Tokenizer`; None where another library reads the vocabulary.
        least_characters: Of the end.
    """
    if library is None:
        return False
    from tokenizers import models

    model, splitter = library.model, library.pre_tokenizer
    if not isinstance(model, models.BPE) or (model.ignore_merges and splitter is None):
        return False
    if splitter is not None and not _splitters(json.loads(splitter.__getstate__())) <= LOCAL_SPLITTERS:
        return False
    added = library.get_added_tokens_decoder().values()
    return all(len(token.content) < least_characters for token in added)


def _splitters(description: dict[str, Any]) -> set[str]:
    """Return the kinds of a splitter, or of those that it is a sequence of."""
    if description["type"] == "Sequence":
        return {kind for each in description["pretokenizers"] for kind in _splitters(each)}
    return {description["type"]}
