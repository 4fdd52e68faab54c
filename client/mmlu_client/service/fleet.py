"""The servers that share a run: all of one model and engine. More may join while it is on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmlu_client.errors import ClientError, InputError, NotWrittenError, RunError
from mmlu_client.service.address import Address
from mmlu_client.service.connection import AwayError, Connection
from mmlu_client.service.proxy import proxy_to
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.text import shortest

RESOLVE_SECONDS = 0.5
# How often names are asked for new addresses, and addresses without a server for one.
WATCH_SECONDS = 2.0


class Fleet:
    """servers: those that were there at the start, and after them those that joined; a live list."""

    def __init__(
        self,
        addresses: Sequence[Address],
        ca_file: Path | None,
        say: Callable[[str], None],
        admit: Callable[[RemoteServer, RemoteServer], None],
    ) -> None:
        """admit: given a server before it is asked anything, at first and whenever it comes back, and the
        first of them all; raises ClientError where it is not to be asked.
        """
        self.servers: list[RemoteServer] = []
        self._addresses = addresses
        self._ca_file = ca_file
        self._say = say
        self._admit = admit
        # Those with a server that joined, or that does not fit.
        self._known: set[Address] = set()

    @property
    def window(self) -> int:
        """The most requests that all servers together take at a time."""
        return sum(max(1, server.model.stream_window) for server in self.servers)

    async def connect(self, seconds: float) -> None:
        """Wait for every server, `seconds` at most; one that is not there is left out where another is.

        Raises RunError where none is there, or where they do not all hold the same model and engine.
        """
        each = await self._resolve(seconds)
        connections = await asyncio.gather(*map(self._connection, each))
        models = await asyncio.gather(
            *(connection.wait_for_model(seconds) for connection in connections), return_exceptions=True
        )
        errors: list[BaseException] = []
        for address, connection, model in zip(each, connections, models, strict=True):
            if isinstance(model, BaseException):
                errors.append(model)
                await connection.close()
            else:
                self._take(address, RemoteServer(address.target, connection, model))
        if not self.servers or any(not isinstance(error, RunError) for error in errors):
            raise next((error for error in errors if not isinstance(error, RunError)), errors[0])
        for error in errors:
            self._say(f"left out: {error}")
        for server in self.servers:
            self._admit_if_alike(server)

    async def rejoin(self, server: RemoteServer, seconds: float) -> None:
        """Wait, `seconds` at most, for a server that went away, and admit it as it came back.

        Raises RunError where it does not come back, or holds something else, or cannot be used any more.
        """
        model = await server.connection.wait_for_model(seconds)
        if (difference := server.model.difference(model)) is not None:
            raise RunError(
                f"{server.name} came back with another model or engine ({difference}): "
                "its answers do not belong to this run"
            )
        try:
            self._admit(replace(server, model=model), self.servers[0])
        except ClientError as error:
            raise RunError(f"{server.name} came back as it cannot be used: {error}") from None

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt that all of them take."""
        return min(server.model.max_prompt_tokens for server in self.servers)

    async def with_peaks_measured_again(self) -> list[RemoteServer]:
        """Those that measure their peak, each with its largest so far. One that is away now has none.

        Servers of one device measure one after the other: they would take each other's cores.
        """
        by_device: dict[str, list[RemoteServer]] = defaultdict(list)
        for server in self.servers:
            if server.model.peak_measurements is not None:
                by_device[server.model.device.id or server.name].append(server)
        found = await asyncio.gather(*map(_measured_in_turn, by_device.values()))
        return [server for servers in found for server in servers]

    @contextlib.asynccontextmanager
    async def watched(self, on_join: Callable[[RemoteServer], None]) -> AsyncIterator[None]:
        """Servers that come meanwhile join: on_join is told of each. Raises, at its end, what that raised."""
        watch = asyncio.create_task(self._watch(on_join))
        try:
            yield
        finally:
            watch.cancel()
            (ending,) = await asyncio.gather(watch, return_exceptions=True)
        if isinstance(ending, Exception):
            raise ending

    async def close(self) -> None:
        for server in self.servers:
            await server.connection.close()

    async def _watch(self, on_join: Callable[[RemoteServer], None]) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for address in await self._addresses_now():
                if address not in self._known and (server := await self._join(address)) is not None:
                    self._say(f"{server.name} joins the run")
                    on_join(server)

    async def _join(self, address: Address) -> RemoteServer | None:
        """The server at an address that had none; None where there still is none, or it does not fit."""
        async with contextlib.AsyncExitStack() as unless_it_joins:
            connection = await self._connection(address)
            unless_it_joins.push_async_callback(connection.close)
            try:
                server = RemoteServer(
                    address.target, connection, await connection.model_if_serving(WATCH_SECONDS)
                )
                self._admit_if_alike(server)
            except AwayError:
                return None
            except NotWrittenError:  # the disk lets the run down, not this server
                raise
            except ClientError as error:
                self._known.add(address)
                self._say(f"{address} does not join the run: {error}")
                return None
            unless_it_joins.pop_all()
        self._take(address, server)
        return server

    def _take(self, address: Address, server: RemoteServer) -> None:
        self._known.add(address)
        self.servers.append(server)

    async def _connection(self, address: Address) -> Connection:
        return Connection(address, self._ca_file, self._say, await proxy_to(address))

    def _admit_if_alike(self, server: RemoteServer) -> None:
        first = self.servers[0]
        if (difference := first.model.difference(server.model)) is not None:
            raise RunError(f"{first.name} and {server.name} do not hold the same: {difference}")
        self._admit(server, first)

    async def _addresses_now(self) -> list[Address]:
        found: list[Address] = []
        for address in self._addresses:
            with contextlib.suppress(OSError):  # a name that cannot be asked now brings nobody new
                found += await address.each()
        return list(dict.fromkeys(found))

    async def _resolve(self, seconds: float) -> list[Address]:
        deadline = time.monotonic() + seconds
        found: list[Address] = []
        for address in self._addresses:
            while True:
                try:
                    found += await address.each()
                    break
                except OSError as error:
                    if time.monotonic() >= deadline:
                        raise RunError(
                            f"--url {address}: {error.strerror} after {shortest(seconds)} s"
                        ) from None
                    await asyncio.sleep(RESOLVE_SECONDS)
        return list(dict.fromkeys(found))


async def _measured_in_turn(servers: Sequence[RemoteServer]) -> list[RemoteServer]:
    found = []
    for server in servers:
        with contextlib.suppress(RunError):
            model = await server.connection.model_with_peak_measured_again()
            if server.model.difference(model) is None:
                found.append(replace(server, model=model))
    return found


def check_batch_size(server: RemoteServer, batch_size: int) -> None:
    """Raises InputError."""
    if batch_size > server.model.max_batch_size:
        raise InputError(
            f"--bs {batch_size} is too many: {server.name} takes {server.model.max_batch_size}; "
            f"start it with --max-batch-size {batch_size}"
        )


def check_prompt_limit(server: RemoteServer, tokens: int) -> None:
    """tokens: of the longest prompts that are asked. Raises RunError."""
    if server.model.max_prompt_tokens < tokens:
        raise RunError(
            f"{server.name} takes prompts of {server.model.max_prompt_tokens} tokens, this run asks for "
            f"up to {tokens}: start it with --max-prompt-tokens {tokens}"
        )


def check_reference(server: RemoteServer, first: RemoteServer) -> None:
    """Raises InputError where the server has no reference, RunError where it has another than the first."""
    mine, theirs = server.model.reference, first.model.reference
    if mine is None:
        raise InputError(
            f"--validate: {server.name} has no reference engine: start it with --reference torch"
        )
    if theirs is not None and mine.fingerprint != theirs.fingerprint:
        raise RunError(
            f"--validate: the references of {first.name} and {server.name} differ: "
            f"{theirs.name} {theirs.precision} and {mine.name} {mine.precision}"
        )
