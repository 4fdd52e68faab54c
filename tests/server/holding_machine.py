"""A machine whose device waits in a batch until the test lets it go on, so that tests can count batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from fake_gpu_machine import gpu_machine
from processes import ServerProcess
from score_requests import ids_prompt, request
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from waiting import wait_until

SECONDS = 60.0
LIMITS = (
    "--precision",
    "fp32",
    "--max-batch-size",
    "4",
    "--max-prompt-tokens",
    "64",
    "--max-queue-size",
    "16",
)
# Batches that the engine takes at once, of which it computes one.
ENGINE_DEPTH = 2
# Batches that are assembled for a device while it computes.
READY = 2


@dataclass(frozen=True)
class HoldingMachine:
    """One device of a fake machine.

    Attributes:
        folder: A file of a token's name lets the batches go on that begin with the token.
        environment: That of a process on this machine.
    """

    folder: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, folder: Path, tokens: Iterable[int], **wishes: Any) -> HoldingMachine:
        """A machine whose device waits in each batch that begins with one of these tokens."""
        hold = {str(token): str(folder / f"go-{token}") for token in tokens}
        log = str(folder / "log")
        return cls(folder, gpu_machine(folder / "cache", hold=hold, log=log, **wishes))

    def let_go(self, *tokens: int) -> None:
        for token in tokens:
            (self.folder / f"go-{token}").touch()

    @property
    def held(self) -> list[int]:
        """The tokens in whose batches the device has begun to wait, in its order."""
        log = self.folder / "log"
        events = log.read_text().split() if log.exists() else []
        return [int(event.removeprefix("holds:")) for event in events if event.startswith("holds:")]

    def wait_until_held(self, batches: int, or_else: Callable[[], bool] = lambda: False) -> None:
        """Until the device has waited in so many batches, or something else is so."""
        wait_until(lambda: len(self.held) >= batches or or_else())

    def start(self, model: Path, *arguments: str) -> ServerProcess:
        return ServerProcess("--model", str(model), *LIMITS, *arguments, environment=self.environment)


def held_request(token: int, id: str = "") -> pb.ScoreRequest:
    """A request whose batch waits until the machine is told to let this token go."""
    return request(ids_prompt([token, 5, 9]), id=id or str(token))


def stub_of_its_own(server: ServerProcess) -> Any:
    """That of another caller: its connection is shared with no other channel."""
    channel = grpc.insecure_channel(server.url, options=[("grpc.use_local_subchannel_pool", 1)])
    return pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]


def occupy(machine: HoldingMachine, stub: Any, token: int) -> Any:
    """Ask for a held batch, and return its call when the engine waits for nothing else."""
    call = stub.Score.future(held_request(token), timeout=SECONDS)
    wait_until(lambda: machine.held == [token])
    return call


def ask_in_order(stub: Any, *requests: pb.ScoreRequest) -> Iterator[pb.StreamScoreResponse]:
    """Ask on one stream, and return its replies when each of these small requests has come to the queue.

    They come to it one after the other, and the stream's last request is refused on its way there: from
    then on the queue's depth changes only by what else is asked, and by what leaves it.
    """
    replies: Iterator[pb.StreamScoreResponse] = stub.StreamScore(
        iter([*requests, pb.ScoreRequest(id="asks for nothing")]), timeout=SECONDS
    )
    assert next(replies).id == "asks for nothing"
    return replies


def fill_ready(
    server: ServerProcess, stub: Any, *requests: pb.ScoreRequest
) -> Iterator[pb.StreamScoreResponse]:
    """Ask for the READY batches that are assembled while the device is held; what comes then is queued.

    Returns:
        The replies to these requests.
    """
    assert len(requests) == READY
    replies = ask_in_order(stub, *requests)
    wait_for_depth(server, 0)
    return replies


def wait_for_depth(server: ServerProcess, depth: int) -> None:
    """Until so many requests wait in the queue.

    It says that all have come only where none leaves the queue meanwhile, and that some have left it only
    where none comes: a depth on the way to another one is seen too.
    """
    wait_until(lambda: server.metrics()["trt_server_queue_depth{tensorrt}"] == depth)
