"""The servers that share a run: all of one model and engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmlu_client.address import Address
from mmlu_client.connection import Connection
from mmlu_client.errors import InputError, RunError
from mmlu_client.lane import Server

RESOLVE_SECONDS = 0.5


async def connect(
    addresses: Sequence[Address], ca_file: Path | None, seconds: float, say: Callable[[str], None]
) -> list[Server]:
    """Wait for every server, `seconds` at most; one that is not there is left out where another is.

    Raises RunError where none is there, or where they do not all hold the same model and engine.
    """
    each = await _resolve(addresses, seconds)
    connections = [Connection(address, ca_file, say) for address in each]
    models = await asyncio.gather(
        *(connection.wait_for_model(seconds) for connection in connections), return_exceptions=True
    )
    servers = []
    errors: list[BaseException] = []
    for address, connection, model in zip(each, connections, models, strict=True):
        if isinstance(model, BaseException):
            errors.append(model)
            await connection.close()
        else:
            servers.append(Server(address.target, connection, model))
    if not servers or any(not isinstance(error, RunError) for error in errors):
        raise next((error for error in errors if not isinstance(error, RunError)), errors[0])
    for error in errors:
        say(f"left out: {error}")
    _check_same(servers)
    return servers


async def _resolve(addresses: Sequence[Address], seconds: float) -> list[Address]:
    deadline = time.monotonic() + seconds
    found: list[Address] = []
    for address in addresses:
        while True:
            try:
                found += await address.each()
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise RunError(f"--url {address}: {error.strerror} after {seconds:g} s") from None
                await asyncio.sleep(RESOLVE_SECONDS)
    return list(dict.fromkeys(found))


def _check_same(servers: Sequence[Server]) -> None:
    first = servers[0]
    for other in servers[1:]:
        if (difference := first.model.difference(other.model)) is not None:
            raise RunError(f"{first.name} and {other.name} do not hold the same: {difference}")


def check_batch_size(servers: Sequence[Server], batch_size: int) -> None:
    """Raises InputError."""
    for server in servers:
        if batch_size > server.model.max_batch_size:
            raise InputError(
                f"--bs {batch_size} is too many: this server takes {server.model.max_batch_size}"
            )


def check_reference(servers: Sequence[Server]) -> None:
    """Raises RunError."""
    for server in servers:
        if server.model.reference is None:
            raise RunError(
                f"--validate: {server.name} has no reference engine: start it with --reference torch"
            )
