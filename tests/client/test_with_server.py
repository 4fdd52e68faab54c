"""mmlu-client against real trt-server processes."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from client_process import SECONDS, ClientProcess, client, command, the_error
from mmlu import write_benchmark
from mmlu_client.errors import StreamLostError
from mmlu_client.service import connection
from mmlu_client.service.access import Access
from mmlu_client.service.address import parse_address
from processes import ServerProcess
from run_files import manifest, records, summary, wait_for_records
from terminal_output import read_to_end
from trt_common.installed_program import program
from trt_common.version import version

from tools.server_process import ServerProcess as PinnedServer


@pytest.mark.parametrize("style", ["hendrycks", "lm-eval", "flagperf"])
def test_a_whole_run(server: ServerProcess, tmp_path: Path, style: str) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4, "beta": 3}), tmp_path / "run"
    result = client(
        "--url",
        server.url,
        "--data",
        data,
        "--output",
        output,
        "--bs",
        "3",
        "--prompt-format",
        style,
    )
    assert result.returncode == 0, result.stderr
    written, figures = records(output), summary(output)
    assert [record["request"]["prompts"] for record in written] == [3, 3, 3, 3, 3, 3, 1]
    for record in written:
        assert record["batch"]["prompts"] == record["request"]["prompts"]
        assert record["tokens"]["computed"] == record["tokens"]["logical"] <= record["batch"]["padded_length"]
        assert record["tokens"]["shared_prefix"] > record["tokens"]["logical"] / 2
        assert record["server_ns"]["core"] > 0
        assert record["top_logprob"] >= max(record["logprobs"].values())
    assert figures["engine"] == "onnxruntime"
    assert figures["mfu"] > figures["mfu_whole"] > 0
    assert figures["whole_over_core"] < 1
    assert figures["mem_used_gib"] > 0
    # Two servers on this machine would know that they share it.
    kept = manifest(output)
    assert (kept["client"]["version"], kept["server_version"]) == (version(), version())
    (device,) = kept["servers"][0]["devices"]
    assert device["id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert figures["prefix_hit_ratio"] == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two servers on a core each take two cores")
@pytest.mark.usefixtures("measured_peak")
def test_servers_on_a_core_each_have_a_peak_each(tmp_path: Path) -> None:
    """And share the machine's memory."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    output, flags = tmp_path / "run", ("--subjects", "calendar", "--limit", "20")
    with (
        PinnedServer("--model", "demo", core=first) as one,
        PinnedServer("--model", "demo", core=second) as two,
    ):
        client("--url", f"{one.address},{two.address}", "--output", output, *flags)
    figures, servers = summary(output), manifest(output)["servers"]
    assert [server["devices"][0]["part"] for server in servers] == [str(first), str(second)]
    peaks = sum(server["peak_flops"] for server in servers)
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * peaks))
    assert figures["mem_total_gib"] == pytest.approx(psutil.virtual_memory().total / 2**30)


def test_batch_size_does_not_change_an_answer(server: ServerProcess, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 5, "a_longer_name": 5})
    for size in ("1", "8"):
        client(
            "--url",
            server.url,
            "--data",
            data,
            "--output",
            tmp_path / size,
            "--bs",
            size,
        )
    # Requests of several prompts are of like length: another order.
    one, eight = (
        sorted(records(tmp_path / size), key=lambda record: (record["subject"], record["index"]))
        for size in ("1", "8")
    )
    assert len(one) == len(eight) == 10
    for left, right in zip(one, eight, strict=True):
        assert (left["subject"], left["index"]) == (right["subject"], right["index"])
        assert left["logprobs"] == pytest.approx(right["logprobs"], abs=1e-4)
        assert left["predicted"] == right["predicted"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_started_again(slow_folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Killed or drained in the run: every question is answered once, none failed."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 40, "beta": 40}), tmp_path / "run"
    with ServerProcess("--model", str(slow_folder)) as first:
        first.wait_until_serving()
        running = ClientProcess("--url", first.url, "--data", data, "--output", output)
        wait_for_records(output, 5)
        first.signal(number)
        first.wait()
    before = len(records(output))
    port = first.url.rpartition(":")[2]
    with ServerProcess("--model", str(slow_folder), "--grpc-port", port) as second:
        second.wait_until_serving()
        result = running.finish()
    assert 5 <= before < 80
    assert result.returncode == 0, result.stderr
    assert len(records(output)) == 80
    assert len({(record["subject"], record["index"]) for record in records(output)}) == 80
    assert summary(output)["interruptions"] >= 1


def test_a_server_that_falls_silent_is_noticed(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process keeps its connections open and answers nothing: only asking finds out."""
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.5)

    async def listen(process: ServerProcess) -> None:
        link = connection.Connection(parse_address(process.url), Access(), print)
        await link.wait_for_model(SECONDS)
        stream = link.stream()
        process.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StreamLostError, match="fell silent"):
                await stream.receive()
        finally:
            process.signal(signal.SIGCONT)
            stream.close()
            await link.close()

    with ServerProcess("--model", str(llama_folder)) as process:
        asyncio.run(listen(process.wait_until_serving()))


def test_demo_on_a_terminal_shows_its_progress(server: ServerProcess, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 3, "beta": 3})
    ours, theirs = pty.openpty()
    arguments = ["--url", server.url, "--data", str(data), "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        [program("mmlu-client"), *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = read_to_end(ours)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    for words in (b"total", b"beta", b"6/6", b"acc 0.", b"tokens/s"):
        assert words in shown


def test_figures_that_cannot_be_printed_are_on_disk(server: ServerProcess, tmp_path: Path) -> None:
    """/dev/full takes nothing, as a full disk does."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 1}), tmp_path / "run"
    arguments = ["--url", server.url, "--data", str(data), "--output", str(output)]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [program("mmlu-client"), *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert result.returncode == 1
    assert "cannot print the figures: No space left on device" in the_error(result)
    assert summary(output)["answered"] == 1


def test_ctrl_c_before_the_first_answer(tmp_path: Path) -> None:
    running = ClientProcess("--url", "localhost:9", "--output", tmp_path / "run")
    running.wait_for("waiting up to 60 s")
    running.signal(signal.SIGINT)
    result = running.finish()
    assert result.returncode == 130
    assert the_error(result) == "stopped by SIGINT"
    assert not result.stdout


def test_installed_command_says_its_version() -> None:
    assert command("--version").stdout == f"mmlu-client {version()}\n"


def test_reuse_computes_less_for_the_same_answers(server: ServerProcess, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 6, "beta": 6})
    shared = ("--url", server.url, "--data", data, "--bs", "2")
    runs = []
    for name, flags in (("whole", ()), ("reused", ("--reuse-prefix",))):
        result = client(*shared, "--output", tmp_path / name, *flags)
        assert result.returncode == 0, result.stderr
        runs.append((result.stdout, summary(tmp_path / name), records(tmp_path / name)))
    (page, whole, one), (reused_page, reused, other) = runs
    assert [record["predicted"] for record in one] == [record["predicted"] for record in other]
    assert whole["logical_tokens"] == reused["logical_tokens"] == whole["computed_tokens"]
    assert reused["computed_tokens"] < whole["computed_tokens"] / 2
    assert reused["prefix_hit_ratio"] > 0.5
    assert (whole["reuse_prefix"], reused["reuse_prefix"]) == (False, True)
    assert reused["mfu_flagperf"] is None
    assert "(prefix reuse)" in reused_page
    assert "prefix reuse" not in page
