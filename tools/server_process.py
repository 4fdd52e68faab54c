"""A trt-server in a child process on free ports, for the demonstration and the benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
import threading
from collections.abc import Mapping
from types import TracebackType

from trt_common.installed_program import program

STOP_SECONDS = 60.0


class ServerProcess:
    """A server that runs inside a `with` block.

    Raises:
        SystemExit: The server does not start; its own messages were printed before.
    """

    def __init__(
        self, *arguments: str, core: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the server with these arguments.

        Args:
            arguments: The arguments of trt-server.
            core: The only core that it may run on; None: any.
            environment: Further variables.
        """
        command = [program("trt-server"), "--grpc-port", "0", "--metrics-port", "0", "--log-format", "json"]
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        self.process = subprocess.Popen(
            [*pinned, *command, *arguments],
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
        )
        self.address = ""

    def __enter__(self) -> ServerProcess:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            record = json.loads(line) if line.startswith("{") else {"message": line.rstrip()}
            print(_wrapped(f"trt-server: {record['message']}"), flush=True)
            if record.get("event") == "serving":
                self.address = f"127.0.0.1:{record['grpc_port']}"
                threading.Thread(target=self._pass_on, daemon=True).start()
                return self
        raise SystemExit(self.process.wait() or 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _pass_on(self) -> None:
        """Read the pipe, so that the server does not block on it."""
        assert self.process.stderr is not None
        for _ in self.process.stderr:
            pass


def _wrapped(text: str) -> str:
    """Wrap a text to the width of this terminal, between words only."""
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
