"""The folder of a worker on its machine, which is removed even where the worker is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trt_common.locked_file import locked, open_locked

PREFIX, LOCK = "mmlu-client-worker-", "lock"


@contextlib.contextmanager
def node_folder() -> Iterator[Path]:
    """Make a folder of one's own, and remove those whose process has been killed.

    Raises:
        OSError: it cannot be made.
    """
    _remove_abandoned()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Another process may have taken it for an abandoned one before it was locked.
        with contextlib.suppress(FileNotFoundError):
            if (descriptor := open_locked(folder / LOCK)) is not None:
                break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                with locked(folder / LOCK) as is_abandoned:
                    if is_abandoned:
                        shutil.rmtree(folder, ignore_errors=True)
