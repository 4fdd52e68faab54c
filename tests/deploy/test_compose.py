"""What Docker Compose makes of the composition: `docker compose config`, which needs no engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from dockerfile import DOCKERFILE, ROOT
from trt_common.installed_program import program

GPU = ("compose.yaml",)
CPU = ("compose.yaml", "compose.cpu.yaml")
# A variable that is set in every place where the composition takes one.
SITE = {
    "TRT_SERVER_MODEL": "/models/Aquila-7B",
    "TRT_SERVER_ENGINE": "tensorrt",
    "TRT_SERVER_MAX_QUEUE_SIZE": "64",
    "TRT_SERVER_DEVICES": "0,1",
    "GPUS": "2",
    "HF_TOKEN": "secret",
    "SOURCE_VERSION": "0.1+g0123abcde",
    "MODELS": "/data/models",
    "ACCESS": "/etc/trt-server",
    "TRT_SERVER_TOKEN_FILE": "/run/access/tokens",
    "TRT_SERVER_TLS_CERT": "/run/access/tls.crt",
    "TRT_SERVER_TLS_KEY": "/run/access/tls.key",
    "TRT_SERVER_TLS_CLIENT_CA": "/run/access/clients.crt",
    "TRT_SERVER_GRPC_PORT": "9001",
    "TRT_SERVER_METRICS_PORT": "9002",
    "PROMETHEUS_PORT": "9003",
    "PROMETHEUS_RETENTION": "90d",
    "GRAFANA_PORT": "9004",
    "GRAFANA_PASSWORD": "hard to guess",
}


# Those of them that are not set where the site does not.
PASSED_ON = {
    "TRT_SERVER_DEVICES",
    "TRT_SERVER_TOKEN_FILE",
    "TRT_SERVER_TLS_CERT",
    "TRT_SERVER_TLS_KEY",
    "TRT_SERVER_TLS_CLIENT_CA",
}


@pytest.fixture(scope="session")
def compose() -> list[str]:
    """The command; skips where it is not installed."""
    docker = shutil.which("docker")
    asked = [docker or "", "compose", "version"]
    if docker and subprocess.run(asked, capture_output=True, timeout=60).returncode == 0:
        return [docker, "compose"]
    own = Path(program("docker-compose"))
    found = str(own) if own.is_file() else shutil.which("docker-compose")
    if found is None:
        pytest.skip("Docker Compose is not installed: make compose")
    version = subprocess.run(
        [found, "version", "--short"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
    if not re.match(r"v?([3-9]|[1-9]\d+|2\.(2[4-9]|[3-9]\d))\b", version):
        pytest.skip(f"Docker Compose 2.24 or later is not installed, {version.strip() or 'an old one'} is")
    return [found]


def config(compose: list[str], variables: Mapping[str, str], files: Sequence[str] = GPU) -> Any:
    """The composition with these variables and no others of ours, as one document."""
    return json.loads(ask(compose, "--format", "json", variables=variables, files=files))


def ask(
    compose: list[str],
    *arguments: str,
    variables: Mapping[str, str],
    files: Sequence[str] = GPU,
    folder: Path = DOCKERFILE.parent,
) -> str:
    named = [word for file in files for word in ("--file", str(folder / file))]
    environment = {name: value for name, value in os.environ.items() if name not in SITE}
    done = subprocess.run(
        [*compose, *named, "config", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, **variables},
    )
    assert done.returncode == 0, done.stderr
    # What it warns of, a variable that is not set above all, is a fault of ours.
    assert not done.stderr
    return done.stdout


def test_with_nothing_set_it_is_a_gpu_with_the_bundled_model(compose: list[str]) -> None:
    services = config(compose, {})["services"]
    server = services["trt-server"]
    assert server["build"] == {
        "context": str(ROOT),
        "dockerfile": "deploy/Dockerfile",
        "target": "tensorrt",
        "args": {"SOURCE_VERSION": "0.1+unknown"},
    }
    assert server["environment"]["TRT_SERVER_MODEL"] == "demo"
    assert server["environment"]["TRT_SERVER_ENGINE"] == "auto"
    assert server["environment"].get("TRT_SERVER_DEVICES") is None
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert published(services) == {
        "trt-server": [(None, "8001", 8001), ("127.0.0.1", "8002", 8002)],
        "prometheus": [("127.0.0.1", "9090", 9090)],
        "grafana": [("127.0.0.1", "3000", 3000)],
    }
    models = next(each for each in server["volumes"] if each["target"] == "/models")
    assert (models["type"], models["read_only"]) == ("volume", True)


def test_what_a_site_sets_arrives(compose: list[str]) -> None:
    services = config(compose, SITE)["services"]
    server = services["trt-server"]
    names = [name for name in SITE if name.startswith("TRT_SERVER") and not name.endswith("PORT")]
    assert {name: server["environment"][name] for name in names} == {name: SITE[name] for name in names}
    assert server["environment"]["HF_TOKEN"] == "secret"
    assert server["build"]["args"] == {"SOURCE_VERSION": SITE["SOURCE_VERSION"]}
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == 2
    assert published(services) == {
        "trt-server": [(None, "9001", 8001), ("127.0.0.1", "9002", 8002)],
        "prometheus": [("127.0.0.1", "9003", 9090)],
        "grafana": [("127.0.0.1", "9004", 3000)],
    }
    models = next(each for each in server["volumes"] if each["target"] == "/models")
    assert (models["type"], models["source"]) == ("bind", "/data/models")
    access = next(each for each in server["volumes"] if each["target"] == "/run/access")
    assert (access["type"], access["source"], access["read_only"]) == ("bind", "/etc/trt-server", True)
    assert "--storage.tsdb.retention.time=90d" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "hard to guess"


def test_a_file_beside_it_sets_the_same(compose: list[str], tmp_path: Path) -> None:
    for file in CPU:
        shutil.copy(DOCKERFILE.parent / file, tmp_path)
    (tmp_path / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in SITE.items()))
    by_file = ask(compose, "--no-path-resolution", variables={}, folder=tmp_path)
    assert by_file == ask(compose, "--no-path-resolution", variables=SITE)


@pytest.mark.parametrize("site", [{}, SITE], ids=["unset", "set"])
def test_without_a_gpu_all_else_stays(compose: list[str], site: dict[str, str]) -> None:
    gpu, cpu = config(compose, site), config(compose, site, files=CPU)
    server = cpu["services"]["trt-server"]
    assert "nvidia" not in json.dumps(cpu)
    assert (server["image"], server["build"]["target"]) == ("trt-server:cpu", "cpu")
    for composition, target in ((gpu, "tensorrt"), (cpu, "cpu")):
        changed = composition["services"]["trt-server"]
        assert changed.pop("image") == f"trt-server:{target}"
        assert changed["build"].pop("target") == target
        changed.pop("deploy", None)
    assert gpu == cpu


def test_the_documentation_names_every_variable(compose: list[str]) -> None:
    """But those that are only passed on, which Compose does not list."""
    lines = ask(compose, "--variables", variables={}).splitlines()[1:]
    taken = {line.split()[0] for line in lines} | PASSED_ON
    assert taken == SITE.keys()
    page = (ROOT / "docs" / "deploying.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    # Variables have capitals; other tables of the page name other things.
    assert {name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]*)`", row)} == taken


def published(services: dict[str, Any]) -> dict[str, list[tuple[str | None, str, int]]]:
    return {
        name: [(port.get("host_ip"), port["published"], port["target"]) for port in service["ports"]]
        for name, service in services.items()
    }
