"""Floods of large messages: what they take together stays within the budget, above what one of them takes."""

from __future__ import annotations

import gzip
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
from outcome import MIB, SECONDS, Outcome, hold_the_rest, memory_mib, reference_answer
from processes import ServerProcess
from raw_grpc import RawConnection, message_head
from score_requests import ids_prompt, request
from scoring.v1 import scoring_pb2 as pb

SCORE = "/scoring.v1.Scoring/Score"
BUDGET_MIB = 64
AT_ONCE = 40
# A connection has buffers of its own, which hold a message or so.
A_CONNECTION_MIB = 4
ALLOWED = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "400", "413", "429"}


def flood(model: Path, count: int) -> Outcome:
    """Flood a server with messages of four million bytes, or that are larger when they are inflated.

    Args:
        model: The checkpoint.
        count: How many messages of each kind.

    Returns:
        The most memory after one of each kind and after all, and what did not hold.
    """
    outcome = Outcome("floods")
    statuses: Counter[str] = Counter()
    arguments = ("--request-memory", f"{BUDGET_MIB}MiB", "--http-port", "0")
    with ServerProcess("--model", str(model), *arguments) as server:
        expected = reference_answer(server.wait_until_serving())
        for send in KINDS.values():
            statuses[send(server)] += 1
        one = memory_mib(server, "VmHWM")
        bound = BUDGET_MIB + AT_ONCE * A_CONNECTION_MIB
        for name, send in KINDS.items():
            with ExitStack() as half_sent, ThreadPoolExecutor(AT_ONCE) as pool:
                for _ in range(4):
                    _send_half(half_sent.enter_context(RawConnection(server)))
                statuses.update(pool.map(lambda _, send=send: send(server), range(count)))
            peak = memory_mib(server, "VmHWM")
            outcome.tell(f"most memory after {name}", f"{peak - one} MiB above that of one")
            outcome.hold(peak - one < bound, f"{name}: {peak - one} MiB above one message, more than {bound}")
        outcome.hold(set(statuses) <= ALLOWED, f"statuses {statuses}")
        hold_the_rest(outcome, server, expected)
        outcome.hold(server.stop() == 0, "the server did not end with status 0")
    outcome.tell("large messages", sum(statuses.values()))
    outcome.tell("statuses", ", ".join(f"{name} {n:,}" for name, n in statuses.most_common()))
    outcome.tell("most memory after one of each", f"{one} MiB")
    return outcome


def _send_half(connection: RawConnection) -> None:
    """A message that is announced with four million bytes, of which few come."""
    stream = connection.begin(SCORE)
    connection.send(stream, message_head(4_000_000) + b"x" * 60_000)


def _sender(content: bytes, compression: grpc.Compression = grpc.Compression.NoCompression) -> Send:
    def send(server: ServerProcess) -> str:
        with server.channel() as channel:
            call: Any = channel.unary_unary(SCORE)
            try:
                call(content, compression=compression, timeout=SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    return send


def _poster(content: bytes, headers: dict[str, str]) -> Send:
    def post(server: ServerProcess) -> str:
        asked = urllib.request.Request(server.http + "/v1/completions", content, headers)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as reply:
                return str(reply.status)
        except urllib.error.HTTPError as error:
            return str(error.code)
        except (urllib.error.URLError, ConnectionError):
            # The port closes the connection while the body is still on its way.
            return "413"

    return post


Send = Callable[[ServerProcess], str]
TEXT = "a " * 2_000_000
KINDS: dict[str, Send] = {
    "ids": _sender(pb.ScoreRequest(id="x" * 4_000_000).SerializeToString()),
    "texts": _sender(request(pb.Prompt(text=TEXT)).SerializeToString()),
    "candidates": _sender(request(ids_prompt([1], candidates=[7] * 600_000)).SerializeToString()),
    "prompts": _sender(request(*[ids_prompt([1])] * 90_000).SerializeToString()),
    "inflated ids": _sender(pb.ScoreRequest(id="x" * 60 * MIB).SerializeToString(), grpc.Compression.Gzip),
    "bodies over HTTP": _poster(
        b'{"prompt": "' + TEXT.encode() + b'"}', {"Content-Type": "application/json"}
    ),
    "inflated bodies": _poster(
        gzip.compress(b'{"prompt": "' + b"x" * 60 * MIB + b'"}'),
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ),
}
