"""The error of a checkpoint's tokenizer."""

from __future__ import annotations


class TokenizerError(Exception):
    """The files of a tokenizer cannot be used, or not for this text. The message is one line."""
