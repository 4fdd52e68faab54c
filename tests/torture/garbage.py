"""Connections that speak no protocol, or half of one: none of them costs the server more than its time."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil
from outcome import SECONDS, Outcome, hold_the_rest, memory_mib, reference_answer
from processes import ServerProcess
from raw_grpc import PREFACE, frame

PORTS = ("grpc_port", "grpc_port", "http_port", "metrics_port")
# So many are open at once; the oldest makes way.
HELD = 50
MOST_GROWTH_MIB = 60
# What a process has of threads and files without anybody's asking goes up and down by some.
SLACK = 16


def connect_garbage(model: Path, count: int, seed: int) -> Outcome:
    """Open so many connections to the three ports of a server, each of which says something else.

    Args:
        model: The checkpoint.
        count: How many connections.
        seed: What they say follows from it.

    Returns:
        How many said what, and what did not hold.
    """
    outcome = Outcome("garbage connections")
    kinds: Counter[str] = Counter()
    with ServerProcess("--model", str(model), "--http-port", "0") as server:
        expected = reference_answer(server.wait_until_serving())
        warm = min(count // 10, 200)
        _connect(server, range(warm), seed, kinds, outcome)
        process = psutil.Process(server.process.pid)
        before = memory_mib(server), process.num_threads(), process.num_fds()
        _connect(server, range(warm, count), seed, kinds, outcome)
        with urllib.request.urlopen(server.http + "/health", timeout=SECONDS) as health:
            outcome.hold(health.status == 200, f"/health answers {health.status}")
        hold_the_rest(outcome, server, expected)
        _wait_for_files(process, before[2] + SLACK)
        after = memory_mib(server), process.num_threads(), process.num_fds()
        outcome.hold(after[0] - before[0] < MOST_GROWTH_MIB, f"memory grew: {before[0]} to {after[0]} MiB")
        outcome.hold(after[1] <= before[1] + SLACK, f"threads were {before[1]} and are {after[1]}")
        outcome.hold(after[2] <= before[2] + SLACK, f"open files were {before[2]} and are {after[2]}")
        outcome.hold(len(server.lines) < 100 + count // 10, f"the log has {len(server.lines)} lines")
        outcome.hold(server.stop() == 0, "the server did not end with status 0")
    outcome.tell("connections", sum(kinds.values()))
    outcome.tell("what they said", ", ".join(f"{name} {n:,}" for name, n in kinds.most_common()))
    outcome.tell("lines in the log", len(server.lines))
    for place, what in enumerate(("memory in MiB", "threads", "open files")):
        outcome.tell(f"{what} before and after", f"{before[place]} and {after[place]}")
    return outcome


def _connect(server: ServerProcess, numbers: range, seed: int, kinds: Counter[str], outcome: Outcome) -> None:
    held: deque[socket.socket] = deque()
    for number in numbers:
        rng = Random(f"{seed} connection {number}")
        name = rng.choice(sorted(KINDS))
        try:
            connection = socket.create_connection(("127.0.0.1", server.ports[rng.choice(PORTS)]), SECONDS)
        except OSError as error:
            outcome.hold(False, f"seed {seed}, connection {number} was not taken: {error!r}")
            return
        kinds[name] += 1
        held.append(connection)
        # It may have been closed before all was said.
        with contextlib.suppress(OSError):
            connection.sendall(KINDS[name](rng))
        if len(held) > HELD:
            _leave(rng, held.popleft())
    for connection in held:
        connection.close()


def _wait_for_files(process: psutil.Process, most: int) -> None:
    """Until no more are open than that, which the last connections' ends have to reach the server for."""
    deadline = time.monotonic() + SECONDS
    while process.num_fds() > most and time.monotonic() < deadline:
        time.sleep(0.05)


def _leave(rng: Random, connection: socket.socket) -> None:
    """Close it in one of the ways that there are: with a reset, half of it first, or as usual."""
    with contextlib.suppress(OSError):
        how = rng.random()
        if how < 0.3:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how < 0.5:
            connection.shutdown(socket.SHUT_WR)
    connection.close()


def _frames(rng: Random) -> bytes:
    """Frames of HTTP/2 of every kind, with streams, flags and sizes that do not fit."""
    content = PREFACE + frame(4, 0, 0, b"")
    for _ in range(rng.randint(1, 8)):
        content += frame(
            rng.randrange(12), rng.randrange(256), rng.randrange(6), rng.randbytes(rng.randrange(60))
        )
    return content


def _head(rng: Random) -> bytes:
    """A request of HTTP/1.1, cut off or with a byte changed."""
    content = bytearray(
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\nffffffff\r\n{\r\n0\r\n\r\n"
    )
    content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randint(1, len(content))])


def _reset(stream: int) -> bytes:
    return frame(1, 4, stream, b"\x83\x86\x84") + frame(3, 0, stream, b"\0" * 4)


KINDS: dict[str, Callable[[Random], bytes]] = {
    "nothing": lambda _: b"",
    "random bytes": lambda rng: rng.randbytes(rng.choice((1, 9, 100, 5000, 100_000))),
    "half a preface": lambda rng: PREFACE[: rng.randrange(len(PREFACE))],
    "frames that do not fit": _frames,
    "a head of HTTP that is none": _head,
    "a head without end": lambda rng: b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * rng.choice((1, 200, 20_000)),
    "a handshake of TLS": lambda rng: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
    "many streams": lambda _: (
        PREFACE + frame(4, 0, 0, b"") + b"".join(frame(1, 4, 2 * n + 1, b"\x83\x86") for n in range(500))
    ),
    "many resets": lambda _: (
        PREFACE
        + frame(4, 0, 0, b"")
        + b"".join(_reset(2 * n + 1) for n in range(300))
    ),
}  # fmt: skip
