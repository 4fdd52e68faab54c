"""Standard streams that are closed, full or read by nobody, and Ctrl-C as a program begins."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mmlu import write_benchmark
from processes import ServerProcess, run_program
from run_files import summary
from trt_common.installed_program import program

SECONDS = 120
CLOSED: dict[str, Collection[int]] = {
    "input": (0,),
    "output": (1,),
    "error": (2,),
    "output and error": (1, 2),
    "all": (0, 1, 2),
}


def without(descriptors: Collection[int], *command: str) -> subprocess.Popen[bytes]:
    """Start a program without some of the standard descriptors; the others are the null device."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return subprocess.Popen(command, preexec_fn=close, **streams)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
def test_a_server_whose_streams_are_closed_serves_and_drains(
    llama_folder: Path, closed: Collection[int]
) -> None:
    port = free_port()
    arguments = ("--grpc-port", str(port), "--metrics-port", "0", "--http-port", "0", "--log-level", "debug")
    running = without(closed, program("trt-server"), "--model", str(llama_folder), *arguments)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True)
            serving = health_pb2.HealthCheckResponse.SERVING
            assert next(reply for reply in watched if reply.status == serving)
            if sys.platform == "linux":
                # None of them became a socket.
                links = [str(Path(f"/proc/{running.pid}/fd/{number}").readlink()) for number in range(3)]
                assert links == [os.devnull] * 3
        running.send_signal(signal.SIGTERM)
        assert running.wait(SECONDS) == 0
    finally:
        running.kill()


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
def test_a_client_whose_streams_are_closed_measures(
    server: ServerProcess, tmp_path: Path, closed: Collection[int]
) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 1}), tmp_path / "run"
    arguments = ("--url", server.url, "--data", str(data), "--output", str(output))
    assert without(closed, program("mmlu-client"), *arguments).wait(SECONDS) == 0
    assert summary(output)["answered"] == 1


@pytest.mark.parametrize("name", ["trt-server", "mmlu-client"])
def test_a_wrong_argument_keeps_its_status_where_nothing_can_be_said(name: str) -> None:
    assert without((2,), program(name), "--nonsense").wait(SECONDS) == 2
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([program(name), "--nonsense"], stderr=full, check=False).returncode == 2


PRINTING = [
    ("trt-server", "--help"),
    ("trt-server", "check", "--help"),
    ("trt-server", "cache", "remove", "--help"),
    ("trt-server", "--version"),
    ("trt-server", "check", "--model", "demo"),
    ("trt-server", "cache"),
    ("trt-server", "cache", "remove", "--all"),
    ("mmlu-client", "--help"),
    ("mmlu-client", "report", "--help"),
    ("mmlu-client", "--version"),
]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_what_cannot_be_printed_is_an_error(tmp_path: Path, words: tuple[str, ...], unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "TRT_SERVER_CACHE": str(tmp_path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [program(words[0]), *words[1:]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(words[0])
    assert done.stderr.endswith(": error: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("name", ["trt-server", "mmlu-client"])
def test_a_help_that_nobody_reads_to_its_end_is_no_error_that_is_told(name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [program(name), "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=SECONDS, check=False
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def interrupted_in(folder: Path, module: str) -> dict[str, Any]:
    """What makes SIGINT arrive while a module is imported, which makes an error of its own of that."""
    (folder / f"{module}.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    if MODULE: raise ImportError('this library cannot be imported') from None\n"
        "    raise\n".replace("MODULE", str(module == "configargparse"))
    )
    return {
        "env": {**os.environ, "PYTHONPATH": str(folder)},
        # A shell has what it starts in the background ignore it.
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    }


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("trt-server",), "configargparse"),
        (("mmlu-client",), "configargparse"),
        (("trt-server", "check"), "cryptography"),
        (("trt-server", "serve"), "cryptography"),
        (("trt-server", "build"), "cryptography"),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_silent(
    tmp_path: Path, words: tuple[str, ...], module: str
) -> None:
    done = run_program(*words, **interrupted_in(tmp_path, module))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
