"""A trt-server that was started for cells."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trt_common.one_line import one_line

from mmlu_client.campaign.cell import ServerSetting
from mmlu_client.campaign.local.child import end_child, program, start_child
from mmlu_client.campaign.local.share import Share
from mmlu_client.campaign.tail import Tail

POLL_SECONDS = 0.05
# Seconds that accepted work may take at a stop, of which there is none; and those of a server that hangs.
STOP_SECONDS = 30.0
FREE_PORTS = ("--grpc-port", "0", "--metrics-port", "0", "--log-format", "json")


class ServerLostError(Exception):
    """A server does not start, or has ended; the message says what it said last."""


class StartedServer:
    """A trt-server on free ports, which ends with the process that started it.

    Attributes:
        setting: what it was started with.
        address: as `mmlu-client --url` takes it; empty until it serves.
    """

    def __init__(self, setting: ServerSetting, share: Share, log: Path) -> None:
        """Start it.

        Args:
            setting: what it holds, and how.
            share: of the machine.
            log: what it says is added to this file, as JSON.

        Raises:
            ServerLostError: its log cannot be written.
        """
        self.setting = setting
        self.address = ""
        self._log = log
        try:
            self._tail = Tail(log, log.stat().st_size if log.exists() else 0)
            command = [program("trt-server"), "serve", *FREE_PORTS, *setting.words]
            self._process: subprocess.Popen[bytes] = start_child(command, share, log)
        except OSError as error:
            raise ServerLostError(f"cannot start trt-server: {error.strerror}: {error.filename}") from None

    def wait_until_serving(self, is_stopped: Callable[[], bool]) -> None:
        """Return when it serves, or when nobody waits any more.

        Args:
            is_stopped: whether nobody waits any more.

        Raises:
            ServerLostError: it ends instead.
        """
        while not is_stopped():
            is_over = self._process.poll() is not None
            for record in map(_record, self._tail.new_lines()):
                if record.get("event") == "serving":
                    self.address = f"127.0.0.1:{record['grpc_port']}"
                    return
            if is_over:
                raise ServerLostError(self.why_it_ended())
            time.sleep(POLL_SECONDS)

    @property
    def has_ended(self) -> bool:
        """Whether its process is over."""
        return self._process.poll() is not None

    def why_it_ended(self) -> str:
        """Say in one line how it ended, and what it said last."""
        said = self._last_words()
        return f"trt-server ended with status {self._process.poll()}" + (f": {said}" if said else "")

    def stop(self) -> None:
        """End it: it has nothing left to answer."""
        end_child(self._process, STOP_SECONDS)

    def _last_words(self) -> str:
        """Return the message of the last line, or the error line of a start that was refused."""
        try:
            lines = self._log.read_bytes().splitlines()
        except OSError:
            return ""
        messages = [_record(line).get("message", "") for line in lines[-20:]]
        return one_line(next((text for text in reversed(messages) if text), "")).removeprefix(
            "trt-server: error: "
        )


def _record(line: bytes) -> dict[str, Any]:
    """Return a line of the log; one that is no JSON is a message."""
    text = line.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": text}
