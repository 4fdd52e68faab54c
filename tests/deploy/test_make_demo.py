"""`make demo` as somebody types it first: in a fresh copy, with a virtual environment that it has to make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import ROOT
from test_image_installs import ASKED, INSTALLS


@pytest.mark.timeout(900)
def test_a_first_demonstration_shows_the_table_and_no_warning(tmp_path: Path) -> None:
    if not ASKED:
        pytest.skip(f"takes a minute and the network: set {INSTALLS}=cpu")
    for name in tracked_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    done = subprocess.run(
        ["make", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=840
    )
    assert done.returncode == 0, done.stderr
    assert "\n| onnxruntime " in done.stdout
    # What pip passes on of the build.
    assert "Warning" not in done.stderr


def tracked_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]
