"""A share of this machine that makes cells' runs: one server at a time, and its cells one after the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from trt_common.one_line import one_line, printable

from mmlu_client.campaign.cell import Cell, ServerSetting
from mmlu_client.campaign.folder import CLIENT_LOG
from mmlu_client.campaign.local.child import end_child, program, start_child
from mmlu_client.campaign.local.server import ServerLostError, StartedServer
from mmlu_client.campaign.local.share import Share
from mmlu_client.campaign.tail import Tail
from mmlu_client.campaign.worker import Ending, Watch
from mmlu_client.rundir.folder import RECORDS, holds_answers

POLL_SECONDS = 0.1
# How long a client that is told to end may take to write the figures of what it has.
STOP_SECONDS = 60.0


class LocalWorker:
    """A worker in this process's own machine. Each of its calls has to come from the same thread.

    Attributes:
        where: the share's name.
    """

    def __init__(self, share: Share, server_log: Callable[[ServerSetting], Path]) -> None:
        """Prepare to start servers.

        Args:
            share: of the machine.
            server_log: the file that holds what a server says.
        """
        self.where = share.name
        self._share = share
        self._server_log = server_log
        self._server: StartedServer | None = None

    def measure(self, cell: Cell, folder: Path, watch: Watch, is_stopped: Callable[[], bool]) -> Ending:
        """Make the run of a cell, or go on with it. See `Worker`."""
        watch.begins(self.where)
        try:
            address = cell.setting.url or self._serve(cell.setting, is_stopped)
        except ServerLostError as error:
            return Ending(None, str(error), is_server_lost=True)
        if is_stopped():
            return Ending(None, "stopped")
        return self._run(cell, address, folder, watch, is_stopped)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _serve(self, setting: ServerSetting, is_stopped: Callable[[], bool]) -> str:
        """Return the address of the server of this setting, which is started where another one runs.

        Raises:
            ServerLostError: it does not start.
        """
        held = self._server
        if held is None or held.setting != setting or held.has_ended:
            self.close()
            held = self._server = StartedServer(
                setting, self._share.cut(setting.resources.cpus), self._server_log(setting)
            )
            held.wait_until_serving(is_stopped)
        return held.address

    def _run(
        self, cell: Cell, address: str, folder: Path, watch: Watch, is_stopped: Callable[[], bool]
    ) -> Ending:
        log = folder / CLIENT_LOG
        said = log.stat().st_size if log.exists() else 0
        try:
            share = self._share.cut(cell.setting.resources.cpus)
            client = start_child(_command(cell, address, folder), share, log)
        except OSError as error:
            return Ending(None, f"cannot start mmlu-client: {error.strerror}: {error.filename}")
        records, answered = Tail(folder / RECORDS), 0
        while client.poll() is None:
            answered += len(records.new_lines())
            watch.answered(answered)
            if is_stopped():
                end_child(client, STOP_SECONDS)
                return Ending(client.returncode, "stopped")
            if cell.setting.is_started and self._server is not None and self._server.has_ended:
                end_child(client, STOP_SECONDS)
                return Ending(client.returncode, self._server.why_it_ended())
            time.sleep(POLL_SECONDS)
        watch.answered(answered + len(records.new_lines()))
        return Ending(client.returncode, _error(client.returncode, log, said))


def _command(cell: Cell, address: str, folder: Path) -> list[str]:
    words = [program("mmlu-client"), "run", f"--url={address}"]
    if holds_answers(folder):
        # Its flags again: where they name files, these may lie elsewhere now.
        return [*words, f"--resume={folder}", *cell.words]
    labels = [f"--label={coordinate}={name}" for coordinate, name in cell.coordinates.items()]
    return [*words, f"--output={folder}", *labels, *cell.words]


def _error(status: int, log: Path, said: int) -> str | None:
    """Return what a client says is wrong, or how it was ended; None where it ended well."""
    if status == 0:
        return None
    if status < 0:
        return f"mmlu-client was ended by {signal.Signals(-status).name}"
    with log.open("rb") as stream:
        stream.seek(said)
        lines = stream.read().decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if line.startswith("mmlu-client: error: ")]
    last = errors[-1].removeprefix("mmlu-client: error: ") if errors else (lines or [""])[-1]
    return printable(one_line(last)) or f"mmlu-client ended with status {status}"
