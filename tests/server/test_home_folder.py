"""What a server leaves where it runs, and takes from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ServerProcess


def test_nothing_is_written_into_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's telemetry would keep its identifier there, but for where CI is set."""
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with ServerProcess("--model", "demo", environment={"HOME": str(tmp_path)}) as server:
        server.wait_until_serving()
        assert server.stop() == 0
    assert not list(tmp_path.iterdir())
