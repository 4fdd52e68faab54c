"""Crowds at the server's ports: what is held, what is turned away, what is given up, and who is answered."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import ServerProcess
from raw_grpc import RawConnection
from trt_server.connections.limit import QUIET_SECONDS, ConnectionLimit

SECONDS = 60
# What a client of HTTP/2 begins with: the preface, and settings of which there are none.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
METRICS_LIMIT = 64


class Crowd:
    """Connections to one port, each of which says the same and then nothing."""

    def __init__(self, port: int, count: int, says: bytes = b"") -> None:
        self.connections = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(count)]
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sendall(says)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()

    def wait_for_the_end(self, count: int) -> None:
        """Return when so many are closed by the server, which the test's deadline bounds."""
        with selectors.DefaultSelector() as selector:
            for connection in self.connections:
                selector.register(connection, selectors.EVENT_READ, connection)
            while len(self.connections) - len(selector.get_map()) < count:
                for key, _ in selector.select():
                    if _is_closed(key.data):
                        selector.unregister(key.fileobj)

    @property
    def ended(self) -> int:
        return sum(map(_is_closed, self.connections))


def _is_closed(connection: socket.socket) -> bool:
    """Whether nothing more can come, after what has come so far."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def check_health(server: ServerProcess) -> None:
    """Ask until there is room for one more."""
    with server.channel() as channel:
        request = health_pb2.HealthCheckRequest()
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS, wait_for_ready=True)


def lines_of(server: ServerProcess, port: str) -> list[str]:
    return [line for line in server.lines if f"the {port} port holds" in line]


@pytest.fixture
def crowds() -> Iterator[None]:
    """Room for both ends of what the tests hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"needs 4096 file descriptors, and there are {hard}: ulimit -n 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("crowds")
def test_more_connections_than_descriptors_leave_the_other_ports_and_end(llama_folder: Path) -> None:
    """1,050 idle connections at each port of a process that may open 1,024 files."""
    arguments = ("--model", str(llama_folder), "--http-port", "0", "--idle-timeout", "15")
    with ServerProcess(*arguments, descriptors=1024) as server:
        server.wait_until_serving()
        threads = psutil.Process(server.process.pid).num_threads()
        with Crowd(server.ports["metrics_port"], 1050) as at_metrics:
            at_metrics.wait_for_the_end(1050 - METRICS_LIMIT)
            check_health(server)
            assert psutil.Process(server.process.pid).num_threads() <= threads + 8
            with Crowd(server.ports["http_port"], 1050) as at_http:
                at_http.wait_for_the_end(1)
                check_health(server)
        with Crowd(server.ports["grpc_port"], 1050, PREFACE) as at_grpc:
            at_grpc.wait_for_the_end(1)
            metrics = server.metrics()
            assert 0 < metrics["trt_server_connections_limit{grpc}"] < 400
            with urllib.request.urlopen(server.http + "/health", timeout=SECONDS) as health:
                assert health.status == 200
            # Those that were let in asked for nothing, and make room.
            check_health(server)
            at_grpc.wait_for_the_end(1050)
        assert server.stop() == 0
    assert len([line for line in server.lines if "this process may open 1024 files" in line]) == 1
    assert [len(lines_of(server, port)) for port in ("gRPC", "HTTP", "metrics")] == [1, 1, 1]


def test_the_limit_is_a_flag_and_is_told(llama_folder: Path) -> None:
    arguments = ("--model", str(llama_folder), "--http-port", "0", "--max-connections", "3")
    with ServerProcess(*arguments) as server:
        server.wait_until_serving()
        with (
            Crowd(server.ports["grpc_port"], 5, PREFACE) as at_grpc,
            Crowd(server.ports["http_port"], 5) as at_http,
        ):
            at_grpc.wait_for_the_end(2)
            at_http.wait_for_the_end(2)
            for _ in ("gRPC", "HTTP"):
                server.wait_for_event("port_full")
            metrics = server.metrics()
            assert (at_grpc.ended, at_http.ended) == (2, 2)
        for port, limit in (("grpc", 3), ("http", 3), ("metrics", METRICS_LIMIT)):
            assert metrics[f"trt_server_connections_limit{{{port}}}"] == limit
        held = {port: metrics[f"trt_server_connections{{{port}}}"] for port in ("grpc", "http", "metrics")}
        assert held == {"grpc": 3, "http": 3, "metrics": 1}
    for port in ("gRPC", "HTTP"):
        assert "--max-connections sets it" in lines_of(server, port)[0]


HALVES = {
    "nothing": b"",
    "half a head": b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n",
    "a request": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("says", HALVES.values(), ids=HALVES)
def test_an_idle_connection_is_closed(llama_folder: Path, says: bytes) -> None:
    arguments = ("--model", str(llama_folder), "--http-port", "0", "--idle-timeout", "0.5")
    with ServerProcess(*arguments) as server:
        server.wait_until_serving()
        with Crowd(server.ports["http_port"], 1, says) as crowd:
            crowd.wait_for_the_end(1)
        assert server.stop() == 0


def test_a_caller_who_answers_no_ping_is_left_with_its_open_stream(llama_folder: Path) -> None:
    """A stream is open on a connection whose network has lost it: it does not count as idle."""
    arguments = ("--model", str(llama_folder), "--keepalive-time", "0.5", "--keepalive-timeout", "0.5")
    with ServerProcess(*arguments) as server:
        server.wait_until_serving()
        with server.channel() as channel, RawConnection(server) as mute:
            others = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(others).status == health_pb2.HealthCheckResponse.SERVING
            mute.begin("/scoring.v1.Scoring/StreamScore")
            mute.until_closed()
            assert others.is_active()
        assert server.stop() == 0


@pytest.mark.parametrize("seconds", ["0.001", "9e8"])
def test_times_of_connections_that_grpc_cannot_count_start_a_server(llama_folder: Path, seconds: str) -> None:
    flags = ("--keepalive-timeout", seconds, "--idle-timeout", "9e8", "--keepalive-time", "9e8")
    with ServerProcess("--model", str(llama_folder), *flags) as server:
        server.wait_until_serving()
        assert server.stop() == 0


def test_a_handshake_that_does_not_come_is_given_up(llama_folder: Path, tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--metrics-tls")
    with ServerProcess("--model", str(llama_folder), "--http-port", "0", *flags) as server:
        server.wait_until_serving()
        with contextlib.ExitStack() as all_of_them:
            crowds = [
                all_of_them.enter_context(Crowd(server.ports[port], 1))
                for port in ("grpc_port", "http_port", "metrics_port")
            ]
            for crowd in crowds:
                crowd.wait_for_the_end(1)
        assert server.stop() == 0


FIT = """
import logging, resource, sys
from trt_server.connections.descriptors import connections_that_fit
logging.basicConfig(format="%(message)s")
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(connections_that_fit(500, 2, 64), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [(256, 4096, "500 1320"), (2000, 4096, "500 2000"), (256, 1024, "352 1024"), (100, 300, "1 300")],
)
def test_descriptors_are_asked_for_and_where_there_are_few_a_port_holds_fewer(
    soft: int, hard: int, told: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert done.stdout.strip() == told
    fit = told.split()[0]
    less = f"a port holds {fit} connections at most and not 500: this process may open {hard} files"
    assert done.stderr == ("" if fit == "500" else f"{less} (ulimit -n)\n")


def test_a_full_port_is_said_once_until_it_had_room(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    limit = ConnectionLimit("metrics", 10, clock=lambda: now)
    for held in (9, 10, 10, 9, 10):
        limit.note(held)
    assert len(caplog.messages) == 1
    limit.note(8)
    limit.note(10)
    assert len(caplog.messages) == 1
    now = QUIET_SECONDS
    limit.note(8)
    limit.note(10)
    assert caplog.messages == [caplog.messages[0]] * 2
    assert caplog.messages[0] == (
        "the metrics port holds 10 connections, its limit: further ones are closed at once"
    )
