"""A certificate and its private key, which are of use together alone."""

from __future__ import annotations

from pathlib import Path


def half_of_pair(certificate: Path | None, key: Path | None) -> str | None:
    """Return what is wrong where --tls-cert is given without --tls-key, or the other way round.

    Args:
        certificate: what --tls-cert names.
        key: what --tls-key names.

    Returns:
        None: both are given, or neither is.
    """
    if (certificate is None) == (key is None):
        return None
    return "--tls-cert and --tls-key belong together: give both or neither"
