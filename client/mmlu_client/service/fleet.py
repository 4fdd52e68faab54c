"""The servers that share a run: all of one model and engine. More may join while it is on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from mmlu_client.errors import ClientError, NotWrittenError, RunError
from mmlu_client.prompts.served_tokenizer import ServedTokenizer
from mmlu_client.service.address import Address
from mmlu_client.service.connecting import Connecting
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.service.server_connection import AwayError, ServerConnection
from mmlu_client.text import shortest

RESOLVE_SECONDS = 0.5
# How often names are asked for new addresses, and addresses without a server for one.
WATCH_SECONDS = 2.0


class Fleet:
    """The servers of one run; more may join while they are watched.

    Attributes:
        servers: those that were there at the start, and after them those that joined; the same list all the
            time, which grows. Each keeps the model that it held when it came.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        connecting: Connecting,
        say: Callable[[str], None],
        admit: Callable[[RemoteServer, RemoteServer], None],
    ) -> None:
        """Prepare to connect to these addresses.

        Args:
            addresses: as the person named them.
            connecting: makes the connection to each.
            say: prints a line for the person.
            admit: called with a server, and with the first of the fleet, before the server is used: at the
                start, when it joins, and when it came back. It raises NotWrittenError where that cannot be
                recorded, and another ClientError where the server cannot do what the run asks.
        """
        self.servers: list[RemoteServer] = []
        self._addresses = addresses
        self._connecting = connecting
        self._say = say
        self._admit = admit
        # What `connect` was given, and when it is over, by the monotonic clock.
        self._seconds = self._deadline = 0.0
        # Those with a server that joined, or that does not fit.
        self._known: set[Address] = set()

    @property
    def window(self) -> int:
        """How many requests all servers together take at a time."""
        return sum(max(1, server.model.stream_window) for server in self.servers)

    @property
    def max_scored_positions(self) -> int | None:
        """How many positions of a request every server scores at the most; None: any number."""
        limits = [server.model.max_scored_positions for server in self.servers]
        return min((limit for limit in limits if limit), default=None)

    async def connect(self, seconds: float) -> None:
        """Wait for every server, `seconds` at most, in which `tokenizer` has its part.

        A server that is not there by then is left out, if another is.

        Raises:
            RunError: none is there, or they do not all hold the same model and engine.
            ClientError: one was not admitted.
        """
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        each = await self._resolve(seconds)
        connections = await asyncio.gather(*map(self._connection, each))
        waiting = (connection.wait_for_model(seconds, self._deadline) for connection in connections)
        models = await asyncio.gather(*waiting, return_exceptions=True)
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

    async def tokenizer(self) -> ServedTokenizer | None:
        """Return the tokenizer of the servers' model, from the first that gives it; None where it has none.

        One that is away by now is waited for, for what `connect` left of its time.

        Raises:
            RunError: none gives it in time.
        """
        told = False
        for server in itertools.cycle(self.servers):
            try:
                return await server.connection.tokenizer(self._deadline - time.monotonic())
            except AwayError as away:
                trouble = f"{server.name}: {away}"
            if (left := self._deadline - time.monotonic()) <= 0:
                raise RunError(
                    f"no server gives its tokenizer within {shortest(self._seconds)} s ({trouble}): start "
                    "trt-server again, or give a longer --server-timeout"
                )
            if not told:
                self._say(f"waiting up to {left:.0f} s for the tokenizer ({trouble})")
                told = True
            await asyncio.sleep(min(RESOLVE_SECONDS, left))
        raise AssertionError("a fleet that is connected has servers")

    async def rejoin(self, server: RemoteServer, seconds: float) -> None:
        """Wait for a server that went away, `seconds` at most, and admit it as it came back.

        It is asked over a new connection.

        Raises:
            RunError: it did not come back, holds another model or engine, or was not admitted.
        """
        server.connection.renew()
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
        """The length of the longest prompt that every server takes, in tokens."""
        return min(server.model.max_prompt_tokens for server in self.servers)

    async def with_peaks_measured_again(self) -> list[RemoteServer]:
        """Have the servers that measure their peak measure it once more.

        Servers of one device measure one after the other, so that none takes another's cores.

        Returns:
            Those servers, each with the largest of its peaks so far; without those that are away now.
        """
        by_device: dict[str, list[RemoteServer]] = defaultdict(list)
        for server in self.servers:
            if server.model.peak_measurements is not None:
                by_device[server.model.device.id or server.name].append(server)
        found = await asyncio.gather(*map(_measured_in_turn, by_device.values()))
        return [server for servers in found for server in servers]

    @contextlib.asynccontextmanager
    async def watched(self, on_join: Callable[[RemoteServer], None]) -> AsyncIterator[None]:
        """Let servers that come meanwhile join.

        Args:
            on_join: called with each, after it was admitted.

        Raises:
            NotWrittenError: at the end, that a server could not be recorded.
        """
        watch = asyncio.create_task(self._watch(on_join))
        try:
            yield
        finally:
            watch.cancel()
            (ending,) = await asyncio.gather(watch, return_exceptions=True)
        if isinstance(ending, Exception):
            raise ending

    async def close(self) -> None:
        """Close every connection."""
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
        """Try to connect to an address that had no server.

        Returns:
            The server; None where there still is none, or it cannot be used.

        Raises:
            NotWrittenError: the server could not be recorded.
        """
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

    async def _connection(self, address: Address) -> ServerConnection:
        return await self._connecting.connection(address)

    def _admit_if_alike(self, server: RemoteServer) -> None:
        """Admit a server that holds the same model and engine as the first; raise ClientError otherwise."""
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
