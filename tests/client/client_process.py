"""mmlu-client as a real process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from trt_common.installed_program import program

SECONDS = 60.0

# Children of a process that has imported what a run needs already: half a second less for each.
_warm = multiprocessing.get_context("forkserver")
_warm.set_forkserver_preload(["mmlu_client.run.run"])


class ClientProcess:
    """A run of mmlu-client's own main in a process of its own."""

    def __init__(self, *arguments: str | Path, file_size: int | None = None) -> None:
        """file_size: the most bytes that it may write into one file."""
        self._folder = tempfile.TemporaryDirectory(prefix="mmlu-client-test-")
        self._out, self._err = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        self._arguments = [str(argument) for argument in arguments]
        # Daemon: it does not outlive the tests.
        self._process = _warm.Process(
            target=_main, args=(self._arguments, self._out, self._err, file_size), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def allow_file_size(self, most: int) -> None:
        """The most bytes that it may write into one file from now on: a disk that has room again."""
        assert self._process.pid is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most, hard))

    def said(self) -> str:
        """What it has said so far."""
        return self._err.read_text() if self._err.exists() else ""

    def wait_for(self, words: str) -> None:
        """Return when it has said these words."""
        deadline = time.monotonic() + SECONDS
        while words not in self.said():
            assert self._process.is_alive(), f"it ended without {words!r}"
            assert time.monotonic() < deadline, f"it never said {words!r}"
            self._process.join(0.05)

    def join(self) -> None:
        """Wait for its end, however it came."""
        self._process.join(SECONDS)
        assert self._process.exitcode is not None, "mmlu-client did not end"

    def finish(self) -> subprocess.CompletedProcess[str]:
        self._process.join(SECONDS)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
        # One that is killed at once has not made them.
        out, err = (path.read_text() if path.exists() else "" for path in (self._out, self._err))
        self._folder.cleanup()
        assert status is not None, f"mmlu-client did not end:\n{out}{err}"
        return subprocess.CompletedProcess(self._arguments, status, out, err)


def _main(arguments: list[str], out: Path, err: Path, file_size: int | None) -> None:
    from mmlu_client.cli import main

    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    if file_size is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, hard))
    main(arguments)


def client(*arguments: str | Path, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run mmlu-client to its end."""
    return ClientProcess(*arguments, file_size=file_size).finish()


def command(
    *arguments: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed mmlu-client to its end. folder: the working directory."""
    return subprocess.run(
        [program("mmlu-client"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=False,
    )


def the_error(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what went wrong; fails where there are two, or a traceback."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("mmlu-client: error: ")]
    others = [line for line in result.stderr.splitlines() if not line.startswith("mmlu-client: ")]
    assert len(errors) == 1, result.stderr
    assert not others, result.stderr
    return errors[0].removeprefix("mmlu-client: error: ")
