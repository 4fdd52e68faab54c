"""The whole path on the bundled model: start a server, run the client to its table, stop the server."""

from __future__ import annotations

import subprocess
import sys

from trt_common.command_line.streams import take_any_text

from tools.server_process import ServerProcess, program


def main() -> int:
    take_any_text()
    with ServerProcess("--model", "demo") as server:
        client = [program("mmlu-client"), "--bs", "1", "--url", server.address, *sys.argv[1:]]
        return subprocess.call(client)


if __name__ == "__main__":
    sys.exit(main())
