"""Memory and disk, asked for before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from checkpoints import edit_config, write_checkpoint
from fake_gpu_machine import gpu_machine
from hub import Hub
from processes import FREE_PORTS, ServerProcess, run_program
from small_disk import small_disk
from trt_common.installed_program import program
from trt_common.model.geometry import read_geometry
from trt_server.devices.memory import host_memory
from trt_server.model.dummy import GEOMETRIES

MIB = 2**20
V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"
# 66 PB in fp32: beyond any machine's memory.
HUGE = {**GEOMETRIES["llama-2-7b"], "vocab_size": 2_000_000_000}


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that is no log; fails where there are others."""
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    return lines[0].removeprefix("trt-server: error: ")


def start(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "TRT_SERVER_CACHE": str(cache), **environment}
    return run_program("trt-server", *FREE_PORTS, *arguments, env=variables)


def too_large() -> str:
    """The smallest geometry whose weights this machine's memory cannot hold."""
    total = psutil.virtual_memory().total
    for name, config in sorted(GEOMETRIES.items(), key=lambda each: read_geometry(each[1]).total_parameters):
        if 4 * read_geometry(config).total_parameters > total:
            return name
    pytest.skip("this machine's memory holds every geometry")


# Memory.


def test_random_weights_that_no_memory_holds_are_not_written(tmp_path: Path) -> None:
    name = too_large()
    error = the_error(start(tmp_path / "cache", "--model", f"dummy:{name}"))
    needed = 4 * read_geometry(GEOMETRIES[name]).total_parameters / 2**30
    assert f"{needed:.4g} GiB for weights in fp32" in error
    assert f"do not fit into the {host_memory().total / 2**30:.4g} GiB of memory of " in error
    assert error.endswith("take a smaller model or a machine with more")
    assert not (tmp_path / "cache").exists()


def test_a_checkpoint_that_no_memory_holds_is_not_converted(tmp_path: Path) -> None:
    """Its configuration decides, before its weights are looked at."""
    folder = write_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")
    edit_config(folder, vocab_size=HUGE["vocab_size"])
    error = the_error(start(tmp_path / "cache", "--model", str(folder)))
    assert "do not fit into" in error
    assert not (tmp_path / "cache").exists()


def test_a_model_that_no_memory_holds_is_not_downloaded(tmp_path: Path) -> None:
    with Hub({**HUGE, "dtype": "float16"}) as hub:
        done = start(tmp_path, "--model", "owner/name", HF_HOME=str(tmp_path / "hub"), **hub.environment)
    *_, last = done.stderr.splitlines()
    assert "do not fit into" in last
    assert done.returncode == 1
    assert not hub.asked


def test_a_prefix_cache_that_does_not_fit_is_what_is_to_be_lowered(tmp_path: Path) -> None:
    error = the_error(start(tmp_path / "cache", "--model", "dummy:tiny", "--prefix-cache-bytes", "900TiB"))
    assert "641.2 KiB for weights in fp32 and 900 TiB for --prefix-cache-bytes do not fit" in error
    assert "lower --prefix-cache-bytes" in error
    assert not (tmp_path / "cache").exists()


def test_a_reference_needs_its_weights_too(tmp_path: Path) -> None:
    arguments = ("--model", "dummy:tiny", "--reference", "torch", "--prefix-cache-bytes", "900TiB")
    error = the_error(start(tmp_path / "cache", *arguments))
    assert "641.2 KiB for weights in fp32 and 900 TiB for --prefix-cache-bytes and 641.2 KiB for the" in error
    assert "leave --reference off" in error


def test_a_gpus_memory_that_others_have_is_not_free(tmp_path: Path) -> None:
    """12.55 GiB would fit into an empty card of 15."""
    machine = gpu_machine(tmp_path / "cache", memory=15 * 2**30)
    error = the_error(start(tmp_path / "cache", "--model", "dummy:llama-2-7b", **machine))
    assert "12.55 GiB for weights in fp16 do not fit into the memory of NVIDIA A100" in error
    assert "of whose 15 GiB now 12 GiB are free: stop what else runs there" in error
    assert not (tmp_path / "cache").exists()


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group with a limit. Skips where it cannot be made."""
    for mount, file in ((V1, "memory.limit_in_bytes"), (V2, "memory.max")):
        folder = Path("/", mount, f"trt-server-test-{os.getpid()}")
        with suppress(OSError):
            folder.mkdir()
            try:
                (folder / file).write_text(str(limit))
                yield folder
                return
            finally:
                folder.rmdir()
    pytest.skip("no control group can be made here")


def test_a_control_groups_limit_is_the_memory_there_is(tmp_path: Path) -> None:
    """383 MiB of weights in a group of 320."""
    with memory_group(320 * MIB) as group:
        arguments = ("--model", "dummy:llama-100m", "--prefix-cache-bytes", "0")
        done = subprocess.run(
            ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", program("trt-server"),
             *FREE_PORTS, *arguments],
            env={**os.environ, "TRT_SERVER_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip
    assert "383.2 MiB for weights in fp32 do not fit into the 320 MiB of memory" in the_error(done)
    assert not (tmp_path / "cache").exists()


GROUPS: dict[str, tuple[str, dict[str, str], int, int]] = {
    "a container of version 2, a part of it cached files": (
        "0::/\n",
        {
            f"{V2}/memory.max": f"{100 * MIB}\n",
            f"{V2}/memory.current": f"{60 * MIB}\n",
            f"{V2}/memory.stat": f"anon 1\nactive_file {10 * MIB}\ninactive_file {20 * MIB}\n",
        },
        100 * MIB,
        70 * MIB,
    ),
    "a group around ours": (
        "0::/a/b\n",
        {
            f"{V2}/a/memory.max": f"{50 * MIB}\n",
            f"{V2}/a/memory.current": f"{60 * MIB}\n",
            f"{V2}/a/b/memory.max": "max\n",
            f"{V2}/a/b/memory.current": "1\n",
        },
        50 * MIB,
        0,
    ),
    "version 1": (
        "4:memory:/batch\n",
        {
            f"{V1}/batch/memory.limit_in_bytes": f"{100 * MIB}\n",
            f"{V1}/batch/memory.usage_in_bytes": f"{60 * MIB}\n",
            f"{V1}/batch/memory.stat": f"total_inactive_file {20 * MIB}\ntotal_active_file 0\n",
        },
        100 * MIB,
        60 * MIB,
    ),
}


@pytest.mark.parametrize(("groups", "files", "total", "free"), GROUPS.values(), ids=GROUPS)
def test_limits_of_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], total: int, free: int
) -> None:
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    memory = host_memory(tmp_path)
    assert (memory.total, memory.free) == (total, free)


def test_without_limits_it_is_the_machines(tmp_path: Path) -> None:
    memory = host_memory(tmp_path)
    assert memory.total == psutil.virtual_memory().total
    assert 0 < memory.free <= memory.total


# Disk.


@pytest.mark.parametrize("kind", ["dummy", "weights"])
def test_a_disk_without_room_is_not_written_to(tmp_path: Path, kind: str) -> None:
    model, what = "dummy:llama-15m", "random weights of dummy:llama-15m in fp32"
    if kind == "weights":
        folder = write_checkpoint(tmp_path / "model", "llama", dtype="bfloat16", vocab_size=50_000)
        model, what = str(folder), f"weights of {folder} as float32"
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        error = the_error(start(disk, "--model", model))
        assert f"{what}: " in error
        assert "MiB of disk are needed and 4 MiB are free in " in error
        assert "remove what no server uses (trt-server cache), or set TRT_SERVER_CACHE" in error
        assert not [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_disk_that_runs_full_is_given_back_what_was_written(tmp_path: Path) -> None:
    """A limit on a file's size stands for a disk that others fill meanwhile."""
    cache = tmp_path / "cache"
    limited = (
        "import resource, sys; from trt_server.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({10 * MIB}, {10 * MIB}))\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *FREE_PORTS, "--model", "dummy:llama-15m"],
        env={**os.environ, "TRT_SERVER_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert f"the cache {cache / 'dummy'} cannot be written" in the_error(done)
    assert [path.suffix for path in (cache / "dummy").iterdir()] == [".lock"]


# What is written is told.


def test_a_line_tells_what_is_written_where_and_how_much(tmp_path: Path) -> None:
    def lines(*arguments: str) -> list[Any]:
        with ServerProcess(*arguments, environment={"TRT_SERVER_CACHE": str(tmp_path / "cache")}) as server:
            server.wait_until_serving().stop()
        return [line for line in server.lines if "writing" in line]

    (dummy,) = lines("--model", "dummy:tiny")
    (folder,) = [path for path in (tmp_path / "cache" / "dummy").iterdir() if path.is_dir()]
    assert f"writing random weights of dummy:tiny in fp32 to {folder}, about 641.2 KiB" in dummy
    assert not lines("--model", "dummy:tiny")
    model = write_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")
    (converted,) = lines("--model", str(model))
    assert f"writing weights of {model} as float32 to {tmp_path / 'cache' / 'weights'}/" in converted
