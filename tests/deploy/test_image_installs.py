"""Each install step of the image's targets, in a clean virtual environment on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import ROOT, copy_into_context, instructions

from tools.free_port import free_port

# Which target's steps are run: "cpu", or "all" for those of the TensorRT target too.
INSTALLS = "TRT_SERVER_TEST_INSTALLS"
# Servers that tests start would warn of it: it is none of theirs.
ASKED = os.environ.pop(INSTALLS, "")
# As --build-arg gives it.
SOURCE_VERSION = "0.1+g0123abcde"
# What TensorRT's packages say where NVIDIA's own index, which has the libraries, is out of reach.
UNREACHABLE = "special placeholder package"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the build stage: the context that .dockerignore leaves, then the RUN lines."""
    if not ASKED:
        pytest.skip(
            f"takes a minute and the network: set {INSTALLS}=cpu, or =all for the TensorRT target too"
        )
    folder = tmp_path_factory.mktemp("build")
    source, environment = folder / "source", folder / "venv"
    source.mkdir()
    for line in (line for line in instructions() if line.stage == "build"):
        if line.name == "COPY":
            *names, target = line.text.split()
            for name in names:
                copy_into_context(ROOT / name, source / target / (name if target == "./" else ""))
        elif line.name == "RUN":
            command = line.text.replace("/opt/venv", str(environment))
            run(command, source, path=environment / "bin", SOURCE_VERSION=SOURCE_VERSION)
    return environment


@pytest.fixture(scope="module")
def cuda() -> Path:
    """The CUDA toolkit's folder; skips where there is none."""
    if ASKED != "all":
        pytest.skip(f"pycuda is compiled, which takes minutes: set {INSTALLS}=all")
    if (compiler := shutil.which("nvcc")) is None:
        pytest.skip("pycuda is compiled against the CUDA toolkit's headers, and there is no nvcc")
    told = subprocess.run(
        [compiler, "--dryrun", "-x", "cu", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stderr
    found = re.search(r"^#\$ TOP=(.+)$", told, re.MULTILINE)
    assert found is not None, told
    return Path(found[1]).resolve()


@pytest.fixture(scope="module")
def wheels(cuda: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pycuda stage leaves. Its packages of the distribution are this machine's."""
    folder = tmp_path_factory.mktemp("pycuda")
    packages, wheel = (line.text for line in instructions() if (line.stage, line.name) == ("pycuda", "RUN"))
    setting = packages.rpartition("&&")[2].replace("/etc/aksetup", f"{folder}/.aksetup")
    run(setting, folder)
    home = {"HOME": str(folder), "LIBRARY_PATH": str(driver_library(folder))}
    command = wheel.replace("python3", str(built / "bin" / "python")).replace("/wheels", f"{folder}/wheels")
    run(command, folder, path=cuda / "bin", **home)
    return folder / "wheels"


def test_the_cpu_target_is_whole_and_serves(built: Path, tmp_path: Path) -> None:
    assert not list(built.glob("lib/python*/site-packages/torch")), "the server needs no PyTorch"
    assert_consistent(built)
    for name in ("trt-server", "mmlu-client"):
        told = subprocess.run(
            [built / "bin" / name, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
        assert told.stdout == f"{name} {SOURCE_VERSION}\n"
    assert_serves(built / "bin", tmp_path)


def test_pycuda_needs_the_drivers_library_alone(wheels: Path, tmp_path: Path) -> None:
    (wheel,) = wheels.glob("pycuda-*.whl")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    (driver,) = tmp_path.glob("pycuda/_driver*.so")
    needed = subprocess.run(
        ["readelf", "-d", driver], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    libraries = re.findall(r"\(NEEDED\).*\[(.+)\]", needed)
    assert {name for name in libraries if name.startswith(("libcu", "libnv"))} <= {"libcuda.so.1"}


def test_the_tensorrt_target_has_all_but_tensorrt(built: Path, wheels: Path, tmp_path: Path) -> None:
    """Whose packages have a test of their own: they may be out of reach."""
    without = install_tensorrt(built, wheels, tmp_path, tensorrt="")
    assert without.returncode == 0, without.stderr
    assert_consistent(built)
    assert "no TensorRT in this Python" in refused_start(built, tmp_path)


def test_the_tensorrt_target_is_whole(built: Path, wheels: Path, cuda: Path, tmp_path: Path) -> None:
    version = json.loads((cuda / "version.json").read_text()) if (cuda / "version.json").is_file() else None
    told = version["cuda"]["version"] if version else cuda.name.rpartition("-")[2]
    (default,) = (line.text for line in instructions() if line.text.startswith("TENSORRT="))
    package = default.partition("=")[2].strip('"').replace("cu12", f"cu{told.partition('.')[0]}")
    done = install_tensorrt(built, wheels, tmp_path, tensorrt=package)
    if UNREACHABLE in done.stdout + done.stderr:
        pytest.skip(
            "TensorRT's libraries lie in NVIDIA's own package index, which cannot be reached from here"
        )
    assert done.returncode == 0, done.stderr
    assert_consistent(built)
    if not Path("/dev/nvidiactl").exists():
        assert "no NVIDIA driver" in refused_start(built, tmp_path)


def install_tensorrt(
    built: Path, wheels: Path, folder: Path, tensorrt: str
) -> subprocess.CompletedProcess[str]:
    """The last RUN of the stage; tensorrt: what it takes by that name, empty: leave it out."""
    (line,) = (line.text for line in instructions() if (line.stage, line.name) == ("build-tensorrt", "RUN"))
    command = line.replace("/wheels", str(wheels))
    if not tensorrt:
        assert '"${TENSORRT}" ' in command
        command = command.replace('"${TENSORRT}" ', "")
    path = f"{built / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TENSORRT": tensorrt}
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )


def refused_start(built: Path, folder: Path) -> str:
    """The one line of a server that is to take TensorRT and cannot."""
    done = subprocess.run(
        [built / "bin" / "trt-server", "--engine", "tensorrt", "--grpc-port", "0", "--metrics-port", "0"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TRT_SERVER_LOG_LEVEL": "error", "HOME": str(folder)},
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


def assert_consistent(built: Path) -> None:
    packages = subprocess.run(
        [built / "bin" / "pip", "check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert packages.returncode == 0, packages.stdout


def assert_serves(bin_: Path, folder: Path) -> None:
    """The entry point, and the health check until it is content, where the sources are not at hand."""
    ports = {f"TRT_SERVER_{port}_PORT": str(free_port()) for port in ("GRPC", "METRICS")}
    environment = {"PATH": f"{bin_}:/usr/bin:/bin", "TRT_SERVER_CACHE": str(folder / "cache"), **ports}
    commands = {line.name: line.text for line in instructions() if line.stage == "runtime"}
    check = json.loads(commands["HEALTHCHECK"].partition("CMD ")[2])
    with subprocess.Popen(json.loads(commands["ENTRYPOINT"]), cwd=folder, env=environment) as server:
        try:
            while subprocess.run(
                check, cwd=folder, env=environment, capture_output=True, timeout=60
            ).returncode:
                assert server.poll() is None, "the server ended"
        finally:
            server.terminate()
    assert server.returncode == 0


def driver_library(folder: Path) -> Path:
    """A folder with something to link as the driver's library, as the image's own toolkit brings it."""
    stubs = folder / "stubs"
    stubs.mkdir()
    link = ["cc", "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o"]
    subprocess.run([*link, str(stubs / "libcuda.so")], check=True, timeout=60)
    return stubs


def run(command: str, folder: Path, path: Path | None = None, **variables: str) -> None:
    """As RUN does it; path: what goes before all else."""
    before = f"{path}:" if path else ""
    environment = {**os.environ, "PATH": f"{before}{os.environ['PATH']}", **variables}
    subprocess.run(command, shell=True, check=True, cwd=folder, env=environment, timeout=840)
