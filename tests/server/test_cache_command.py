"""`trt-server cache`: what is kept on the disk, listed and removed, beside servers that use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from fake_gpu_machine import gpu_machine
from processes import FREE_PORTS, ServerProcess, run_program
from trt_common.installed_program import program

DAY = 86400


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "TRT_SERVER_CACHE": str(cache)}


def command(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program("trt-server", "cache", *arguments, env=environment(cache))


def listed(cache: Path) -> dict[str, str]:
    """Name → the rest of its row."""
    done = command(cache)
    assert done.returncode == 0, done.stderr
    head, *rows, total = done.stdout.splitlines()
    assert head.split() == ["name", "what", "size", "last", "used", "state"]
    assert total.startswith(f"{len(rows)} entr")
    return {name: rest.strip() for name, _, rest in (row.partition(" ") for row in rows)}


def build(cache: Path, *models: str) -> None:
    for name in models:
        done = run_program("trt-server", "build", "--model", name, env=environment(cache))
        assert done.returncode == 0, done.stderr


def entries(cache: Path) -> dict[str, Path]:
    """Of weights, by kind."""
    return {path.parent.name: path for path in cache.glob("*/*") if path.is_dir()}


def test_a_list_says_what_for_and_how_much(cache: Path, model: Path) -> None:
    build(cache, "dummy:tiny", str(model))
    rows = listed(cache)
    assert set(rows) == {f"{kind}/{path.name}" for kind, path in entries(cache).items()}
    for kind, what in {
        "dummy": "random weights of dummy:tiny in fp32",
        "weights": f"weights of {model} as float32",
    }.items():
        path = entries(cache)[kind]
        size = sum(file.stat().st_size for file in path.iterdir()) / 1024
        row = rows[f"{kind}/{path.name}"]
        assert re.fullmatch(rf"{re.escape(what)} +{size:.4g} KiB +\d{{4}}-\d\d-\d\d \d\d:\d\d", row)
    # The last line tells of the disk, which others write to meanwhile.
    named, unnamed = (command(cache, *words).stdout.splitlines()[:-1] for words in (["list"], []))
    assert named == unnamed


def test_an_empty_cache_is_said_to_be(cache: Path) -> None:
    assert command(cache).stdout == f"{cache} holds nothing\n"
    assert command(cache, "remove", "--all").stdout == f"0 bytes freed in {cache}\n"


def test_plans_are_listed_and_removed(llama_folder: Path, cache: Path) -> None:
    variables = {**os.environ, **gpu_machine(cache)}
    arguments = ("build", "--model", str(llama_folder), "--max-prompt-tokens", "100")
    assert run_program("trt-server", *arguments, env=variables).returncode == 0
    rows = listed(cache)
    (plan,) = [row for name, row in rows.items() if name.startswith("plans/")]
    assert plan.startswith(f"a plan of {llama_folder} in fp16 for NVIDIA A100-SXM4-40GB, tensorrt ")
    (timings,) = [row for name, row in rows.items() if name.startswith("timings/")]
    assert timings.startswith("timings of kernels, for later builds")
    assert command(cache, "remove", "--all").returncode == 0
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_what_a_running_server_uses_is_kept(cache: Path, model: Path) -> None:
    build(cache, str(model))
    with ServerProcess("--model", "dummy:tiny", environment={"TRT_SERVER_CACHE": str(cache)}) as server:
        server.wait_until_serving()
        path = entries(cache)["dummy"]
        name, other = f"dummy/{path.name}", f"weights/{entries(cache)['weights'].name}"
        assert listed(cache)[name].endswith(" in use")
        named = command(cache, "remove", name, other)
        assert named.returncode == 1
        assert (
            named.stderr == f"trt-server: error: {name} is kept: a running server uses it; stop that first\n"
        )
        # What could be removed was.
        assert f"removed {other}, " in named.stdout
        every = command(cache, "remove", "--all")
        assert every.returncode == 0
        assert f"{name} is kept: a running server uses it" in every.stderr
        assert path.is_dir()
        server.stop()
    assert not listed(cache)[name].endswith("in use")
    assert command(cache, "remove", name).returncode == 0
    assert not path.exists()


def test_two_servers_use_one_entry(cache: Path) -> None:
    """The end of the one leaves it to the other."""
    variables = {"TRT_SERVER_CACHE": str(cache)}
    with ServerProcess("--model", "dummy:tiny", environment=variables) as one:
        one.wait_until_serving()
        with ServerProcess("--model", "dummy:tiny", environment=variables) as two:
            two.wait_until_serving()
            one.stop()
            assert command(cache, "remove", "--all").stdout == f"0 bytes freed in {cache}\n"
            two.kill()
        assert "removed dummy/tiny" in command(cache, "remove", "--all").stdout


def test_old_entries_are_those_that_no_start_used(cache: Path, model: Path) -> None:
    build(cache, "dummy:tiny", str(model))
    for path in entries(cache).values():
        about = path / "about.json"
        then = about.stat().st_mtime - 10 * DAY
        os.utime(about, (then, then))
    # It is found, and used again.
    build(cache, "dummy:tiny")
    assert command(cache, "remove", "--older-than", "11").stdout == f"0 bytes freed in {cache}\n"
    assert "removed weights/" in command(cache, "remove", "--older-than", "9.5").stdout
    assert set(entries(cache)) == {"dummy"}


def test_an_entry_of_an_earlier_version_is_listed_and_removed(cache: Path) -> None:
    build(cache, "dummy:tiny")
    path = entries(cache)["dummy"]
    (path / "about.json").unlink()
    (row,) = listed(cache).values()
    assert row.startswith("random weights ")
    assert command(cache, "remove", f"dummy/{path.name}").returncode == 0
    assert not path.exists()


def test_other_files_in_the_folder_are_not_touched(cache: Path) -> None:
    build(cache, "dummy:tiny")
    (cache / "mine").mkdir()
    others = [cache / "mine" / "precious", cache / "notes.txt"]
    for file in others:
        file.write_text("here")
    assert command(cache, "remove", "--all").returncode == 0
    assert all(file.exists() for file in others)


@pytest.fixture
def half_written(cache: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that waits in the middle of converting a model."""
    folder = write_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")
    waiting = (
        "import sys; from pathlib import Path\n"
        "from trt_server.model.files import conversion\n"
        "from trt_server.model.files.checkpoint import open_checkpoint\n"
        "checkpoint = open_checkpoint(Path(sys.argv[1]))\n"
        "name = list(checkpoint.weights)[5]\n"
        "read = conversion._converted\n"
        "def wait(name_, *arguments):\n"
        "    if name_ == name: print('half', flush=True); sys.stdin.read()\n"
        "    return read(name_, *arguments)\n"
        "conversion._converted = wait\n"
        "conversion.weights_as(checkpoint, 'float32')\n"
    )
    process = subprocess.Popen(
        [str(Path(program("trt-server")).parent / "python"), "-c", waiting, str(folder)],
        env=environment(cache),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    yield process
    process.kill()
    process.wait()


def test_what_is_being_written_is_kept_and_what_was_left_is_removed(
    cache: Path, half_written: subprocess.Popen[str]
) -> None:
    ((name, row),) = listed(cache).items()
    assert name.endswith(".partial")
    assert row.endswith(" being written")
    assert "a server is writing or checking it" in command(cache, "remove", name).stderr
    half_written.send_signal(signal.SIGKILL)
    half_written.wait()
    assert listed(cache)[name].endswith(" unfinished")
    done = command(cache, "remove", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [path for path in cache.rglob("*") if path.is_file()]


WRONG = {
    "no entry of that name": (["remove", "dummy/none"], "'dummy/none' is no entry of"),
    "nothing to remove": (["remove"], "remove takes names of entries, or --all, or --older-than DAYS"),
    "two ways at once": (["remove", "--all", "dummy/x"], "give one of them"),
    "no days": (["remove", "--older-than", "soon"], "'soon' is not a number of days such as 30"),
    "days to come": (["remove", "--older-than", "-1"], "'-1' is not a number of days"),
    "another command": (["empty"], "invalid choice: 'empty'"),
    "a way out of the cache": (["remove", "../../etc"], "'../../etc' is no entry of"),
}


@pytest.mark.parametrize(("arguments", "text"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_one_line(cache: Path, arguments: list[str], text: str) -> None:
    done = command(cache, *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_wrong_name_removes_nothing(cache: Path) -> None:
    build(cache, "dummy:tiny")
    path = entries(cache)["dummy"]
    assert command(cache, "remove", f"dummy/{path.name}", "dummy/none").returncode == 2
    assert path.exists()


def test_starts_and_removals_at_once_never_meet(cache: Path) -> None:
    """Each start finds or makes its weights whole, whatever is removed meanwhile."""
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            command(cache, "remove", "--all")

    removing = threading.Thread(target=remove)
    removing.start()
    try:
        starts = [
            subprocess.Popen(
                [program("trt-server"), "build", *FREE_PORTS, "--model", "dummy:tiny"],
                env=environment(cache),
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in starts:
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
    finally:
        stop.set()
        removing.join()


def test_help_names_the_folder() -> None:
    for arguments in (("--help",), ("cache", "--help")):
        text = " ".join(run_program("trt-server", *arguments).stdout.split())
        assert "TRT_SERVER_CACHE" in text
        assert "~/.cache/trt-server" in text
