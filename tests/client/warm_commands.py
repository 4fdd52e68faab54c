"""Commands of mmlu-client on lm-eval's tasks, forked from a process that has imported lm-eval already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


class WarmCommands:
    """Runs mmlu-client's own main in a process of its own for each command: two seconds less for each."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: further variables, the same for all commands."""
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = list(map(str, arguments))
        with tempfile.TemporaryDirectory(prefix="mmlu-client-test-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            print(json.dumps([words, str(out), str(err)]), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    import mmlu_client.pages.run_page
    import mmlu_client.run.run  # noqa: F401
    from mmlu_client.tasks.installed import lm_eval_module

    lm_eval_module("harness", "a test")
    for line in sys.stdin:
        arguments, out, err = json.loads(line)
        child = os.fork()
        if not child:
            _run(arguments, out, err)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], out: str, err: str) -> None:
    from mmlu_client.cli import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    status: object = 0
    try:
        main(arguments)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    _serve()
