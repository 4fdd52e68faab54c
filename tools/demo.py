"""The demonstration: starts a server with the bundled model, runs the client, and stops the server."""

from __future__ import annotations

import subprocess
import sys

from trt_common.command_line.streams import take_any_text
from trt_common.installed_program import program

from tools.server_process import ServerProcess


def main() -> int:
    """Return the client's exit status."""
    take_any_text()
    with ServerProcess("--model", "demo") as server:
        client = [program("mmlu-client"), "--bs", "1", "--url", server.address, *sys.argv[1:]]
        return subprocess.call(client)


if __name__ == "__main__":
    sys.exit(main())
