"""Sizes in the form that people read."""

from __future__ import annotations


def readable_bytes(size: float) -> str:
    """Return a size in the largest binary unit that it fills, with four digits: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def megabytes(size: float) -> str:
    """Return the size of a file or of scratch memory in 10^6 bytes: 1,512.3 MB."""
    return f"{size / 1e6:,.1f} MB"
