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
    """host: a name or an IP address, IPv6 without brackets. all_of_name: it stands for all its addresses.

    certified_name: what the server's certificate is for, where the host is one address of that name.
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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        scheme = "grpcs://" if self.tls else "" if self.all_of_name else "grpc://"
        return f"{DNS if self.all_of_name else ''}{scheme}{self.target}"

    async def each(self) -> list[Address]:
        """Itself, or the addresses of its name at this moment. Raises OSError where it has none."""
        if not self.all_of_name:
            return [self]
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        name = self.host if self.tls else None
        hosts = sorted({str(entry[4][0]) for entry in found})
        return [Address(host, self.port, self.tls, certified_name=name, of_name=self.host) for host in hosts]


def parse_addresses(urls: str) -> tuple[Address, ...]:
    """Addresses separated by commas. Raises InputError."""
    addresses = [parse_address(url.strip()) for url in urls.split(",")]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InputError(f"--url {urls}: {address} is named twice")
    return tuple(addresses)


def parse_address(url: str) -> Address:
    """host:port and grpc://host:port are plain, grpcs://host:port is TLS; dns:/// before it: each address.

    Raises InputError.
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
