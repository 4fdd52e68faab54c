"""Files that one process at a time has the lock on."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from trt_common.locked_file import locked, open_locked


def test_a_lock_is_had_once_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as is_mine, locked(path) as is_another:
        assert is_mine
        assert not is_another
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with locked(path) as is_mine:
        assert is_mine


def test_a_kept_lock_is_let_go_when_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = open_locked(path)
    assert descriptor is not None
    assert open_locked(path) is None
    os.close(descriptor)
    with locked(path) as is_mine:
        assert is_mine


def test_who_waits_for_a_file_that_is_removed_locks_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken, done = threading.Event(), threading.Event()

    def wait_and_hold() -> None:
        with locked(path, waits=True) as is_mine:
            assert is_mine
            taken.set()
            assert done.wait(60)

    with locked(path):
        waiter = threading.Thread(target=wait_and_hold)
        waiter.start()
        path.unlink()
    try:
        assert taken.wait(60)
        with locked(path) as is_mine:
            assert not is_mine
    finally:
        done.set()
        waiter.join()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_locked(tmp_path / "gone" / "lock")
