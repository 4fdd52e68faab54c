"""The error of a model's config.json."""

from __future__ import annotations


class ConfigError(Exception):
    """A config.json is not supported, or does not fit together. The message is one line."""
