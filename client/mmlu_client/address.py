"""`--url` → where the server is and how it is spoken to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmlu_client.errors import InputError

URL = re.compile(
    r"(?:(?P<scheme>[a-zA-Z][\w+.-]*)://)?(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s:/@\[\]]+):(?P<port>\d{1,5})/?"
)


@dataclass(frozen=True)
class Address:
    """host: a name or an IP address, IPv6 without brackets."""

    host: str
    port: int
    tls: bool

    @property
    def target(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'grpcs' if self.tls else 'grpc'}://{self.target}"


def parse_address(url: str) -> Address:
    """host:port and grpc://host:port are plain, grpcs://host:port is TLS. Raises InputError."""
    match = URL.fullmatch(url)
    scheme = (match["scheme"] if match else url.partition("://")[0] if "://" in url else None) or "grpc"
    if scheme.lower() not in ("grpc", "grpcs"):
        meant = "grpcs" if scheme.lower() in ("https", "wss") else "grpc"
        rest = url.partition("://")[2]
        raise InputError(f"--url {url}: the server speaks gRPC, not {scheme}: use {meant}://{rest}")
    if match is None or not 0 < int(match["port"]) < 65536:
        raise InputError(f"--url {url}: must be host:port, grpc://host:port or, for TLS, grpcs://host:port")
    return Address(match["host"].strip("[]"), int(match["port"]), scheme.lower() == "grpcs")
