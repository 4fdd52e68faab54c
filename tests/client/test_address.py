"""What --url may be."""

from __future__ import annotations

import pytest
from mmlu_client.errors import InputError
from mmlu_client.service.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8001", Address("localhost", 8001, tls=False)),
        ("grpc://10.0.0.1:1", Address("10.0.0.1", 1, tls=False)),
        ("grpcs://gpu-7.example.org:443/", Address("gpu-7.example.org", 443, tls=True)),
        ("[::1]:8001", Address("::1", 8001, tls=False)),
    ],
)
def test_good_urls(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://localhost:8001", "gRPC, not http: use grpc://localhost:8001"),
        ("https://localhost:8001", "gRPC, not https: use grpcs://localhost:8001"),
        ("http://localhost", "gRPC, not http: use grpc://localhost"),
        ("localhost", "must be host:port"),
        ("localhost:", "must be host:port"),
        ("localhost:0", "must be host:port"),
        ("localhost:70000", "must be host:port"),
        ("", "must be host:port"),
        ("grpc://a b:1", "must be host:port"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_address(url)
