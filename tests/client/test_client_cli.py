"""The command line: where flags come from, what is refused, what a run leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from client_process import ClientProcess, client, command, the_error
from double import Double
from mmlu import rows, write_benchmark, write_csv
from mmlu_client.config.command_line import run_parser
from mmlu_client.config.reading import settings_from
from run_files import records
from tokenizer_kinds import byte_level, tokenizer_files

from tools.free_port import free_port

TOKENIZER = tokenizer_files(byte_level())

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
    "MMLU_CLIENT_PORT": "tcp://10.96.0.7:8001",
    "MMLU_CLIENT_SERVICE_HOST": "10.96.0.7",
    "MMLU_CLIENT_SERVICE_PORT": "8001",
    "MMLU_CLIENT_PORT_8001_TCP": "tcp://10.96.0.7:8001",
    "MMLU_CLIENT_METRICS_PORT": "tcp://10.96.0.8:8002",
}


@dataclass(frozen=True)
class Tls:
    key: Path
    certificate: Path
    authority: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for localhost, made now, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    made = Tls(folder / "key.pem", folder / "certificate.pem", folder / "authority.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(made.key)
    issued.cert_chain_pems[0].write_to_path(made.certificate)
    authority.cert_pem.write_to_path(made.authority)
    return made


def test_flags_come_from_file_environment_and_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("bs: 2\nlimit: 3\nfew-shots: 1\nsubjects: [alpha, beta]\n")
    monkeypatch.setenv("MMLU_CLIENT_LIMIT", "4")
    monkeypatch.setenv("MMLU_CLIENT_FEW_SHOTS", "2")
    settings = settings_from(["--config", str(config), "--few-shots", "0"])
    assert (settings.batch_size, settings.limit, settings.few_shots) == (2, 4, 0)
    assert settings.subjects == ("alpha", "beta")


def test_config_file_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("bs: 7\n")
    monkeypatch.setenv("MMLU_CLIENT_CONFIG", str(config))
    assert settings_from([]).batch_size == 7


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`VAR=` in an env file, `${VAR:-}` in a composition."""
    without = settings_from([])
    for flag in vars(run_parser().parse_args([])):
        monkeypatch.setenv(f"MMLU_CLIENT_{flag.upper()}", " " if flag == "limit" else "")
    assert settings_from([]) == without


def test_variables_of_other_programs_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    without = settings_from([])
    for name, value in OTHER_PROGRAMS.items():
        monkeypatch.setenv(name, value)
    assert settings_from([]) == without


@pytest.mark.parametrize(
    "content", ["", "# bs: 7\n", "---\n", "bs:\nvalidate:\nsubjects:\n", "bs: ''\nvalidate: ''\n"]
)
def test_a_config_file_of_no_values_sets_nothing(tmp_path: Path, content: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(content)
    assert settings_from(["--config", str(config)]) == settings_from([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- bs\n", "has to hold lines like `flag: value`"),
        (b"bs 7\n", "has to hold lines like `flag: value`"),
        (b"bs: [1\nlimit", "is not YAML: "),
        (b"\xff\xfeb\x00s\x00", "is not YAML: "),
    ],
)
def test_bad_config_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    config = tmp_path / "bad.yaml"
    config.write_bytes(content)
    result = command("--config", config)
    assert result.returncode == 2
    assert the_error(result).startswith(f"the config file {config} {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bs", "0"], "argument --bs: '0' is not a whole number from 1"),
        (["--bs", "two"], "argument --bs: 'two' is not"),
        (["--limit", "-1"], "argument --limit: '-1' is not"),
        (["--few-shots", "-1"], "argument --few-shots: '-1' is not a whole number from 0"),
        (["--server-timeout", "nan"], "argument --server-timeout: 'nan' is not a number of seconds"),
        (["--prompt-format", "helm"], "argument --prompt-format: invalid choice: 'helm'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--config", "/"], "Unable to open config file: /. Error: [Errno 21] Is a directory"),
        (["--url", "ws://localhost:8001"], "use grpc://localhost:8001"),
        (["--data", "/nowhere"], "--data /nowhere: no such folder"),
        (["--data", "./mmlu"], "--data ./mmlu: no such folder"),
        (["--data", "a/../b"], "--data a/../b: no such folder"),
        (["--data", "cais/mmlu/"], "--data cais/mmlu/: no such folder"),
        (["--data", "a/b."], "--data a/b.: no such folder"),
        (["--subjects", "nonsense"], "no subject 'nonsense' in demo"),
        (["--goodput", "speed:5"], "argument --goodput: 'speed' is none of latency, tokenize"),
        (["--goodput", "latency"], "argument --goodput: 'latency' is not KEY:MS, like latency:200"),
        (["--subjects", ""], "--subjects names none: leave it away to ask all"),
        (["--goodput", "core:fast"], "argument --goodput: 'fast' is not a number of milliseconds"),
        (["--sweep", "bs=1,2"], "argument --sweep: 'bs=1,2' is not like concurrency=1,2,4"),
        (["--sweep", "concurrency=0"], "argument --sweep: '0' is not a whole number from 1"),
        (["--early-stop", "2"], "argument --early-stop: '2' is not a width between 0 and 1"),
        (["--request-rate", "0"], "argument --request-rate: '0' is not a number of requests a second"),
        (
            ["--benchmark-duration", "0"],
            "argument --benchmark-duration: '0' is not a number of seconds above",
        ),
        (
            ["--benchmark-duration", "1e300"],
            "argument --benchmark-duration: '1e300' is not a number of seconds above 0, below 1e+09",
        ),
        (
            ["--request-timeout", "1e-300"],
            "argument --request-timeout: '1e-300' is not a number of seconds above 0, from 0.001",
        ),
        (
            ["--request-rate", "1e-300"],
            "argument --request-rate: '1e-300' is not a number of requests a second above 0, from 1e-06",
        ),
        (
            ["--sweep", "request-rate=1,1e300"],
            "argument --sweep: '1e300' is not a number of requests a second",
        ),
        (["--early-stop", "1e-300"], "argument --early-stop: '1e-300' is not a width between 0 and 1"),
        (["--goodput", "latency:1e300"], "'1e300' is not a number of milliseconds above 0, below 1e+12"),
        (
            ["--warmup-request-count", str(2**70)],
            f"'{2**70}' is not a whole number from 0 to 2147483647",
        ),
        (["--bs", str(2**31 - 1)], f"'{2**31 - 1}' is not a whole number from 1 to 1000000"),
        (["--concurrency", str(2**31 - 1)], f"'{2**31 - 1}' is not a whole number from 1 to 1000000"),
        (["--few-shots", "9" * 5000], f"'{'9' * 50}'… is not a whole number from 0 to 2147483647 (see"),
        (["--random-seed", "9" * 5000], f"'{'9' * 50}'… is not a whole number from 0 to {2**128 - 1} (see"),
        (["--metrics-port", "70000"], "argument --metrics-port: '70000' is not a port"),
        (["--arrival-pattern", "constant"], "--arrival-pattern is of an open loop: give --request-rate too"),
        (
            ["--arrival-pattern", "poisson", "--sweep", "concurrency=1"],
            "--arrival-pattern is of an open loop",
        ),
        (["--tls-ca", __file__], "--tls-ca is of servers that speak TLS: write grpcs://host:port"),
        (["--metrics-host", "0.0.0.0"], "--metrics-host is of metrics: give --metrics-port too"),
        (["--resume", "/nowhere"], "/nowhere holds no run: cannot read manifest.json"),
        (["--resume", "/nowhere", "--output", "/there"], "/nowhere holds no run"),
        (["--few-shots", "6"], "5 dev questions, --few-shots asks for 6"),
        (["--output", __file__], "is not a folder"),
        (["--url", "grpcs://localhost:1", "--tls-ca", "/nowhere.pem"], "cannot read --tls-ca /nowhere.pem"),
        (["--url", "grpcs://localhost:1", "--tls-ca", __file__], "holds no certificate"),
    ],
)
def test_bad_argument_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = command(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert message in the_error(result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("/nowhere", "--tokenizer /nowhere: no such folder (nor is it a hub id like org/name)"),
        ("./nowhere", "--tokenizer ./nowhere: no such folder (nor is it a hub id like org/name)"),
        ("a/..", "--tokenizer a/..: no such folder (nor is it a hub id like org/name)"),
        ("data", "--tokenizer data holds no tokenizer (tokenizer.json, or the like)"),
        ("data/test/alpha_test.csv", "--tokenizer data/test/alpha_test.csv is not a folder"),
        ("broken", "cannot load --tokenizer broken: "),
    ],
)
def test_bad_tokenizer_is_one_line(tmp_path: Path, tokenizer: str, message: str) -> None:
    write_benchmark(tmp_path / "data", {"alpha": 1})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    with Double(TOKENIZER) as double:
        result = command("--url", double.url, "--data", "data", "--tokenizer", tokenizer, folder=tmp_path)
    assert result.returncode == 2
    assert the_error(result).startswith(message)


def test_flags_beside_what_they_are_of_are_taken() -> None:
    open_loop = settings_from(["--arrival-pattern", "constant", "--sweep", "request-rate=5,10"])
    assert {plan.pattern for plan in open_loop.sweep} == {"constant"}
    settings = settings_from(
        [
            "--url",
            "a:1,dns:///grpcs://b:2",
            "--tls-ca",
            "ca.pem",
            "--metrics-port",
            "0",
            "--metrics-host",
            "::",
        ]
    )
    assert (settings.tls_ca, settings.metrics_host) == (Path("ca.pem"), "::")
    settings = settings_from(["--request-rate", "5", "--metrics-port", "0"])
    assert (settings.load.pattern, settings.metrics_host) == ("poisson", "127.0.0.1")


def test_broken_data_is_one_line(tmp_path: Path) -> None:
    write_benchmark(tmp_path, {"alpha": 2})
    write_csv(tmp_path / "test" / "alpha_test.csv", [*rows(1, "alpha"), ("q", "a", "b", "c", "D")])
    result = command("--data", tmp_path)
    assert result.returncode == 2
    assert "alpha_test.csv:2: 5 columns" in the_error(result)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    result = command("--url", f"localhost:{free_port()}", "--server-timeout", "0.5", folder=tmp_path)
    assert result.returncode == 1
    assert "within 0.5 s" in the_error(result)
    assert "start trt-server" in the_error(result)
    assert not list(tmp_path.iterdir())


def test_a_server_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    running = ClientProcess("--url", f"localhost:{port}", "--limit", "1", "--output", tmp_path / "run")
    running.wait_for("waiting up to 60 s")
    with Double(TOKENIZER, port=port, max_prompt_tokens=10**6):
        result = running.finish()
    assert result.returncode == 0, result.stderr


def test_tls_round_trip(tmp_path: Path, tls: Tls) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 1})
    with Double(TOKENIZER, tls=(tls.key, tls.certificate)) as double:
        result = client(
            "--url",
            f"grpcs://{double.url}",
            "--tls-ca",
            tls.authority,
            "--data",
            data,
            "--output",
            tmp_path / "run",
        )
    assert result.returncode == 0, result.stderr


def test_tls_to_every_address_of_a_name(tmp_path: Path, tls: Tls) -> None:
    """The certificate is the name's, whatever address is spoken to."""
    data = write_benchmark(tmp_path / "data", {"alpha": 1})
    with Double(TOKENIZER, tls=(tls.key, tls.certificate)) as double:
        result = client(
            "--url", f"dns:///grpcs://{double.url}", "--tls-ca", tls.authority, "--data", data,
            "--output", tmp_path / "run",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (record,) = records(tmp_path / "run")
    assert record["server"] in (f"127.0.0.1:{double.port}", f"[::1]:{double.port}")


def test_plaintext_to_a_tls_server(tmp_path: Path, tls: Tls) -> None:
    with Double(TOKENIZER, tls=(tls.key, tls.certificate)) as double:
        result = command("--url", double.url, folder=tmp_path)
    assert result.returncode == 1
    assert f"speaks TLS: use --url grpcs://{double.url}" in the_error(result)


def test_tls_to_a_plaintext_server(tmp_path: Path) -> None:
    with Double(TOKENIZER) as double:
        result = command("--url", f"grpcs://{double.url}", folder=tmp_path)
    assert result.returncode == 1
    assert f"does not speak TLS: use --url grpc://{double.url}" in the_error(result)


def test_certificate_that_is_not_trusted(tmp_path: Path, tls: Tls) -> None:
    with Double(TOKENIZER, tls=(tls.key, tls.certificate)) as double:
        result = command("--url", f"grpcs://{double.url}", folder=tmp_path)
    assert result.returncode == 1
    assert "is not trusted" in the_error(result)
    assert "--tls-ca FILE" in the_error(result)


def test_the_files(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 2, "beta": 2}), tmp_path / "run"
    notice = "random weights: accuracy is chance"
    with Double(TOKENIZER, notice=notice) as double:
        result = client(
            "run", "--url", double.url, "--data", data, "--output", output,
            "--subjects", "beta", "--few-shots", "2",
            "--prompt-format", "lm-eval",
        )  # fmt: skip
        again = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in output.iterdir()) == [
        "device.jsonl", "manifest.json", "records.jsonl", "report.html", "summary.json", "summary.md",
    ]  # fmt: skip
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["data"]["subjects"] == ["beta"]
    assert len(manifest["data"]["sha256"]) == 64
    assert (manifest["prompt_format"], manifest["few_shots"], manifest["bs"]) == ("lm-eval", 2, 1)
    assert manifest["model"]["fingerprint"] == "model-1"
    assert manifest["engine"]["fingerprint"] == "engine-1"
    assert manifest["peak"] == {"flops_per_second": 1e9, "source": "made up"}
    assert manifest["command_line"][:3] == ["mmlu-client", "run", "--url"]
    assert "--few-shots" in manifest["command_line"]
    page = (output / "summary.md").read_text()
    assert page.startswith("| tool")
    # Wherever an accuracy stands, what its reader has to know stands beside it.
    lines = (page + result.stderr + result.stdout).splitlines()
    shown = [line for line in lines if "acc" in line and "tool" not in line and "acc*:" not in line]
    assert shown
    assert all("random weights" in line for line in shown if "| acc " not in line)
    assert again.returncode == 2
    assert "holds a run already" in the_error(again)


def test_without_output_the_folder_is_named_by_the_time(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 1})
    with Double(TOKENIZER) as double:
        result = command("--url", double.url, "--data", data, folder=tmp_path)
    (folder,) = (tmp_path / "results").iterdir()
    assert f"written to results/{folder.name}" in result.stdout
    assert (folder / "summary.json").is_file()
