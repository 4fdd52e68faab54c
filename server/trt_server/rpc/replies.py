"""The replies of one stream that its caller has not read yet."""

from __future__ import annotations

import asyncio

from scoring.v1 import scoring_pb2 as pb

from trt_server.request_memory.byte_budget import Charge
from trt_server.rpc.request_size import memory_of_reply


class Replies:
    """Holds replies in the order in which they are done, and counts what they take."""

    def __init__(self, charge: Charge) -> None:
        """Hold none.

        Args:
            charge: What the stream takes of the memory for requests.
        """
        self._charge = charge
        self._waiting: asyncio.Queue[pb.StreamScoreResponse | None] = asyncio.Queue()

    def put(self, reply: pb.StreamScoreResponse) -> None:
        """Add a reply."""
        self._charge.count(_memory(reply))
        self._waiting.put_nowait(reply)

    def end(self) -> None:
        """Say that no more will come."""
        self._waiting.put_nowait(None)

    async def get(self) -> pb.StreamScoreResponse | None:
        """Return the next reply, once there is one; None: there are no more."""
        return await self._waiting.get()

    def sent(self, reply: pb.StreamScoreResponse) -> None:
        """Count a reply no more."""
        self._charge.shrink(_memory(reply))


def _memory(reply: pb.StreamScoreResponse) -> int:
    return memory_of_reply(reply.response) if reply.WhichOneof("outcome") == "response" else 0
