"""What --url may be."""

from __future__ import annotations

import pytest
from mmlu_client.errors import InputError
from mmlu_client.service.address import Address, parse_address
from mmlu_client.service.server_kind import ServerKind, spoken_to


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8001", Address("localhost", 8001, tls=False)),
        ("grpc://10.0.0.1:1", Address("10.0.0.1", 1, tls=False)),
        ("grpcs://gpu-7.example.org:443/", Address("gpu-7.example.org", 443, tls=True)),
        ("[::1]:8001", Address("::1", 8001, tls=False)),
        ("http://localhost:8000", Address("localhost", 8000, tls=False, http=True)),
        ("http://localhost:8000/v1/", Address("localhost", 8000, tls=False, http=True)),
        ("http://localhost", Address("localhost", 80, tls=False, http=True)),
        ("https://a.example.org/llm/v1", Address("a.example.org", 443, tls=True, http=True, path="/llm")),
    ],
)
def test_good_urls(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ws://localhost:8001", "gRPC or HTTP, not ws: use grpc://localhost:8001 or http://localhost:8001"),
        ("dns:///http://localhost:8001", "name one server over HTTP"),
        ("grpc://localhost:8001/v1", "must be host:port"),
        ("http://localhost:0", "must be host:port"),
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


def test_the_kind_of_server_says_what_a_bare_address_speaks() -> None:
    bare = parse_address("localhost:8000")
    assert spoken_to(bare, "auto") == spoken_to(bare, "trt-server") == bare
    assert str(spoken_to(bare, "openai")) == str(spoken_to(bare, "sglang")) == "http://localhost:8000"


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("grpc://localhost:8000", "openai", "speaks HTTP: write http://localhost:8000"),
        ("http://localhost:8000", "trt-server", "speaks gRPC: write grpc://localhost:8000"),
        ("dns:///localhost:8000", "sglang", "name one server over HTTP"),
    ],
)
def test_a_kind_of_server_that_does_not_speak_what_the_url_says(
    url: str, kind: ServerKind, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        spoken_to(parse_address(url), kind)
