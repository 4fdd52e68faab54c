"""A program that does not outlive the campaign that started it, even one that is killed.

This module is also the process that becomes the program:
`python -m mmlu_client.campaign.local.child PARENT CORES WORDS…`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trt_common.private_file import open_private

from mmlu_client.campaign.local.gpus import VISIBLE
from mmlu_client.campaign.local.share import Share

# prctl's PR_SET_PDEATHSIG: the signal that a process gets when the thread that started it ends. It is kept
# where another program is executed in the process's place.
PARENT_DEATH_SIGNAL = 1
# Flags come from the campaign's file alone.
VARIABLES = ("MMLU_CLIENT_", "TRT_SERVER_")
KEPT = ("TRT_SERVER_CACHE",)
ANY_CORE = "any"


def start_child(command: Sequence[str], share: Share, log: Path) -> subprocess.Popen[bytes]:
    """Start a program whose output is added to a log file.

    It is killed when the calling thread ends, on Linux.

    Args:
        command: the program's path and its arguments.
        share: the cores and GPUs that it may use.
        log: its file.

    Raises:
        OSError: the log cannot be opened.
    """
    cores = ANY_CORE if share.cores is None else ",".join(map(str, share.cores))
    words = [sys.executable, "-m", __name__, str(os.getpid()), cores, *command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab", opener=open_private) as output:
        # In a session of its own: Ctrl-C is the campaign's, which ends it in order.
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(share),
            start_new_session=True,
        )


def end_child(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Let a program end in order, and kill it where it does not.

    Args:
        process: the program's.
        seconds: how long it may take.
    """
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def program(name: str) -> str:
    """Return the path of a program of this installation."""
    return str(Path(sys.executable).parent / name)


def foreign_variables() -> list[str]:
    """Return the variables of the environment that would set flags, and that cells do not get."""
    return sorted(name for name in os.environ if name.startswith(VARIABLES) and name not in KEPT)


def own_environment() -> dict[str, str]:
    """Return the environment without the variables that would set flags."""
    foreign = set(foreign_variables())
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _environment(share: Share) -> Mapping[str, str]:
    kept = own_environment()
    return kept if share.gpus is None else {**kept, VISIBLE: ",".join(share.gpus)}


def main() -> None:
    """Tie this process to its parent, and become the program."""
    parent, cores, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if cores != ANY_CORE:
            os.sched_setaffinity(0, map(int, cores.split(",")))
    if os.getppid() != int(parent):
        # It ended before it was tied to.
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
