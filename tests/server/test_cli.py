"""The command line: where settings come from, and what a mistake is answered with."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
import trustme
from checkpoints import write_checkpoint
from processes import FREE_PORTS, ServerProcess, run_program
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb
from trt_common.installed_program import program
from trt_server.command_line import parse_settings, parser

# Of other programs, and what Kubernetes says of services that are called like these.
OTHER_PROGRAMS = {
    "HOST": "there",
    "PORT": "1",
    "URL": "there:1",
    "MODEL": "other",
    "DATA": "other",
    "DEVICES": "7",
    "LIMIT": "3",
    "CONFIG": "/nowhere.yaml",
    "OUTPUT": "/nowhere",
    "THREADS": "99",
    "LOG_LEVEL": "loud",
    "TRT_SERVER_PORT": "tcp://10.96.0.7:8001",
    "TRT_SERVER_SERVICE_HOST": "10.96.0.7",
    "TRT_SERVER_SERVICE_PORT": "8001",
    "TRT_SERVER_PORT_8001_TCP": "tcp://10.96.0.7:8001",
    "TRT_SERVER_METRICS_PORT": "tcp://10.96.0.8:8002",
    "TRT_SERVER_GRPC_PORT": "tcp://10.96.0.9:8001",
}

WRONG_ARGUMENTS = {
    "no number": (["--grpc-port", "many"], "'many' is not a port, 0 to 65535"),
    "port beyond the last": (["--metrics-port", "70000"], "'70000' is not a port, 0 to 65535"),
    "no batch": (["--max-batch-size", "0"], "'0' is not a whole number from 1"),
    "unknown engine": (["--engine", "abacus"], "invalid choice: 'abacus'"),
    "unknown flag": (["--modle", "x"], "unrecognized arguments: --modle x"),
    "half of TLS": (["--tls-cert", "x.pem"], "--tls-cert and --tls-key belong together"),
    "callers' certificates without TLS": (["--tls-client-ca", "x.pem"], "--tls-client-ca is of TLS"),
    "metrics over TLS without it": (["--metrics-tls"], "--metrics-tls is of TLS"),
    "metrics for a token without one": (
        ["--metrics-token"],
        "--metrics-token asks for a token of --token-file",
    ),
    "no peak": (["--peak-flops", "-3"], "'-3' is not a number of FLOP/s above 0"),
}


@pytest.mark.parametrize(("arguments", "text"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_wrong_argument_is_one_line_and_status_2(arguments: list[str], text: str) -> None:
    done = run_program("trt-server", *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("measured_peak")
def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`VAR=` in an env file, `${VAR:-}` in a composition."""
    monkeypatch.delenv("TRT_SERVER_ENGINE")
    without = parse_settings([])
    for flag in vars(parser().parse_args([])):
        monkeypatch.setenv(f"TRT_SERVER_{flag.upper()}", " " if flag == "devices" else "")
    assert parse_settings([]) == without


def test_variables_of_other_programs_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    without = parse_settings([])
    for name, value in OTHER_PROGRAMS.items():
        monkeypatch.setenv(name, value)
    assert parse_settings([]) == without


@pytest.mark.parametrize(
    "content", ["", "# model: ./Aquila-7B\n", "model:\ntf32:\n", "model: ''\ntf32: ''\n"]
)
def test_a_config_file_of_no_values_sets_nothing(tmp_path: Path, content: str) -> None:
    config = tmp_path / "server.yaml"
    config.write_text(content)
    assert parse_settings(["--config", str(config)]) == parse_settings([])


@pytest.mark.parametrize(
    ("content", "message"),
    [("- model\n", "has to hold lines like `flag: value`"), ("a: [1", "is not YAML: ")],
)
def test_bad_config_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(content)
    done = run_program("trt-server", "--config", str(config))
    assert done.returncode == 2
    assert done.stderr.startswith(f"trt-server: error: the config file {config} {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["trt-server", "mmlu-client"])
def test_a_config_file_that_is_a_pipe_is_read_and_not_waited_for_without_end(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    done = run_program(name, "--config", str(pipe))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "it is a pipe that was not written and closed in 5 s" in done.stderr
    done = subprocess.run(
        ["bash", "-c", f"{program(name)} --config <(echo nonsense: 1)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "sets `nonsense`, which is no flag" in done.stderr


NO_PATHS = {
    "~nosuchuser/x": "the home folder that it begins with is not known",
    "x" * 300: "a name in it has 300 bytes, and 255 are the most",
    "x/" * 3000: "it has 6000 bytes, and 4095 are the most",
    "a\nb" + "c" * 300: "a name in it has 303 bytes",
}


@pytest.mark.parametrize("text", NO_PATHS, ids=range(len(NO_PATHS)))
@pytest.mark.parametrize("flag", ["--model", "--token-file", "--tls-cert", "--layers"])
def test_what_is_no_path_is_one_line_and_status_2(flag: str, text: str) -> None:
    done = run_program("trt-server", "check", flag, text)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"argument {flag}: " in done.stderr
    assert NO_PATHS[text].rpartition("6000")[2] in done.stderr
    assert len(done.stderr) < 500


@pytest.mark.parametrize("host", ["x" * 300, "a..b", "a" * 64 + ".org", ""], ids=range(4))
def test_what_is_no_host_is_one_line_and_status_2(host: str) -> None:
    done = run_program("trt-server", *FREE_PORTS, "--host", host)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "argument --host: " in done.stderr
    assert len(done.stderr) < 500


@pytest.mark.parametrize(
    "variables",
    [{"TRT_SERVER_CACHE": "~nosuchuser/x"}, {"XDG_CACHE_HOME": "x" * 300}, {"TRT_SERVER_CACHE": "x" * 300}],
    ids=str,
)
def test_a_cache_that_is_no_path_is_one_line(variables: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRT_SERVER_CACHE"}
    for words in (("cache",), ("check", "--model", "dummy:tiny")):
        done = run_program("trt-server", *words, env={**environment, **variables})
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert done.stderr.startswith(f"trt-server: error: {next(iter(variables))} is no path: ")


def test_the_home_folder_may_be_named_in_paths(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one\n")
    arguments = ("--model", "demo", "--token-file", "~/tokens")
    done = run_program("trt-server", "check", *arguments, env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr


FAILED_STARTS = {
    "no such folder": (["--model", "/nowhere/model"], "/nowhere/model"),
    "unknown geometry": (["--model", "dummy:llama-9000"], "llama-9000"),
    "precision the CPU has not": (["--engine", "onnxruntime", "--precision", "fp16"], "fp32"),
    "more tokens than positions": (
        ["--max-prompt-tokens", "1000000"],
        "--max-prompt-tokens 1000000 is more than",
    ),
    "no such host": (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1:0"),
    "no such certificate": (["--tls-cert", "/no/cert", "--tls-key", "/no/key"], "cannot read /no/key"),
}


@pytest.mark.parametrize(("arguments", "text"), FAILED_STARTS.values(), ids=FAILED_STARTS)
def test_failed_start_is_one_line_and_status_1(arguments: list[str], text: str) -> None:
    done = run_program("trt-server", *FREE_PORTS, "--log-level", "error", *arguments)
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_key_of_another_certificate_is_one_line(tmp_path: Path) -> None:
    files = ["--tls-cert", str(tmp_path / "certificate.pem"), "--tls-key", str(tmp_path / "key.pem")]
    ours, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    ours.cert_chain_pems[0].write_to_path(files[1])
    other.private_key_pem.write_to_path(files[3])
    done = run_program("trt-server", *FREE_PORTS, "--log-level", "error", *files)
    assert done.returncode == 1
    assert "are not a certificate and its key" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json does not load: "),
        ("tokenizer_config.json", "{", "tokenizer_config.json is no JSON: "),
        (
            "tokenizer_config.json",
            '{"add_bos_token": true, "bos_token": "<begin>"}',
            "the BOS '<begin>' that is to be put before every text is not in the vocabulary",
        ),
    ],
)
def test_a_broken_tokenizer_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write_checkpoint(tmp_path / "model", "llama")
    (folder / name).write_text(content)
    done = run_program("trt-server", *FREE_PORTS, "--log-level", "error", "--model", str(folder))
    assert done.returncode == 1
    assert f"the tokenizer in {folder}: {message}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["--grpc-port", "--metrics-port"])
def test_port_in_use(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = {"--grpc-port": "0", "--metrics-port": "0", flag: port}
        arguments = [text for pair in ports.items() for text in pair]
        done = run_program("trt-server", "--log-level", "error", *arguments)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: the port is in use" in done.stderr
    assert flag in done.stderr
    assert done.stderr.count("\n") == 1


UNREADABLE_CONFIGS = {
    "no YAML": "model: [demo\nprecision",
    "no flags": "- model\n- demo\n",
    "an unknown flag": "modle: demo\n",
}


@pytest.mark.parametrize("content", UNREADABLE_CONFIGS.values(), ids=UNREADABLE_CONFIGS)
def test_bad_config_file_is_one_line_and_status_2(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    done = run_program("trt-server", "--config", str(tmp_path / "bad.yaml"))
    assert done.returncode == 2
    assert done.stderr.startswith("trt-server: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("named_by", ["flag", "environment"])
def test_config_file_environment_and_flags_in_rising_order(
    llama_folder: Path, tmp_path: Path, named_by: str
) -> None:
    config = tmp_path / "server.yaml"
    config.write_text(f"model: {llama_folder}\nmax-batch-size: 3\nmax-queue-size: 30\nstream-window: 7\n")
    environment = {"TRT_SERVER_MAX_BATCH_SIZE": "4", "TRT_SERVER_MAX_QUEUE_SIZE": "40"}
    arguments = ["--max-queue-size", "50"]
    if named_by == "flag":
        arguments += ["--config", str(config)]
    else:
        environment["TRT_SERVER_CONFIG"] = str(config)
    with ServerProcess(*arguments, environment=environment) as server:
        limits = server.wait_until_serving().stub().GetModel(pb.GetModelRequest()).limits
    assert (limits.stream_window, limits.max_batch_size, limits.max_queue_size) == (7, 4, 50)


def test_peak_can_be_given(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--peak-flops", "312e12") as server:
        peak = server.wait_until_serving().stub().GetModel(pb.GetModelRequest()).peak
    assert peak.flops_per_second == 312e12
    assert peak.source == "given with --peak-flops"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_request_has_a_log_line_at_debug_only(llama_folder: Path, level: str) -> None:
    with ServerProcess("--model", str(llama_folder), "--log-level", level) as server:
        server.wait_until_serving().stub().Score(ids_request(5, id="the-one"))
        server.stop()
        records = [json.loads(line) for line in server.lines]
    lines = [record for record in records if record.get("request_id") == "the-one"]
    assert len(lines) == (1 if level == "debug" else 0)
    for record in lines:
        assert (record["message"], record["code"], record["prompts"]) == ("request", "OK", 1)


def test_a_requests_line_tells_people_as_much(llama_folder: Path) -> None:
    arguments = ("--model", str(llama_folder), "--log-level", "debug", "--log-format", "text")
    with ServerProcess(*arguments) as server:
        while (serving := re.search(r"serving on 127.0.0.1:(\d+)", "".join(server.lines))) is None:
            assert server.process.poll() is None
            time.sleep(0.1)
        server.ports["grpc_port"] = serving[1]
        stub = server.stub()
        stub.Score(ids_request(5, id="q/17"))
        stub.Score(ids_request(5, id="two words\n"))
        assert server.stop() == 0
    lines = [line for line in server.lines if " request " in line]
    assert len(lines) == 2
    told = r"Z DEBUG   request request_id=q/17 code=OK prompts=1 milliseconds=\d+\.\d\n"
    assert re.search(told, lines[0])
    assert r" request_id='two words\n' code=OK " in lines[1]
    assert not any("event=" in line for line in server.lines)


def test_a_terminal_that_cannot_show_a_name_gets_question_marks(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "größe", "llama")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "TRT_SERVER_CACHE": str(tmp_path / "cache")}
    done = run_program(
        "trt-server", "build", "--model", str(model), "--engine", "onnxruntime", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert f"its weights are in {model}".replace("ö", "?").replace("ß", "?") in done.stdout
