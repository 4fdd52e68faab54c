"""vLLM's server on the CPU, in a child process, for the benchmarks that ask it too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VLLM_SECONDS = 600
STOP_SECONDS = 60.0
# What it calls the model.
MODEL = "model"


def prefix_caching(is_on: bool) -> tuple[str, ...]:
    """Return the flag that switches the reuse of prompts' beginnings on or off."""
    return ("--enable-prefix-caching" if is_on else "--no-enable-prefix-caching",)


@contextmanager
def vllm_server(environment: Path, checkpoint: Path, threads: int, *flags: str) -> Iterator[str]:
    """Run vLLM's server.

    Args:
        environment: A virtual environment that has vLLM's CPU backend.
        checkpoint: The folder of the model.
        threads: So many of this process's cores are its.
        flags: Further ones of `vllm serve`.

    Yields:
        Its address.

    Raises:
        SystemExit: It does not start; the message has the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(environment / "bin" / "vllm"), "serve", str(checkpoint), "--served-model-name", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    cores = sorted(os.sched_getaffinity(0))[:threads]
    variables = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
    }
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        except TimeoutError:
            log.seek(0)
            sys.exit(f"vLLM does not start: {log.read()[-2000:]}")
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Raise TimeoutError where it does not answer in time, or ends."""
    deadline = time.monotonic() + VLLM_SECONDS
    while not _answers(address):
        if time.monotonic() > deadline or process.poll() is not None:
            raise TimeoutError(address)
        time.sleep(1)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
