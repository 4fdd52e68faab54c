"""The cache is its owner's alone, and nobody's link is followed in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from processes import run_program
from trt_server.cache.cache_file import CacheFile


def build(cache: Path) -> tuple[int, str]:
    environment = {**os.environ, "TRT_SERVER_CACHE": str(cache)}
    done = run_program("trt-server", "build", "--model", "dummy:tiny", env=environment, umask=0)
    return done.returncode, done.stderr


def test_only_the_owner_may_enter(cache: Path) -> None:
    assert build(cache)[0] == 0
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    assert len(folders) >= 3
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


@pytest.mark.parametrize("what", ["lock", "about.json"])
def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, cache: Path, what: str) -> None:
    """Someone who may write into the cache would have the server empty a file of its owner's."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    assert build(cache)[0] == 0
    (folder,) = [path for path in (cache / "dummy").iterdir() if path.is_dir()]
    link = folder.with_name(f"{folder.name}.lock") if what == "lock" else folder / what
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    status, said = build(cache)
    assert status == 1
    assert "Traceback" not in said
    assert "cannot be written" in said
    assert str(link) in said
    assert victim.read_text() == "precious"


def test_a_file_is_replaced_and_not_what_it_points_to(tmp_path: Path, cache: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = CacheFile("timings", "x", suffix="timing")
    file.path.parent.mkdir(parents=True)
    file.path.symlink_to(victim)
    file.write(b"content")
    assert victim.read_text() == "precious"
    assert file.read() == b"content"
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]
    assert cache in file.path.parents
