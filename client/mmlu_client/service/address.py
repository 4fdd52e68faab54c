"""`--url` → where the server is and how it is spoken to."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass, field, replace

from mmlu_client.errors import InputError

URL = re.compile(
    r"(?:(?P<scheme>[a-zA-Z][\w+.-]*)://)?(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s:/@\[\]]+):(?P<port>\d{1,5})/?"
)

DNS = "dns:///"


@dataclass(frozen=True)
class Address:
    """Where a server is, and how it is spoken to.

    Attributes:
        host: a name or an IP address, IPv6 without brackets.
        port: of TCP.
        tls: whether the connection is encrypted.
        all_of_name: whether it stands for every address that the host's name has.
        certified_name: the name in the server's certificate, where the host is one address of that name.
        of_name: that name, with or without TLS.
    """

    host: str
    port: int
    tls: bool
    all_of_name: bool = False
    certified_name: str | None = None
    of_name: str | None = field(default=None, compare=False)

    @property
    def target(self) -> str:
        """`host:port`, as gRPC and reports write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        scheme = "grpcs://" if self.tls else "" if self.all_of_name else "grpc://"
        return f"{DNS if self.all_of_name else ''}{scheme}{self.target}"

    async def each(self) -> list[Address]:
        """Look up the addresses that its name has at this moment, where it stands for them all.

        Returns:
            Those addresses; otherwise this one alone.

        Raises:
            OSError: the name has no address, or nobody can be asked for it.
        """
        if not self.all_of_name:
            return [self]
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        name = self.host if self.tls else None
        hosts = sorted({str(entry[4][0]) for entry in found})
        return [Address(host, self.port, self.tls, certified_name=name, of_name=self.host) for host in hosts]


def parse_addresses(urls: str) -> tuple[Address, ...]:
    """Read the addresses in a list that is separated by commas.

    Raises:
        InputError: one of them is no address, or is named twice.
    """
    addresses = [parse_address(url.strip()) for url in urls.split(",")]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InputError(f"--url {urls}: {address} is named twice")
    return tuple(addresses)


def parse_address(url: str) -> Address:
    """Read one address.

    `host:port` and `grpc://host:port` are without TLS, `grpcs://host:port` is with TLS. `dns:///` before any
    of them stands for every address that the name has.

    Raises:
        InputError: it is none of these.
    """
    if url.lower().startswith(DNS):
        return replace(parse_address(url[len(DNS) :]), all_of_name=True)
    match = URL.fullmatch(url)
    scheme = (match["scheme"] if match else url.partition("://")[0] if "://" in url else None) or "grpc"
    if scheme.lower() not in ("grpc", "grpcs"):
        meant = "grpcs" if scheme.lower() in ("https", "wss") else "grpc"
        rest = url.partition("://")[2]
        raise InputError(f"--url {url}: the server speaks gRPC, not {scheme}: use {meant}://{rest}")
    if match is None or not 0 < int(match["port"]) < 65536:
        raise InputError(f"--url {url}: must be host:port, grpc://host:port or, for TLS, grpcs://host:port")
    return Address(match["host"].strip("[]"), int(match["port"]), scheme.lower() == "grpcs")
