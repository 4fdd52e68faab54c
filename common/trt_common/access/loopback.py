"""Whether a host is this machine: what its text says, and what the addresses of a name say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(host: str) -> IPAddress | None:
    """Return the address that a host is given by, in brackets or without; None: it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_loopback_host(host: str, *, or_any: bool = False) -> bool | None:
    """Return whether a host is this machine, as far as its text tells.

    localhost and every name that ends with .localhost are (RFC 6761, section 6.3).

    Args:
        host: a name or an address.
        or_any: whether `0.0.0.0` and `::` count: who connects there comes to this machine, while a port that
            is opened there is open to every other one.

    Returns:
        None: it is another name, which has to be looked up.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = address_of(name)
    return None if address is None else _is_loopback(address, or_any=or_any)


def are_loopback(hosts: Iterable[str], *, or_any: bool = False) -> bool:
    """Return whether the addresses of a name are those of this machine, each of them; False for none.

    Args:
        hosts: the addresses.
        or_any: as of `is_loopback_host`.
    """
    addresses = [address_of(host) for host in hosts]
    return bool(addresses) and all(
        address is not None and _is_loopback(address, or_any=or_any) for address in addresses
    )


def _is_loopback(address: IPAddress, *, or_any: bool) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return address.is_loopback or (or_any and address.is_unspecified)
