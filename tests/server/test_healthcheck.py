"""`python -m trt_server.healthcheck` as a container runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import trustme
from certificates import Authority
from holding_machine import HoldingMachine, occupy
from processes import ServerProcess
from waiting import wait_until


def test_a_server_that_serves_is_healthy(server: ServerProcess) -> None:
    checked = healthcheck(TRT_SERVER_GRPC_PORT=str(server.ports["grpc_port"]))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_server_that_drains_is_not_healthy_and_says_so_to_prometheus_too(
    llama_folder: Path, tmp_path: Path
) -> None:
    machine = HoldingMachine.make(tmp_path, (100,))
    with machine.start(llama_folder) as server:
        stub = server.wait_until_serving().stub()
        assert server.metrics()["trt_server_serving"] == 1
        running = occupy(machine, stub, 100)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.metrics()["trt_server_serving"] == 0)
        url = server.url.replace("127.0.0.1", "localhost")
        checked = healthcheck(TRT_SERVER_GRPC_PORT=str(server.ports["grpc_port"]))
        assert (checked.returncode, checked.stderr) == (1, f"{url}: NOT_SERVING\n")
        machine.let_go(100)
        assert running.result().scores


def test_a_server_that_is_gone_is_named_in_one_line() -> None:
    checked = healthcheck("--url", "127.0.0.1:1")
    assert checked.returncode == 1
    assert checked.stderr.startswith("127.0.0.1:1: UNAVAILABLE: ")
    assert checked.stderr.count("\n") == 1


def test_a_server_that_speaks_tls_is_asked_with_its_roots(llama_folder: Path, tmp_path: Path) -> None:
    authority, chain, key = trustme.CA(), tmp_path / "chain.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(key))
    for certificate in issued.cert_chain_pems:
        certificate.write_to_path(str(chain), append=True)
    with ServerProcess(
        "--model", str(llama_folder), "--tls-cert", str(chain), "--tls-key", str(key)
    ) as server:
        port = str(server.wait_until_serving().ports["grpc_port"])
        assert healthcheck("--tls-ca", str(tmp_path / "ca.pem"), TRT_SERVER_GRPC_PORT=port).returncode == 0
        assert healthcheck(TRT_SERVER_GRPC_PORT=port).returncode == 1


def test_a_server_of_the_same_environment_is_asked_as_it_speaks(llama_folder: Path, tmp_path: Path) -> None:
    """In a container, whose health check has the server's variables and no flags."""
    authority, tokens = Authority(tmp_path), tmp_path / "tokens"
    tokens.write_text("token")
    pair = authority.issue("server", "trt-server.example", "*.example.org")
    environment = {
        "TRT_SERVER_TLS_CERT": str(pair.certificate),
        "TRT_SERVER_TLS_KEY": str(pair.key),
        "TRT_SERVER_TLS_CLIENT_CA": str(authority.file),
        "TRT_SERVER_TOKEN_FILE": str(tokens),
    }
    with ServerProcess("--model", str(llama_folder), environment=environment) as server:
        port = {"TRT_SERVER_GRPC_PORT": str(server.wait_until_serving().ports["grpc_port"])}
        assert healthcheck(**environment, **port).returncode == 0
        mine = authority.issue("mine", "me")
        shown = ("--tls-cert", str(mine.certificate), "--tls-key", str(mine.key))
        named = ("--tls-ca", str(authority.file), "--tls-name", "any.example.org")
        assert healthcheck(*named, *shown, **port).returncode == 0
        assert healthcheck(*named, **port).returncode == 1
        assert healthcheck("--tls-ca", str(authority.file), *shown, **port).returncode == 1
        other = Authority(tmp_path, "other").issue("other", "trt-server.example")
        wrong = {**environment, "TRT_SERVER_TLS_CERT": str(other.certificate)}
        assert healthcheck(*shown, **wrong, **port).returncode == 1


def test_no_proxy_is_asked_of_a_server(server: ServerProcess) -> None:
    """Docker hands its own proxy settings in to every container, and to what asks for its health."""
    proxy = "http://127.0.0.1:9"
    settings = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    nothing = dict.fromkeys(("no_proxy", "no_grpc_proxy", "NO_PROXY"), "")
    port = str(server.ports["grpc_port"])
    assert healthcheck(TRT_SERVER_GRPC_PORT=port, **settings, **nothing).returncode == 0


def test_half_of_a_certificate_is_refused() -> None:
    checked = healthcheck("--tls-cert", "mine.pem")
    assert checked.returncode == 1
    assert checked.stderr == "--tls-cert and --tls-key belong together: give both or neither\n"


def test_roots_that_cannot_be_read_are_named() -> None:
    checked = healthcheck("--tls-ca", "no/such.pem")
    assert checked.returncode == 1
    assert (
        checked.stderr
        == "cannot read no/such.pem: No such file or directory; check --tls-ca, --tls-cert and --tls-key\n"
    )


def healthcheck(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trt_server.healthcheck", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )
