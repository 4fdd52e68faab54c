"""Fixtures that several of the server's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, for what runs in this process and what it starts."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRT_SERVER_CACHE", str(folder))
    return folder
