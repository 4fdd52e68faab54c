"""What is wrong with a checkpoint's tokenizer."""

from __future__ import annotations


class TokenizerError(Exception):
    """Its files cannot be used, or not on this text. The text is one line."""
