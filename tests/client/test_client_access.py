"""Tokens and certificates of the client, against real servers that ask for them."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority, Pair, replace
from client_process import ClientProcess, client, command, the_error
from mmlu import write_benchmark
from mmlu_client.errors import InputError
from mmlu_client.service.access import Access, in_plain_text
from mmlu_client.service.address import Address, parse_addresses
from mmlu_client.service.handshake import tls_trouble
from processes import ServerProcess
from run_files import records, summary, wait_for_records

TOKEN = "a-token-of-the-test"


@dataclass(frozen=True)
class Guarded:
    """Two servers that ask for a token and a certificate of `authority`."""

    urls: str
    authority: Authority
    token_file: Path

    def flags(self, pair: Pair) -> list[str | Path]:
        """What a client needs that shows this certificate."""
        shown = ("--tls-ca", self.authority.file, "--tls-cert", pair.certificate, "--tls-key", pair.key)
        return ["--url", self.urls, *shown, "--limit", "1", "--server-timeout", "30"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, tokens = Authority(folder), folder / "tokens"
    tokens.write_text(f"another\n{TOKEN}\n")
    pair = authority.issue("server")
    flags = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
    flags += ["--tls-client-ca", str(authority.file), "--token-file", str(tokens)]
    with ExitStack() as both:
        ports = [
            both.enter_context(ServerProcess("--model", "demo", *flags)).wait_until_serving().ports
            for _ in range(2)
        ]
        urls = ",".join(f"grpcs://localhost:{each['grpc_port']}" for each in ports)
        mine = folder / "token"
        mine.write_text(f"{TOKEN}\n")
        yield Guarded(urls, authority, mine)


@pytest.fixture
def pair(guarded: Guarded) -> Pair:
    """A certificate that the servers take."""
    return guarded.authority.issue("mine", "me")


def test_a_run_on_two_servers_that_ask_for_both(guarded: Guarded, pair: Pair, output: Path) -> None:
    result = client(*guarded.flags(pair), "--token-file", guarded.token_file, "--output", output)
    assert result.returncode == 0, result.stderr
    assert len(Counter(record["server"] for record in records(output))) == 2
    assert "plain text" not in result.stderr
    for file in output.iterdir():
        assert TOKEN not in file.read_text()
    assert TOKEN not in result.stdout + result.stderr


def test_a_server_that_comes_back_with_another_token_and_certificate(
    slow_folder: Path, tmp_path: Path, output: Path
) -> None:
    """The client's file was changed before, and counts when it asks again."""
    data = write_benchmark(tmp_path / "data", {"alpha": 40})
    authority, theirs, mine = Authority(tmp_path), tmp_path / "tokens", tmp_path / "token"
    for file in (theirs, mine):
        file.write_text("first")
    pair = authority.issue("server")
    flags = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--token-file", str(theirs)]
    with ServerProcess("--model", str(slow_folder), *flags) as server:
        port = str(server.wait_until_serving().ports["grpc_port"])
        url = f"grpcs://localhost:{port}"
        running = ClientProcess(
            "--url", url, "--tls-ca", authority.file, "--token-file", mine, "--data", data,
            "--output", output,
        )  # fmt: skip
        wait_for_records(output, 5)
        for file in (mine, theirs):
            replace(file, b"second")
        authority.issue("server")
        server.kill()
    with ServerProcess("--model", str(slow_folder), *flags, "--grpc-port", port) as again:
        again.wait_until_serving()
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert len(records(output)) == 40
    assert summary(output)["interruptions"] >= 1


def test_without_a_token_the_flag_is_named(guarded: Guarded, pair: Pair, tmp_path: Path) -> None:
    result = command(*guarded.flags(pair), folder=tmp_path)
    assert result.returncode == 1
    assert "asks for a token: give it with --token-file FILE" in the_error(result)
    assert not list(tmp_path.glob("results/*"))


def test_a_token_that_is_not_known_is_named_by_its_file(guarded: Guarded, pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}x\n{TOKEN}\n")
    result = command(*guarded.flags(pair), "--token-file", file, folder=tmp_path)
    assert result.returncode == 1
    assert f"does not take the token in {file}" in the_error(result)
    assert TOKEN not in result.stderr


def test_without_a_certificate_the_flags_are_named(guarded: Guarded, tmp_path: Path) -> None:
    flags = ("--url", guarded.urls, "--tls-ca", guarded.authority.file, "--token-file", guarded.token_file)
    result = command(*flags, folder=tmp_path)
    assert result.returncode == 1
    assert "asks for a client's certificate, give --tls-cert and --tls-key" in the_error(result)


def test_a_certificate_of_another_authority_is_named(guarded: Guarded, tmp_path: Path) -> None:
    others = Authority(tmp_path).issue("others", "me")
    result = command(*guarded.flags(others), "--token-file", guarded.token_file, folder=tmp_path)
    assert result.returncode == 1
    assert f"does not take the certificate in {others.certificate}" in the_error(result)


@pytest.mark.parametrize("has_certificate", [False, True])
def test_a_server_that_says_why_it_refuses_a_certificate(tmp_path: Path, has_certificate: bool) -> None:
    """OpenSSL sends an alert after the client's side of the handshake is done."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, mine = authority.issue("server"), other.issue("mine", "me")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    access = Access(authority.file, *((mine.certificate, mine.key) if has_certificate else ()))
    said = asyncio.run(trouble_with(access, context)) or ""
    assert ("does not take the certificate" if has_certificate else "give --tls-cert") in said


def test_a_server_that_closes_at_once_is_no_server_without_tls(tmp_path: Path) -> None:
    """So does one whose port holds all the connections that it may."""
    assert asyncio.run(trouble_with(Access(Authority(tmp_path).file), None)) is None


async def trouble_with(access: Access, context: ssl.SSLContext | None) -> str | None:
    """What is found of a server that speaks TLS with this context; without one it ends each connection."""

    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if context is None:
            writer.close()

    server = await asyncio.start_server(end, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await tls_trouble(Address("localhost", port, tls=True), access)


def test_a_changed_token_is_sent_from_the_next_call_on(tmp_path: Path) -> None:
    file = tmp_path / "token"
    said: list[str] = []
    file.write_text("one\ntwo\n")
    access = Access(token_file=file, say=said.append)
    assert access.metadata == (("authorization", "Bearer one"),)
    replace(file, b"two\n")
    assert access.metadata == (("authorization", "Bearer two"),)
    assert not said
    replace(file, b"")
    assert access.metadata == access.metadata == (("authorization", "Bearer two"),)
    trouble = f"--token-file {file} holds no token: write one a line"
    assert said == [f"{trouble}; the token that it held before is still sent"]


def test_a_token_in_plain_text_is_told_of_other_machines_alone() -> None:
    addresses = parse_addresses("localhost:1,127.0.0.1:2,grpcs://192.0.2.7:3,192.0.2.7:4,dns:///192.0.2.8:5")
    assert asyncio.run(in_plain_text(addresses)) == ["grpc://192.0.2.7:4", "dns:///192.0.2.8:5"]


WRONG = {
    "half of a certificate": (["--tls-cert", "x"], "--tls-cert and --tls-key belong together"),
    "a certificate without TLS": (
        ["--tls-cert", "x", "--tls-key", "y"], "--tls-cert is of servers that speak TLS: write grpcs://host:port",
    ),
    "no certificate": (
        ["--url", "grpcs://localhost:1", "--tls-cert", "/nowhere", "--tls-key", __file__],
        "cannot read /nowhere: No such file or directory; check --tls-cert and --tls-key",
    ),
    "no key": (
        ["--url", "grpcs://localhost:1", "--tls-cert", __file__, "--tls-key", __file__],
        "are not a certificate and its key",
    ),
    "no file of tokens": (["--token-file", "/nowhere"], "cannot read --token-file /nowhere: No such file"),
    "no tokens": (["--token-file", "/dev/null"], "--token-file /dev/null holds no token: write one a line"),
    "no token": (["--token-file", __file__], "is no token"),
    "a device as tokens": (
        ["--token-file", "/dev/zero"], "cannot read --token-file /dev/zero: it is no file and no pipe",
    ),
    "a device as authorities": (
        ["--url", "grpcs://localhost:1", "--tls-ca", "/dev/zero"],
        "cannot read --tls-ca /dev/zero: it is no file",
    ),
    "a device as certificate": (
        ["--url", "grpcs://localhost:1", "--tls-cert", "/dev/zero", "--tls-key", __file__],
        "cannot read /dev/zero: it is no file; check --tls-cert and --tls-key",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_flag_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = command(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert message in the_error(result)
    assert not list(tmp_path.iterdir())


def test_what_is_no_certificate_is_an_error_of_input() -> None:
    with pytest.raises(InputError, match="holds no certificate in PEM form"):
        Access(Path(__file__)).channel_credentials()
