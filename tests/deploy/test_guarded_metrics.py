"""The lines that the configuration of Prometheus has for servers whose metrics are protected."""

from __future__ import annotations

from pathlib import Path

from certificates import Authority
from processes import ServerProcess

from tools.watching.prometheus import CONFIGURATION, Prometheus

SITE = "/etc/trt-server/"
REMARK = "    # "
FIRST, LAST = "scheme: https", "authorization: "


def test_prometheus_scrapes_over_tls_with_a_token(
    promtool: str,  # noqa: ARG001
    llama_folder: Path,
    tmp_path: Path,
) -> None:
    authority, tokens = Authority(tmp_path, "ca"), tmp_path / "tokens"
    pair = authority.issue("server", "trt-server")
    tokens.write_text("of-somebody-else\nof-prometheus\n")
    (tmp_path / "metrics-token").write_text("of-prometheus\n")
    flags = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--token-file", str(tokens)]
    with ServerProcess("--model", str(llama_folder), *flags, "--metrics-tls", "--metrics-token") as server:
        ports = server.wait_until_serving().ports
        targets = {"servers": [f"127.0.0.1:{ports['metrics_port']}"], "clients": []}
        prometheus = Prometheus(tmp_path, targets)
        file = tmp_path / "prometheus" / "prometheus.yml"
        file.write_text(with_remarked_lines(file.read_text(), tmp_path))
        with prometheus:
            prometheus.wait_for('up{job="trt-server"} == 1')
            prometheus.wait_for("trt_server_certificate_expiry_timestamp_seconds - time() > 86400")


def with_remarked_lines(configuration: str, folder: Path) -> str:
    """The configuration with those lines in force, and a site's files in this folder."""
    lines = configuration.splitlines()
    remarked = [line.removeprefix(REMARK) for line in lines]
    first = next(number for number, line in enumerate(remarked) if line.startswith(FIRST))
    last = next(number for number, line in enumerate(remarked) if line.startswith(LAST))
    for number in range(first, last + 1):
        assert lines[number].startswith(REMARK)
        changed = lines[number].replace(REMARK, "    ")
        lines[number] = changed.replace(SITE, f"{folder}/").replace("ca.crt", "ca.pem")
    return "\n".join(lines) + "\n"


def test_the_lines_are_not_in_force() -> None:
    assert f"\n{REMARK}{FIRST}\n" in (CONFIGURATION / "prometheus.yml").read_text()
