"""Names that are nearly right, in a config file, in the environment and on the command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from processes import FREE_PORTS, ServerProcess, run_program

SERVER, CLIENT = "trt-server", "mmlu-client"

CONFIG_KEYS = {
    "server, two letters": (SERVER, "modle: demo", "modle", "model"),
    "server, without a value": (SERVER, "tf23:", "tf23", "tf32"),
    "server, the name of a variable": (SERVER, "max_queue_size: 3", "max_queue_size", "max-queue-size"),
    "server, beside a right one": (SERVER, "model: demo\ntargts: sm80", "targts", "target"),
    "client, a letter": (CLIENT, "limt: 3", "limt", "limit"),
    "client, the name of a variable": (CLIENT, "few_shots: 3", "few_shots", "few-shots"),
    "client, a list": (CLIENT, "subject: [alpha, beta]", "subject", "subjects"),
    "client, beside a right one": (CLIENT, "bs: 2\ngoodputs: core:5", "goodputs", "goodput"),
}

# What Kubernetes says of services called trt-server, trt-server-metrics, mmlu-client and mmlu-client-metrics.
LINKS = {
    f"{prefix}{name}": value
    for prefix in ("TRT_SERVER", "TRT_SERVER_METRICS", "MMLU_CLIENT", "MMLU_CLIENT_METRICS")
    for name, value in {
        "_SERVICE_HOST": "10.96.0.7",
        "_SERVICE_PORT": "8001",
        "_SERVICE_PORT_GRPC": "8001",
        "_PORT": "tcp://10.96.0.7:8001",
        "_PORT_8001_TCP": "tcp://10.96.0.7:8001",
        "_PORT_8001_TCP_PROTO": "tcp",
        "_PORT_8001_TCP_PORT": "8001",
        "_PORT_8001_TCP_ADDR": "10.96.0.7",
    }.items()
}


def run_with(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_program(program, *arguments, env={**os.environ, **variables})


@pytest.mark.parametrize(("program", "content", "key", "near"), CONFIG_KEYS.values(), ids=CONFIG_KEYS)
def test_a_misspelt_key_names_the_file_and_the_nearest_flag(
    tmp_path: Path, program: str, content: str, key: str, near: str
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(content)
    done = run_program(program, "--config", str(config))
    assert done.returncode == 2
    assert done.stderr == (
        f"{program}: error: the config file {config} sets `{key}`, which is no flag that a file can set: "
        f"did you mean {near}? (see {program} --help)\n"
    )


@pytest.mark.parametrize("program", [SERVER, CLIENT])
@pytest.mark.parametrize("key", ["abacus", "config", "help"])
def test_a_key_that_is_near_nothing_names_the_file(tmp_path: Path, program: str, key: str) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(f"{key}: other.yaml\n")
    done = run_program(program, "--config", str(config))
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"{program}: error: the config file {config} sets `{key}`, which is no flag"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "flag", "near"),
    [
        (SERVER, "--modle", "--model"),
        (CLIENT, "--few_shots=3", "--few-shots"),
        (CLIENT, "--limt=3", "--limit"),
    ],
)
def test_a_misspelt_flag_names_the_nearest(program: str, flag: str, near: str) -> None:
    done = run_program(program, flag)
    assert done.returncode == 2
    assert done.stderr == (
        f"{program}: error: unrecognized arguments: {flag}: did you mean {near}? (see {program} --help)\n"
    )


def test_a_client_warns_of_a_misspelt_variable_once(tmp_path: Path) -> None:
    variables = {"MMLU_CLIENT_LIMT": "3", "MMLU_CLIENT_ABACUS": "1", "MMLU_CLIENT_EMPTY": "", **LINKS}
    done = run_with(CLIENT, "--data", str(tmp_path / "nowhere"), **variables)
    assert done.returncode == 2
    *warnings, error = done.stderr.splitlines()
    assert warnings == [
        "mmlu-client: the variable MMLU_CLIENT_ABACUS is none of mmlu-client's and sets nothing",
        "mmlu-client: the variable MMLU_CLIENT_LIMT is none of mmlu-client's and sets nothing: "
        "did you mean MMLU_CLIENT_LIMIT?",
    ]
    assert error.startswith("mmlu-client: error: --data ")


def test_a_server_warns_of_a_misspelt_variable_in_its_log(tmp_path: Path) -> None:
    """And of nothing that it, its cache or its health check reads, nor of what Kubernetes sets."""
    variables = {
        "TRT_SERVER_MODLE": "demo",
        "TRT_SERVER_EMPTY": "",
        "TRT_SERVER_CACHE": str(tmp_path / "cache"),
        "TRT_SERVER_DRAIN_TIMEOUT": "5",
        "TRT_SERVER_GRPC_PORT": "0",
        **LINKS,
    }
    with ServerProcess("--model", str(tmp_path / "nowhere"), environment=variables) as server:
        assert server.wait() == 1
        lines = [line for line in server.lines if "the variable" in line]
    (line,) = lines
    assert '"level": "WARNING"' in line
    assert "the variable TRT_SERVER_MODLE is none of trt-server's and sets nothing" in line
    assert "did you mean TRT_SERVER_MODEL?" in line


def test_a_build_and_the_cache_warn_too(tmp_path: Path) -> None:
    variables = {
        "TRT_SERVER_CAHCE": "/there",
        "XDG_CACHE_HOME": str(tmp_path),
        "TRT_SERVER_CACHE": "",
        **LINKS,
    }
    told = (
        "the variable TRT_SERVER_CAHCE is none of trt-server's and sets nothing: "
        "did you mean TRT_SERVER_CACHE?"
    )
    listed = run_with(SERVER, "cache", **variables)
    assert (listed.returncode, listed.stderr) == (0, f"trt-server: {told}\n")
    built = run_with(SERVER, "build", *FREE_PORTS, "--model", str(tmp_path / "nowhere"), **variables)
    assert built.returncode == 1
    assert built.stderr.count(told) == 1
