"""Who may use a server: tokens, certificates, what is open, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority, Pair, replace
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from processes import ServerProcess, run_program
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from trt_server.access.access import access_warning
from trt_server.command_line import parse_settings

SECONDS = 60
EXPIRY = "trt_server_certificate_expiry_timestamp_seconds{{{}}}"
LARGE = 60_000_000
TOKEN, OTHER = "first-Token._~+/==", "second"
LIST_SERVICES = reflection_pb2.ServerReflectionRequest(list_services="")


def stub(channel: grpc.Channel) -> Any:
    return pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]


def score(channel: grpc.Channel, metadata: Any) -> Any:
    return stub(channel).Score(ids_request(3), metadata=metadata, timeout=SECONDS)


def stream(channel: grpc.Channel, metadata: Any) -> Any:
    return next(stub(channel).StreamScore(iter([ids_request(3)]), metadata=metadata, timeout=SECONDS))


def get_model(channel: grpc.Channel, metadata: Any) -> Any:
    return stub(channel).GetModel(pb.GetModelRequest(), metadata=metadata, timeout=SECONDS)


def get_tokenizer(channel: grpc.Channel, metadata: Any) -> Any:
    return stub(channel).GetTokenizer(pb.GetTokenizerRequest(), metadata=metadata, timeout=SECONDS)


def list_services(channel: grpc.Channel, metadata: Any) -> Any:
    service = reflection_pb2_grpc.ServerReflectionStub(channel)
    return next(
        service.ServerReflectionInfo(iter([LIST_SERVICES]), metadata=metadata, timeout=SECONDS)
    ).list_services_response.service


CALLS = [score, stream, get_model, get_tokenizer, list_services]
Call = Callable[[grpc.Channel, Any], Any]


def with_token(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def code_of(call: Call, channel: grpc.Channel, metadata: Any) -> StatusCode:
    try:
        call(channel, metadata)
    except grpc.RpcError as error:
        code: StatusCode = error.code()
        return code
    return StatusCode.OK


def is_healthy(channel: grpc.Channel) -> bool:
    health = health_pb2_grpc.HealthStub(channel)
    status = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture(scope="module")
def guarded(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a token, on all three ports."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"\n{TOKEN}\n{OTHER}\n")
    arguments = ("--model", str(llama_folder), "--token-file", str(tokens), "--metrics-token")
    with ServerProcess(*arguments, "--http-port", "0") as server:
        yield server.wait_until_serving()


WRONG_TOKENS: dict[str, Any] = {
    "none": (),
    "another": with_token("third"),
    "the beginning of one": with_token(TOKEN[:-1]),
    "both at once": with_token(f"{TOKEN} {OTHER}"),
    "empty": with_token(""),
    "no scheme": (("authorization", TOKEN),),
    "another scheme": (("authorization", f"Basic {TOKEN}"),),
    "another key": (("x-authorization", f"Bearer {TOKEN}"),),
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("metadata", WRONG_TOKENS.values(), ids=WRONG_TOKENS)
def test_no_method_answers_without_a_token(guarded: ServerProcess, call: Call, metadata: Any) -> None:
    with guarded.channel() as channel:
        assert code_of(call, channel, metadata) is StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_every_method_answers_with_either_token(guarded: ServerProcess, call: Call, token: str) -> None:
    with guarded.channel() as channel:
        assert call(channel, with_token(token))


def test_a_method_that_is_not_there_asks_for_a_token_too(guarded: ServerProcess) -> None:
    def unknown(channel: Any, metadata: Any) -> Any:
        return channel.unary_unary("/scoring.v1.Scoring/Nothing")(b"", metadata=metadata, timeout=SECONDS)

    with guarded.channel() as channel:
        assert code_of(unknown, channel, ()) is StatusCode.UNAUTHENTICATED
        assert code_of(unknown, channel, with_token(TOKEN)) is StatusCode.UNIMPLEMENTED


def test_health_needs_no_token(guarded: ServerProcess) -> None:
    with guarded.channel() as channel:
        assert is_healthy(channel)
    assert get(guarded.http + "/health")[0] == 200


def test_the_http_port_asks_for_a_token(guarded: ServerProcess) -> None:
    models = guarded.http + "/v1/models"
    status, headers, body = get(models)
    error = json.loads(body)["error"]
    assert (status, headers["WWW-Authenticate"], error["code"]) == (401, "Bearer", "unauthenticated")
    assert "asks for a token" in error["message"]
    assert get(models, "third")[0] == 401
    assert get(guarded.http + "/nothing")[0] == 401
    assert get(guarded.http + "/nothing", TOKEN)[0] == 404
    assert get(models, TOKEN)[0] == get(models, OTHER)[0] == 200


def test_the_metrics_port_asks_for_a_token_where_it_is_told_to(guarded: ServerProcess) -> None:
    address = f"http://127.0.0.1:{guarded.ports['metrics_port']}/metrics"
    assert get(address)[0] == get(address, "third")[0] == 401
    status, _, body = get(address, TOKEN)
    assert status == 200
    refused = [line for line in body.splitlines() if 'requests_total{code="UNAUTHENTICATED"}' in line]
    assert float(refused[0].rpartition(" ")[2]) > 0


def test_without_a_token_nothing_of_a_request_is_taken_in(guarded: ServerProcess) -> None:
    """Eight callers with 60 MB each, on either port, whatever room the connections' own windows take."""
    before = peak_bytes(guarded)
    large = pb.ScoreRequest(id="x" * LARGE)
    options = (("grpc.max_send_message_length", -1),)

    def over_grpc(_: int) -> StatusCode:
        with grpc.insecure_channel(guarded.url, options) as channel:
            return code_of(
                lambda channel, metadata: stub(channel).Score(large, metadata=metadata, timeout=SECONDS),
                channel,
                with_token("third"),
            )

    def over_http(_: int) -> int:
        return get(guarded.http + "/v1/completions", "third", b"x" * LARGE)[0]

    with ThreadPoolExecutor(8) as callers:
        assert set(callers.map(over_grpc, range(8))) == {StatusCode.UNAUTHENTICATED}
        assert set(callers.map(over_http, range(8))) == {401}
    assert peak_bytes(guarded) - before < 2 * LARGE


def peak_bytes(server: ServerProcess) -> int:
    """The most memory that a process has held so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024


def test_a_changed_file_of_tokens_counts_from_the_next_call_on(llama_folder: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    arguments = ("--model", str(llama_folder), "--token-file", str(tokens), "--http-port", "0")
    with ServerProcess(*arguments) as server, server.wait_until_serving().channel() as channel:
        models = server.http + "/v1/models"

        def taken(*candidates: str) -> list[tuple[bool, bool]]:
            return [
                (
                    code_of(get_model, channel, with_token(each)) is StatusCode.OK,
                    get(models, each)[0] == 200,
                )
                for each in candidates
            ]

        yes, no = (True, True), (False, False)
        assert taken(TOKEN, OTHER) == [yes, no]
        replace(tokens, f"{TOKEN}\n{OTHER}".encode())
        assert taken(TOKEN, OTHER) == [yes, yes]
        tokens.write_text(OTHER)
        assert taken(TOKEN, OTHER) == [no, yes]
        tokens.write_text(f"two words {TOKEN}")
        assert taken(TOKEN, OTHER) == [no, yes]
        tokens.unlink()
        assert taken(TOKEN, OTHER) == [no, yes]
        replace(tokens, TOKEN.encode())
        assert taken(TOKEN, OTHER) == [yes, no]
        server.stop()
    said = "".join(server.lines)
    assert said.count("count until it is changed again") == 2
    assert "entry 1 is no token" in said
    assert f"cannot read {tokens}: No such file" in said
    assert TOKEN not in said
    assert OTHER not in said


def test_without_a_token_file_nothing_is_asked_for(server: ServerProcess) -> None:
    with server.channel() as channel:
        assert all(call(channel, ()) for call in CALLS)
    assert get(f"http://127.0.0.1:{server.ports['metrics_port']}/metrics")[0] == 200


def test_reflection_can_be_switched_off(llama_folder: Path) -> None:
    with (
        ServerProcess("--model", str(llama_folder), "--no-reflection") as server,
        server.wait_until_serving().channel() as channel,
    ):
        assert code_of(list_services, channel, ()) is StatusCode.UNIMPLEMENTED
        assert is_healthy(channel)


# The addresses of a TLS server by what speaks at them, and the protocol that has to be agreed on.
Port = tuple[str, Sequence[str]]
PORTS: tuple[Port, ...] = (("grpc_port", ["h2"]), ("http_port", []), ("metrics_port", []))


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port[0])
def test_certificates_are_read_again_on_every_port(
    tls_server: tuple[ServerProcess, Authority], port: Port
) -> None:
    server, authority = tls_server
    first = shown(server, port, authority)
    renewed = authority.issue("server")
    second = der(renewed)
    assert shown(server, port, authority) == second != first
    # Halfway through a renewal the certificate is of another key.
    halfway = authority.issue("other")
    replace(renewed.certificate, halfway.certificate.read_bytes())
    assert shown(server, port, authority) == second
    replace(renewed.key, halfway.key.read_bytes())
    assert shown(server, port, authority) == der(halfway)


@pytest.fixture
def tls_server(llama_folder: Path, tmp_path: Path) -> Iterator[tuple[ServerProcess, Authority]]:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--metrics-tls")
    with ServerProcess("--model", str(llama_folder), "--http-port", "0", *flags) as server:
        yield server.wait_until_serving(), authority


def shown(server: ServerProcess, port: Port, authority: Authority, pair: Pair | None = None) -> bytes:
    """The certificate that a port shows; fails where it refuses ours, or takes none."""
    name, protocols = port
    context = ssl.create_default_context(cafile=str(authority.file))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    with (
        socket.create_connection(("127.0.0.1", server.ports[name]), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        found = connection.getpeercert(binary_form=True)
        assert found is not None
        if not protocols:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        if not connection.recv(1):
            raise ConnectionResetError
        return found


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port[0])
def test_a_caller_shows_a_certificate_of_the_authorities_that_are_named(
    mutual_server: tuple[ServerProcess, Authority, Path], port: Port
) -> None:
    server, authority, clients = mutual_server
    ours, others = Authority(clients.parent, "clients"), Authority(clients.parent, "others")
    mine, theirs = ours.issue("mine", "me"), others.issue("theirs", "me")
    assert shown(server, port, authority, mine)
    for refused in (None, theirs):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shown(server, port, authority, refused)
    replace(clients, others.pem)
    assert shown(server, port, authority, theirs)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown(server, port, authority, mine)


@pytest.fixture
def mutual_server(llama_folder: Path, tmp_path: Path) -> Iterator[tuple[ServerProcess, Authority, Path]]:
    """Its callers' authorities are in the file that comes with it."""
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients").file
    pair = authority.issue("server")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--tls-client-ca", str(clients))
    with ServerProcess("--model", str(llama_folder), "--http-port", "0", "--metrics-tls", *flags) as server:
        yield server.wait_until_serving(), authority, clients


def test_a_call_over_mutual_tls_with_a_token(llama_folder: Path, tmp_path: Path) -> None:
    authority, tokens = Authority(tmp_path), tmp_path / "tokens"
    pair, mine = authority.issue("server"), authority.issue("mine", "me")
    tokens.write_text(TOKEN)
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    both = ("--tls-client-ca", str(authority.file), "--token-file", str(tokens))
    with ServerProcess("--model", str(llama_folder), *flags, *both) as server:
        target = f"localhost:{server.wait_until_serving().ports['grpc_port']}"
        metrics = server.metrics()
        # A certificate of trustme's is for a year or more.
        assert min(metrics[EXPIRY.format(name)] for name in ("server", "clients")) > time.time() + 86400
        mutual = grpc.ssl_channel_credentials(authority.pem, *mine.pem)
        with grpc.secure_channel(target, mutual) as channel:
            assert code_of(score, channel, ()) is StatusCode.UNAUTHENTICATED
            assert is_healthy(channel)
            assert score(channel, with_token(TOKEN)).scores
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.pem)) as channel:
            assert code_of(score, channel, with_token(TOKEN)) is StatusCode.UNAVAILABLE


def test_the_metrics_stay_plain_where_nothing_else_is_asked(llama_folder: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    pair = Authority(tmp_path).issue("server")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--token-file", str(tokens))
    with ServerProcess("--model", str(llama_folder), *flags) as server:
        assert server.wait_until_serving().metrics()["trt_server_serving"] == 1


def test_a_certificate_that_has_expired_is_said_in_one_line(llama_folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", until=datetime.now(timezone.utc) - timedelta(days=1))
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    with ServerProcess("--model", str(llama_folder), *flags) as server:
        server.wait_until_serving()
        renewed = authority.issue("server")
        assert shown(server, PORTS[0], authority) == der(renewed)
    lines = [line for line in server.lines if "expired on" in line]
    assert len(lines) == 1
    assert str(pair.certificate) in lines[0]


WARNINGS: dict[str, tuple[list[str], str | None]] = {
    "loopback": ([], None),
    "another loopback": (["--host", "127.0.0.2"], None),
    "its name": (["--host", "localhost"], None),
    "IPv6's": (["--host", "::1"], None),
    "every address": (["--host", "0.0.0.0"], "whoever reaches 0.0.0.0 may use this server"),
    "every address of IPv6": (["--host", "::"], "whoever reaches :: may use this server"),
    "TLS alone": (["--host", "0.0.0.0", "--tls-cert", "c", "--tls-key", "k"], "whoever reaches 0.0.0.0"),
    "a token alone": (["--host", "0.0.0.0", "--token-file", "t"], "cross the network as plain text"),
    "both": (["--host", "0.0.0.0", "--token-file", "t", "--tls-cert", "c", "--tls-key", "k"], None),
    "mutual TLS": (["--host", "::", "--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"], None),
}


@pytest.mark.parametrize(("arguments", "warning"), WARNINGS.values(), ids=WARNINGS)
def test_what_is_warned_of(arguments: list[str], warning: str | None) -> None:
    said = access_warning(parse_settings(arguments))
    assert (said is None) == (warning is None)
    assert (warning or "") in (said or "")


def test_a_start_on_every_address_is_warned_of_in_one_line(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--host", "0.0.0.0") as server:
        server.wait_until_serving()
    assert len([line for line in server.lines if "may use this server" in line]) == 1


FAILED: dict[str, tuple[str, str]] = {
    "no file": ("", "cannot read {file}: No such file or directory; check --token-file"),
    "empty": ("\n\n", "--token-file {file} holds no token"),
    "two words": ("two words\n", "entry 1 is no token"),
    "not ASCII": ("größe\n", "holds what is no token"),
}


@pytest.mark.parametrize(("content", "message"), FAILED.values(), ids=FAILED)
def test_a_file_without_tokens_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "tokens"
    if content:
        file.write_text(content)
    done = run_program("trt-server", "--grpc-port", "0", "--metrics-port", "0", "--token-file", str(file))
    assert done.returncode == 1
    assert message.format(file=file) in done.stderr
    assert done.stderr.count("\n") == 1
    assert "größe" not in done.stderr


def test_a_command_may_give_the_tokens(llama_folder: Path, tmp_path: Path) -> None:
    """As `--token-file <(command)` in a shell: they are read once, and count from then on."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n{OTHER}\n")
    shell = ("bash", "-c", f'exec "$0" "$@" --token-file <(cat {tokens})')
    with ServerProcess("--model", str(llama_folder), before=shell) as server:
        with server.wait_until_serving().channel() as channel:
            for _ in range(3):
                assert get_model(channel, with_token(TOKEN))
                assert get_model(channel, with_token(OTHER))
                assert code_of(get_model, channel, with_token("third")) is StatusCode.UNAUTHENTICATED
        assert not [line for line in server.lines if "again" in line]


def test_a_named_pipe_may_give_the_tokens_later(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "tokens")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_program, "trt-server", "check", "--model", "demo", "--token-file", str(pipe))
        # This waits until the server reads it.
        pipe.write_text(f"{TOKEN}\n")
        assert done.result().returncode == 0, done.result().stderr


def test_a_pipe_that_nobody_writes_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "tokens")
    done = run_program("trt-server", "check", "--model", "demo", "--token-file", str(pipe))
    assert (done.returncode, done.stderr) == (
        1,
        f"trt-server: error: cannot read {pipe}: it is a pipe that was not written and closed in 5 s; check "
        "--token-file\n",
    )


def test_what_is_no_file_of_keys_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server")
    os.mkfifo(pipe := tmp_path / "pipe")
    (large := tmp_path / "large").touch()
    os.truncate(large, 100 * 2**30)
    for odd, why in (
        (pipe, "it is no file"),
        (large, "it holds more than 1048576 bytes"),
        (Path("/dev/zero"), "it is no file"),
        (tmp_path, "Is a directory"),
    ):
        tls = {"--tls-cert": pair.certificate, "--tls-key": pair.key}
        for flag in ("--token-file", "--tls-cert", "--tls-key", "--tls-client-ca"):
            if (flag, odd) == ("--token-file", pipe):
                continue
            files: dict[str, Path] = {flag: odd} if flag == "--token-file" else {**tls, flag: odd}
            arguments = [word for name, file in files.items() for word in (name, str(file))]
            done = run_program("trt-server", "check", "--model", "demo", *arguments)
            assert done.returncode == 1
            assert done.stderr.count("\n") == 1
            assert f"cannot read {odd}: {why}" in done.stderr


def get(address: str, token: str | None = None, body: bytes | None = None) -> tuple[int, Any, str]:
    """GET, or POST where there is a body."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body, headers), timeout=SECONDS
        ) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()
