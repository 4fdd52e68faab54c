"""How long a prompt may be, and whose limit that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmlu_client.errors import InputError
from mmlu_client.prompts.format import PromptFormat

MODEL: Literal["model"] = "model"
# What `--max-prompt-tokens` takes; None: what the format says.
Asked = int | Literal["model"] | None


@dataclass(frozen=True)
class PromptLimit:
    """tokens: of the longest prompt, BOS included. source: whose limit it is, in words."""

    tokens: int
    source: str


def prompt_limit(style: PromptFormat, asked: Asked, server_tokens: int) -> PromptLimit:
    """server_tokens: of the longest prompt that every server takes. Raises InputError for more than it."""
    if isinstance(asked, int) and asked > server_tokens:
        raise InputError(
            f"--max-prompt-tokens {asked} is more than the {server_tokens} that the server takes: ask for "
            f"fewer, or for `{MODEL}`, or start trt-server with a larger --max-prompt-tokens"
        )
    if isinstance(asked, int):
        return PromptLimit(asked, "--max-prompt-tokens")
    own = style.max_tokens if asked is None else None
    if own is not None and own <= server_tokens:
        return PromptLimit(own, f"{style.name}'s own program")
    return PromptLimit(server_tokens, "the server")
