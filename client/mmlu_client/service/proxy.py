"""The HTTP proxy that a server is asked through, as the environment names it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from trt_common.access.loopback import address_of, are_loopback, is_loopback_host

from mmlu_client.service.address import Address

# gRPC takes the first that is set, with TLS and without; an empty one says that there is no proxy.
NAMED_BY = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy", "NO_GRPC_PROXY", "NO_PROXY")
# A name that the firm's own resolver does not know is asked of the proxy: it need not be waited for.
RESOLVE_SECONDS = 3.0

# The colons of an IPv6 address without brackets lead to no port.
ENTRY = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*):(?P<port>\d+)")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: with its port where one is given, without user and password.
        variable: the environment variable that names it.
    """

    host: str
    variable: str

    def __str__(self) -> str:
        return f"http://{self.host} (from {self.variable})"


async def proxy_to(address: Address) -> Proxy | None:
    """Find the proxy through which gRPC is to reach an address.

    No proxy is used for this machine, nor for what `no_proxy` names.

    Returns:
        The proxy; None where the server is to be reached directly.
    """
    proxy = _proxy()
    if proxy is None or _is_excepted(address) or await is_this_machine(address):
        return None
    return proxy


def _proxy() -> Proxy | None:
    variable = next((name for name in NAMED_BY if name in os.environ), None)
    if variable is None:
        return None
    try:
        url = urlsplit(os.environ[variable])
    except ValueError:
        return None
    host = url.netloc.rpartition("@")[2]
    # gRPC speaks to no other kind and goes without.
    return Proxy(host, variable) if url.scheme == "http" and host else None


def _is_excepted(address: Address) -> bool:
    entries = next((value for name in EXCEPTIONS if (value := os.environ.get(name))), "")
    hosts = [host for host in (address.host, address.of_name) if host is not None]
    return any(
        _covers(entry, host.lower().rstrip("."), address.port)
        for entry in re.split(r"[,\s]+", entries.lower())
        for host in hosts
        if entry
    )


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `no_proxy` covers the host.

    An entry is `*`, a name, which covers all names below it, an address, or a range of addresses. One with a
    port covers that port alone.
    """
    match = ENTRY.fullmatch(entry)
    name, its_port = (match["name"], match["port"]) if match else (entry, None)
    if its_port is not None and int(its_port) != port:
        return False
    if name == "*":
        return True
    ip, network = address_of(host), _network(name)
    if ip is not None and network is not None:
        return ip in network
    name = name.removeprefix("*").strip(".")
    # gRPC itself takes any end of a text, `ample.org` for `example.org`, and would ask no proxy either.
    return bool(name) and host.endswith(name)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None


async def is_this_machine(address: Address) -> bool:
    """Return whether the host is a loopback address, or a name of loopback addresses alone."""
    told = is_loopback_host(address.host, or_any=True)
    return are_loopback(await _addresses(address), or_any=True) if told is None else told


async def _addresses(address: Address) -> list[str]:
    looking = asyncio.ensure_future(
        asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    )
    await asyncio.wait({looking}, timeout=RESOLVE_SECONDS)
    if not looking.done():
        looking.cancel()
        return []
    return [] if looking.exception() else [str(entry[4][0]) for entry in looking.result()]
