"""vLLM's endpoints of the tokenizer: texts ⇄ token ids, and the tokenizer's settings."""

from __future__ import annotations

from typing import Any

import msgspec

from trt_server.http.body import convert
from trt_server.http.completions_request import TokenIds
from trt_server.http.errors import RequestError
from trt_server.loading.served_model import Limits
from trt_server.loading.tokenizer import CheckpointTokenizer

# Of a text that is tokenized, where the longest that can be scored is shorter; it takes a second or so.
MAX_TEXT_BYTES = 1024 * 1024
# Of a row of token ids that becomes text.
MAX_TOKENS = 256 * 1024


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text whose token ids are asked for.

    Attributes:
        prompt: The text.
        model: Has to be the served one, where it is given.
        add_special_tokens: Whether a BOS comes first where the tokenizer's files ask for it.
        return_token_strs: Whether the text of each token is told too.
    """

    prompt: str
    model: str | None = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = False


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token ids whose text is asked for.

    Attributes:
        tokens: The ids.
        model: Has to be the served one, where it is given.
    """

    tokens: TokenIds
    model: str | None = None


def tokenize_request(fields: dict[str, Any]) -> TokenizeRequest:
    """Return what a body of /tokenize asks for.

    Raises:
        RequestError: A field is missing, unknown or of a wrong type.
    """
    if "messages" in fields:
        raise RequestError("the server tokenizes no chats: send the text as prompt", "messages")
    return convert(fields, TokenizeRequest)


def tokenized(request: TokenizeRequest, tokenizer: CheckpointTokenizer, limits: Limits) -> dict[str, Any]:
    """Return the reply of /tokenize.

    Args:
        request: What is asked for.
        tokenizer: The checkpoint's.
        limits: The server's.

    Raises:
        RequestError: The text is too long.
        NoTokenizerError: The model has no tokenizer.
        InvalidRequestError: The tokenizer does not take this text.
    """
    # Longer texts than may be scored: their callers cut them into parts by the tokens.
    size, limit = len(request.prompt.encode()), max(limits.max_text_bytes, MAX_TEXT_BYTES)
    if size > limit:
        raise RequestError(
            f"prompt is a text of {size} bytes, the limit is {limit}: send a part of it", "prompt"
        )
    special = tokenizer.special_token(request.prompt)
    if special is not None and not request.add_special_tokens:
        ids = [special]
    else:
        ids = tokenizer.encode(request.prompt, special=request.add_special_tokens).tolist()
    texts = [tokenizer.decoder.text([token_id]) for token_id in ids] if request.return_token_strs else None
    return {"count": len(ids), "max_model_len": limits.max_prompt_tokens, "tokens": ids, "token_strs": texts}


def detokenized(request: DetokenizeRequest, tokenizer: CheckpointTokenizer) -> dict[str, Any]:
    """Return the reply of /detokenize.

    Raises:
        RequestError: There are too many.
        NoTokenizerError: The model has no tokenizer.
    """
    if (count := len(request.tokens)) > MAX_TOKENS:
        raise RequestError(
            f"tokens has {count} ids, the limit is {MAX_TOKENS}: send a part of them", "tokens"
        )
    return {"prompt": tokenizer.decoder.text(request.tokens)}
