"""A proxy in the environment: what it is asked for, and what is said where it is in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from client_process import command, the_error
from connect_proxy import ConnectProxy
from double import Double
from mmlu import write_benchmark
from mmlu_client.service.address import Address
from mmlu_client.service.proxy import EXCEPTIONS, NAMED_BY, Proxy, proxy_to
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
NONE = dict.fromkeys((*NAMED_BY, *EXCEPTIONS, "HTTP_PROXY", "HTTPS_PROXY"))
# Of RFC 5737 and RFC 3849, for documentation: nobody has them.
FAR, FAR_6 = "192.0.2.7", "2001:db8::7"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NONE:
        monkeypatch.delenv(name, raising=False)


def asked_of(host: str, *, of_name: str | None = None) -> Proxy | None:
    return asyncio.run(proxy_to(Address(host, 8001, tls=False, of_name=of_name)))


def test_a_local_server_is_not_asked_of_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy() as proxy, Double(TOKENIZER) as double:
        for name in (*NAMED_BY, "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        data = write_benchmark(tmp_path / "data", {"alpha": 1})
        result = command("--url", double.url, "--data", data, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not proxy.asked


@pytest.mark.parametrize("variable", NAMED_BY)
def test_the_variables_that_name_it(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://somebody:secret@proxy.example:3128/")
    assert asked_of(FAR) == Proxy("proxy.example:3128", variable)


def test_a_server_elsewhere_is_asked_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Double(TOKENIZER) as double, ConnectProxy(to=double.port) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        data = write_benchmark(tmp_path / "data", {"alpha": 1})
        result = command("--url", f"{FAR}:8001", "--data", data, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(proxy.asked) == {f"CONNECT {FAR}:8001 HTTP/1.1"}


def test_a_proxy_that_refuses_ends_the_run_and_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://somebody:secret@{proxy.host}")
        result = command("--url", f"{FAR}:8001", folder=tmp_path)
    assert result.returncode == 1
    assert the_error(result) == (
        f"the proxy http://{proxy.host} (from https_proxy) refuses grpc://{FAR}:8001 (HTTP 403): "
        f"name {FAR} in no_proxy to go without it"
    )
    assert "secret" not in result.stderr


def test_a_proxy_that_cannot_connect_yet_is_named_and_the_server_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(refusal="503 Service Unavailable") as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.host}")
        result = command("--url", f"{FAR}:8001", "--server-timeout", "0.5", folder=tmp_path)
    assert result.returncode == 1
    error = the_error(result)
    assert "within 0.5 s" in error
    assert f"asked through the proxy http://{proxy.host} (from https_proxy): name {FAR} in no_proxy" in error


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.10", "127.1", "::1", "::ffff:127.0.0.1",
     "0.0.0.0"],
)  # fmt: skip
def test_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """127.1 is a name to everything but the resolver, which knows 127.0.0.1 by it."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert asked_of(host) is None


EXCEPTED = {
    "the host itself": ("gpu.firm.example", "gpu.firm.example"),
    "its domain": ("gpu.firm.example", "firm.example"),
    "a leading dot": ("gpu.firm.example", ".firm.example"),
    "a leading star": ("gpu.firm.example", "*.firm.example"),
    "other case, and a name's last dot": ("GPU.firm.example.", "Firm.Example"),
    "everything": ("gpu.firm.example", "*"),
    "one of several": ("gpu.firm.example", "localhost, 10.0.0.0/8 ,firm.example"),
    "blanks between": ("gpu.firm.example", "localhost firm.example"),
    "its port": ("gpu.firm.example", "firm.example:8001"),
    "an address": (FAR, FAR),
    "a range": (FAR, "192.0.2.0/24"),
    "a range with host bits": (FAR, "192.0.2.9/24"),
    "an address and its port": (FAR, f"{FAR}:8001"),
    "an IPv6 address": (FAR_6, "2001:DB8:0::7"),
    "an IPv6 address in brackets, with its port": (FAR_6, "[2001:db8::7]:8001"),
    "an IPv6 range": (FAR_6, "2001:db8::/32"),
}


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", "no_grpc_proxy"])
@pytest.mark.parametrize(("host", "entries"), EXCEPTED.values(), ids=EXCEPTED)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str, entries: str, variable: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv(variable, entries)
    assert asked_of(host) is None


@pytest.mark.parametrize(
    "entries",
    [
        "",
        ",",
        ".",
        "192.0.2.8",
        "192.0.3.0/24",
        "2001:db8::/32",
        f"{FAR}:8002",
        "firm.example",
        "192.0.2.7/99",
    ],
)
def test_what_no_proxy_does_not_name(monkeypatch: pytest.MonkeyPatch, entries: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", entries)
    assert asked_of(FAR) == Proxy("proxy.example:3128", "http_proxy")


def test_an_address_is_excepted_by_the_name_it_was_found_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", ".svc.cluster.local")
    assert asked_of(FAR, of_name="trt-server.ai.svc.cluster.local") is None


@pytest.mark.parametrize(
    "value",
    ["", "proxy.example:3128", "https://proxy.example", "socks5://proxy.example", "http://", "http://["],
)
def test_what_grpc_takes_for_no_proxy(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert asked_of(FAR) is None
