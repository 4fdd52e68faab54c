"""The limit on a prompt's length, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmlu_client.errors import InputError
from mmlu_client.prompts.format import PromptFormat

MODEL: Literal["model"] = "model"
# The values of `--max-prompt-tokens`; None: the format's own limit.
RequestedLimit = int | Literal["model"] | None


@dataclass(frozen=True)
class PromptLimit:
    """The limit on a prompt's length.

    Attributes:
        tokens: The tokens of the longest prompt, BOS included.
        source: Whose limit it is, in words.
    """

    tokens: int
    source: str


def prompt_limit(style: PromptFormat | None, requested: RequestedLimit, server_tokens: int) -> PromptLimit:
    """Return the limit on a run's prompts.

    Args:
        style: The format; None for prompts that are not of this program's formats.
        requested: The value of --max-prompt-tokens.
        server_tokens: The longest prompt that every server accepts.

    Raises:
        InputError: The requested limit is larger than server_tokens.
    """
    if isinstance(requested, int) and requested > server_tokens:
        raise InputError(
            f"--max-prompt-tokens {requested} is more than the {server_tokens} that the server takes: ask "
            f"for fewer, or for `{MODEL}`, or start trt-server with a larger --max-prompt-tokens"
        )
    if isinstance(requested, int):
        return PromptLimit(requested, "--max-prompt-tokens")
    own = style.max_tokens if style is not None and requested is None else None
    if style is not None and own is not None and own <= server_tokens:
        return PromptLimit(own, f"{style.name}'s own program")
    return PromptLimit(server_tokens, "the server")
