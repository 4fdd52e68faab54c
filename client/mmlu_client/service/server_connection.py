"""What a connection to a server can do, whichever protocol it speaks."""

from __future__ import annotations

from typing import Protocol

from mmlu_client.prompts.served_tokenizer import ServedTokenizer
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model import ServedModel

CALL_SECONDS = 30.0
# An attempt at a tokenizer takes at least so long, however little is left of --server-timeout.
LEAST_CALL_SECONDS = 5.0


class AwayError(Exception):
    """The server takes no work now; the text says what is known of it."""


class MuteError(AwayError):
    """Nothing came from the server, which may be the connection's fault."""


class AnswerStream(Protocol):
    """Carries requests to a server and its answers back, in any order.

    Its methods raise StreamLostError when it broke, and RunError when the next stream would break too.
    """

    async def send(self, request: Request) -> None:
        """Send a request."""
        ...

    async def receive(self) -> Reply | Refusal | None:
        """Return the next answer, to whichever request it is; None when the stream is at its end."""
        ...

    async def finish(self) -> None:
        """Tell the server that no more requests will come."""
        ...

    def close(self) -> None:
        """Give up what is not answered yet."""
        ...


class ServerConnection(Protocol):
    """Speaks to one server. Every method may raise RunError."""

    def renew(self) -> None:
        """Use a new connection from now on: the present one may be mute while new ones work."""
        ...

    async def wait_for_model(self, seconds: float, deadline: float | None = None) -> ServedModel:
        """Wait until the server takes work, and return what it holds.

        Args:
            seconds: how long to wait at most.
            deadline: when that time is over, by the monotonic clock; None: it begins now.

        Raises:
            InputError: it cannot give what is measured.
            RunError: it took none for so long, or never will.
        """
        ...

    async def model_if_serving(self, seconds: float) -> ServedModel:
        """Return what the server holds, if it takes work now.

        Args:
            seconds: how long to wait for its answer at most.

        Raises:
            AwayError: it takes no work now; MuteError where nothing came from it.
            InputError: it cannot give what is measured.
            RunError: it never will.
        """
        ...

    async def model(self, seconds: float) -> ServedModel:
        """Return the model with its devices' readings of now; wait `seconds` at most."""
        ...

    async def model_with_peak_measured_again(self) -> ServedModel:
        """Have a server that measures its peak do so once more; return the model with the largest so far."""
        ...

    async def tokenizer(self, seconds: float) -> ServedTokenizer | None:
        """Return what the server tells of the model's tokenizer; None where it tells nothing.

        Args:
            seconds: how long to wait for its answer at most, within bounds for a large one.

        Raises:
            AwayError: the server is away, or a connection to it is mute.
        """
        ...

    def stream(self) -> AnswerStream:
        """Open a stream of requests and answers."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def call_seconds(seconds: float) -> float:
    """Return how long a call may take where `seconds` are left for what needs it."""
    return min(max(seconds, LEAST_CALL_SECONDS), CALL_SECONDS)
