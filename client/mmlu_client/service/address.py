"""`--url` → where the server is and how it is spoken to."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass, field, replace

from mmlu_client.errors import InputError

URL = re.compile(
    r"(?:(?P<scheme>[a-zA-Z][\w+.-]*)://)?(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s:/@\[\]]+)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\s?#]*)?"
)

DNS = "dns:///"
# Scheme → whether it is with TLS, and whether it is HTTP.
SCHEMES = {"grpc": (False, False), "grpcs": (True, False), "http": (False, True), "https": (True, True)}
HTTP_PORTS = {False: 80, True: 443}
# What OpenAI's clients write at the end of a server's address; the paths that are asked begin with it.
VERSION_PATH = "/v1"


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
        http: whether it is spoken to over HTTP, and not gRPC.
        path: what paths on the server begin with, over HTTP; without a slash at its end.
        has_scheme: whether the person wrote how it is spoken to.
    """

    host: str
    port: int
    tls: bool
    all_of_name: bool = False
    certified_name: str | None = None
    of_name: str | None = field(default=None, compare=False)
    http: bool = False
    path: str = ""
    has_scheme: bool = field(default=False, compare=False)

    @property
    def target(self) -> str:
        """`host:port`, as gRPC and reports write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.http:
            return f"{'https' if self.tls else 'http'}://{self.target}{self.path}"
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
    of them stands for every address that the name has. `http://host:port` and `https://host:port` are of a
    server that is asked over HTTP; `/v1` at their end says nothing more.

    Raises:
        InputError: it is none of these.
    """
    if url.lower().startswith(DNS):
        return _every_address(url, parse_address(url[len(DNS) :]))
    match = URL.fullmatch(url)
    named = match["scheme"] if match else url.partition("://")[0] if "://" in url else None
    scheme = (named or "grpc").lower()
    if scheme not in SCHEMES:
        rest = url.partition("://")[2]
        raise InputError(
            f"--url {url}: servers are asked over gRPC or HTTP, not {named}: use grpc://{rest} or http://{rest}"
        )
    tls, http = SCHEMES[scheme]
    if match is None or not _is_whole(match, http=http):
        raise InputError(
            f"--url {url}: must be host:port, grpc://host:port or, for TLS, grpcs://host:port; or "
            "http://host:port or https://host:port of a server that speaks HTTP"
        )
    return Address(
        match["host"].strip("[]"),
        int(match["port"] or HTTP_PORTS[tls]),
        tls,
        http=http,
        path=(match["path"] or "").rstrip("/").removesuffix(VERSION_PATH) if http else "",
        has_scheme=named is not None,
    )


def _is_whole(match: re.Match[str], *, http: bool) -> bool:
    """Whether an address has a port, which HTTP need not have, and no path, which only HTTP may have."""
    if match["port"] is not None and not 0 < int(match["port"]) < 65536:
        return False
    return http or (match["port"] is not None and match["path"] in (None, "/"))


def _every_address(url: str, address: Address) -> Address:
    """Return the address that stands for every one of its name; raise InputError over HTTP."""
    if address.http:
        raise InputError(f"--url {url}: {DNS} is of servers that speak gRPC: name one server over HTTP")
    return replace(address, all_of_name=True)
