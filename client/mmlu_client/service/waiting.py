"""The wait for a server that takes work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mmlu_client.errors import RunError
from mmlu_client.service.address import Address
from mmlu_client.service.model import ServedModel
from mmlu_client.service.server_connection import AwayError, MuteError, ServerConnection
from mmlu_client.text import shortest

POLL_SECONDS = 0.2


async def wait_for_model(
    connection: ServerConnection,
    address: Address,
    program: str,
    say: Callable[[str], None],
    seconds: float,
    deadline: float | None,
) -> ServedModel:
    """Wait until a server takes work, and return what it holds.

    Args:
        connection: to the server; a new one is used where it is mute.
        address: of the server, for messages.
        program: that is to be started, for messages.
        say: prints a line for the person.
        seconds: how long to wait at most.
        deadline: when that time is over, by the monotonic clock; None: it begins now.

    Raises:
        InputError: it cannot give what is measured.
        RunError: it took none for so long, or never will.
    """
    deadline = time.monotonic() + seconds if deadline is None else deadline
    told = False
    while True:
        try:
            return await connection.model_if_serving(_attempt_seconds(seconds, deadline))
        except MuteError as mute:
            trouble = str(mute)
            connection.renew()
        except AwayError as away:
            trouble = str(away)
        left = deadline - time.monotonic()
        if left <= 0:
            raise RunError(
                f"no answer from {address} within {shortest(seconds)} s ({trouble}): start {program}, or "
                "name another --url, or a longer --server-timeout"
            )
        if not told:
            say(f"waiting up to {shortest(seconds)} s for {address} ({trouble})")
            told = True
        await asyncio.sleep(min(POLL_SECONDS, left))


def _attempt_seconds(seconds: float, deadline: float) -> float:
    """Return how long one attempt may take, so that a mute connection leaves time for another.

    Args:
        seconds: how long the server is waited for.
        deadline: until when, by the monotonic clock.
    """
    return min(max(1.0, deadline - time.monotonic()), max(1.0, seconds / 3))
