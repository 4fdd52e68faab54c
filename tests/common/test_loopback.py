"""Which hosts are this machine."""

from __future__ import annotations

import pytest
from trt_common.access.loopback import are_loopback, is_loopback_host

NAMES_OF_HERE = ("localhost", "LOCALHOST.", "a.localhost")
ADDRESSES_OF_HERE = ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1")
# Of RFC 5737 and RFC 3849, for documentation.
ELSEWHERE = ("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7")
NAMES = ("host.example", "localhost.example", "notlocalhost")
ANY = ("0.0.0.0", "::", "::ffff:0.0.0.0")


@pytest.mark.parametrize("host", NAMES_OF_HERE + ADDRESSES_OF_HERE)
def test_this_machine(host: str) -> None:
    assert is_loopback_host(host) is True


@pytest.mark.parametrize("host", ELSEWHERE)
def test_another_machine(host: str) -> None:
    assert is_loopback_host(host, or_any=True) is False


@pytest.mark.parametrize("host", NAMES)
def test_a_name_has_to_be_looked_up(host: str) -> None:
    assert is_loopback_host(host) is None


@pytest.mark.parametrize("host", ANY)
def test_every_address_is_this_machine_for_who_connects(host: str) -> None:
    assert is_loopback_host(host) is False
    assert is_loopback_host(host, or_any=True) is True


def test_a_name_is_this_machine_where_each_of_its_addresses_is() -> None:
    assert are_loopback(["127.0.0.1", "::1"])
    assert not are_loopback(["127.0.0.1", "192.0.2.7"])
    assert not are_loopback([])
    assert not are_loopback(["0.0.0.0"])
    assert are_loopback(["0.0.0.0"], or_any=True)
