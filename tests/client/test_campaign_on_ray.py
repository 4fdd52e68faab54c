"""A campaign on a Ray cluster of a head and two nodes: what comes back, and what is left after a death."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from client_process import command, the_error
from double import HOLD, Double, Verdict
from mmlu import write_benchmark
from processes import program
from run_files import records, summary
from tokenizer_kinds import byte_level, tokenizer_files

from tools.free_port import free_port

pytest.importorskip("ray", reason="Ray is not installed: pip install 'trt-server[ray]'")

from ray_cluster import CORES, SECONDS, RayCluster, wait_until

ROOT = Path(__file__).parents[2]
TOKENIZER = tokenizer_files(byte_level())
QUESTIONS, BEFORE = 20, 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_benchmark(tmp_path / "data", {"alpha": QUESTIONS})
    return tmp_path


class Campaign:
    """A campaign in a process of its own. Use as a context manager."""

    def __init__(self, folder: Path, text: str, cluster: RayCluster, *arguments: str) -> None:
        self.output = folder / "out"
        (folder / "file.yaml").write_text(text)
        words = ["campaign", folder / "file.yaml", "--output", self.output, f"--on=ray:{cluster.address}"]
        self._words = [*map(str, words), *arguments]
        self.start()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def start(self) -> Campaign:
        self.process = subprocess.Popen(
            [program("mmlu-client"), *self._words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self

    def end(self) -> subprocess.CompletedProcess[str]:
        out, err = self.process.communicate(timeout=SECONDS)
        # Nothing of Ray's own.
        assert [line for line in err.splitlines() if not line.startswith("mmlu-client: ")] == []
        assert "raylet" not in out
        return subprocess.CompletedProcess(self._words, self.process.returncode, out, err)

    def cell(self, name: str) -> Path:
        return self.output / "cells" / name

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.cell(name) / "cell.json").read_text())
        return state

    def answered(self, name: str) -> int:
        path = self.cell(name) / "records.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait_for_answers(self, name: str, count: int) -> None:
        wait_until(lambda: self.answered(name) >= count, f"{name} has {self.answered(name)} answers")


class Gate:
    """Lets a double answer some requests, and the others once it is open."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.is_open = False

    def __call__(self, number: int) -> Verdict:
        return None if self.is_open or number < self._count else HOLD


def asks(**servers: Double) -> str:
    named = ", ".join(f"{name}: {{url: '{double.url}'}}" for name, double in servers.items())
    return (
        f"servers: {{{named}}}\nworkloads: {{mmlu: {{data: data}}}}\n"
        "loads: {one: {bs: 1, concurrency: 1}}\n"
    )


def assert_each_is_answered_once(folder: Path) -> None:
    counts = Counter((record["subject"], record["index"]) for record in records(folder))
    assert counts == {("alpha", index): 1 for index in range(QUESTIONS)}
    assert summary(folder)["answered"] == QUESTIONS


DEMO = """\
models: [demo]
servers: {fp32: {engine: onnxruntime, resources: {gpus: 1}}}
workloads: {mmlu: {data: data}}
loads: {one: {bs: 1, request-rate: 5}}
repetitions: 2
"""


def test_a_cell_goes_on_when_its_worker_is_killed(folder: Path, cluster: RayCluster) -> None:
    """And what it had started ends with it. The next cell has the new worker's server."""
    first, second = (f"demo+fp32+mmlu+one+{number}" for number in ("r1", "r2"))
    with Campaign(folder, DEMO, cluster, "--parallel", "1") as campaign:
        campaign.wait_for_answers(first, 3)
        (worker,), started = cluster.workers(), cluster.started()
        assert len(started) == 2
        for process in started:
            assert process.environ()["CUDA_VISIBLE_DEVICES"] == "0"
            # A core of its own.
            assert len(process.cpu_affinity()) == 1
        worker.kill()
        wait_until(lambda: not set(started) & set(cluster.started()), "the server or the client lives")
        done = campaign.end()
    assert done.returncode == 0, done.stderr
    for name in (first, second):
        assert campaign.state(name)["state"] == "finished"
        assert_each_is_answered_once(campaign.cell(name))
        assert "written to" in (campaign.cell(name) / "client.log").read_text()
        assert (campaign.cell(name) / "report.html").is_file()
        of_run = json.loads((campaign.cell(name) / "manifest.json").read_text())
        # The data have travelled.
        assert of_run["data"]["name"].startswith("inputs/")
    lost, again = campaign.state(first)["attempts"]
    assert "was killed, or its machine was lost" in lost["error"]
    assert (lost["status"], again["status"], again["error"]) == (None, 0, None)
    assert lost["where"].startswith("Ray node ")
    assert len(campaign.state(second)["attempts"]) == 1
    log = (campaign.output / "servers" / "demo+fp32" / "server-1.log").read_text()
    assert [json.loads(line).get("event") for line in log.splitlines()].count("serving") == 2
    assert cluster.started() == []
    assert cluster.worker_files("*") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_campaign_that_was_ended_goes_on(folder: Path, cluster: RayCluster, number: signal.Signals) -> None:
    """Nothing is left running, and what had come back is not asked again."""
    gate = Gate(BEFORE)
    name = "double+mmlu+one+r1"
    with Double(TOKENIZER, gate) as double, Campaign(folder, asks(double=double), cluster) as campaign:
        campaign.wait_for_answers(name, BEFORE)
        (there,) = cluster.worker_files("records.jsonl")
        assert (campaign.cell(name) / "records.jsonl").read_bytes() == there.read_bytes()
        campaign.process.send_signal(number)
        if number == signal.SIGTERM:
            assert campaign.end().returncode == 128 + number
            assert summary(campaign.cell(name))["answered"] == BEFORE
        campaign.process.wait()
        assert campaign.state(name)["state"] == ("waiting" if number == signal.SIGTERM else "running")
        wait_until(lambda: not cluster.workers() and not cluster.started(), "something is left running")
        gate.is_open = True
        asked = len(double.asked)
        done = campaign.start().end()
        assert done.returncode == 0, done.stderr
        assert len(double.asked) - asked == QUESTIONS - BEFORE
        assert_each_is_answered_once(campaign.cell(name))
        asked = len(double.asked)
        assert campaign.start().end().returncode == 0
        assert len(double.asked) == asked


def metrics(port: int) -> list[str]:
    """The lines that the campaign tells Prometheus; none before it listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
            return str(answer.read().decode()).splitlines()
    except OSError:
        return []


def test_a_cell_waits_until_its_resources_are_free(folder: Path, cluster: RayCluster) -> None:
    """It has not begun, in what is said, in its file and in the metrics, before a node has room for it."""
    release, port = threading.Event(), free_port()

    def hold(number: int) -> None:
        if number >= BEFORE:
            release.wait(SECONDS)

    names = [f"{server}+mmlu+one+r1" for server in ("one", "two", "three")]
    with Double(TOKENIZER, hold) as one, Double(TOKENIZER, hold) as two, Double(TOKENIZER, hold) as three:
        # One worker takes a node, and there are two.
        text = f"{asks(one=one, two=two, three=three)}resources: {{cpus: {CORES}}}\n"
        with Campaign(folder, text, cluster, "--parallel", "3", "--metrics-port", str(port)) as campaign:
            try:
                lacking = 'mmlu_campaign_cells_without_resources{campaign="file"} 1.0'
                wait_until(lambda: lacking in metrics(port), "no cell waits for resources")
                wait_until(
                    lambda: sum(map(campaign.answered, names)) == 2 * BEFORE, "not all answers come back"
                )
                (late,) = (name for name in names if not campaign.answered(name))
                told = metrics(port)
                assert 'mmlu_campaign_cells{campaign="file",state="waiting"} 1.0' in told
                assert 'mmlu_campaign_cells{campaign="file",state="running"} 2.0' in told
                assert campaign.state(late)["state"] == "waiting"
                assert campaign.state(late)["attempts"] == []
            finally:
                release.set()
            done = campaign.end()
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    waits, begins = f"mmlu-client: {late} waits for resources", f"mmlu-client: {late} begins on Ray node "
    assert lines.count(waits) == 1
    (begun,) = (place for place, line in enumerate(lines) if line.startswith(begins))
    assert lines.index(waits) < begun
    (attempt,) = campaign.state(late)["attempts"]
    ends = [campaign.state(name)["attempts"][0]["ended"] for name in names if name != late]
    assert attempt["where"].startswith("Ray node ")
    assert attempt["started"] >= min(ends)
    for name in names:
        assert_each_is_answered_once(campaign.cell(name))


def test_a_campaign_goes_on_when_a_node_is_killed(folder: Path, cluster: RayCluster) -> None:
    """On the other one, as soon as it has nothing else to do."""
    gate = Gate(BEFORE)
    names = ["one+mmlu+one+r1", "two+mmlu+one+r1"]
    with Double(TOKENIZER, gate) as one, Double(TOKENIZER, gate) as two:
        # One worker takes a node.
        text = f"{asks(one=one, two=two)}resources: {{cpus: {CORES}}}\n"
        with Campaign(folder, text, cluster) as campaign:
            wait_until(lambda: sum(map(campaign.answered, names)) == 2 * BEFORE, "not all answers come back")
            assert len(cluster.workers()) == 2
            cluster.kill_a_node_with_a_worker()
            gate.is_open = True
            # What a double holds of the cell that was not killed it holds for good.
            for client in cluster.started():
                with contextlib.suppress(psutil.NoSuchProcess):
                    client.kill()
            done = campaign.end()
    assert done.returncode == 0, done.stderr
    errors = [attempt["error"] for name in names for attempt in campaign.state(name)["attempts"]]
    assert any("its machine was lost" in (error or "") for error in errors)
    for name in names:
        assert campaign.state(name)["state"] == "finished"
        assert_each_is_answered_once(campaign.cell(name))


def refused(folder: Path, text: str, on: str, **environment: str) -> str:
    (folder / "file.yaml").write_text(text)
    done = command(
        "campaign", folder / "file.yaml", "--output", folder / "out", f"--on={on}", environment=environment
    )
    assert done.returncode == 2, done.stderr
    assert not (folder / "out").exists()
    return the_error(done)


def test_an_address_that_nobody_answers_is_refused(folder: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert refused(folder, DEMO, f"ray:{address}").startswith(
        f"no Ray cluster answers at --on ray:{address}: "
    )
    message = refused(folder, DEMO, "ray", RAY_ADDRESS=address)
    assert message.startswith(f"no Ray cluster answers at RAY_ADDRESS={address}: ")
    assert "`ray start --head`" in message


def test_an_address_of_a_client_is_refused(folder: Path) -> None:
    assert "not through a client of it" in refused(folder, DEMO, "ray", RAY_ADDRESS="ray://127.0.0.1:10001")


def test_what_the_cluster_has_not_is_refused_with_its_line(folder: Path, cluster: RayCluster) -> None:
    place = f"ray:{cluster.address}"
    message = refused(folder, DEMO.replace("gpus: 1", "gpus: 2"), place)
    assert message.startswith(
        f"{folder / 'file.yaml'}:2: server demo+fp32: it needs 1 cpus and 2 gpus, and no "
    )
    message = refused(folder, DEMO.replace("[demo]", "[not-there]"), place)
    assert message.startswith(f"{folder / 'file.yaml'}:1: server not-there+fp32: --model not-there: ")


def test_another_version_on_the_nodes_is_refused(folder: Path, cluster: RayCluster) -> None:
    """This process finds no git, which says which commit it is of."""
    if not (ROOT / ".git").exists():
        pytest.skip("an installed version has no other one here")
    message = refused(folder, DEMO, f"ray:{cluster.address}", PATH="")
    assert " of the Ray cluster has trt-server 0.1+g" in message
    assert "install 0.1+unknown there" in message


def test_without_ray_what_to_install_is_said(folder: Path) -> None:
    absent = {"ABSENT_PACKAGES": "ray", "PYTHONPATH": str(ROOT / "tests" / "fakes" / "absent")}
    assert refused(folder, DEMO, "ray", **absent).endswith("not installed: pip install 'trt-server[ray]'")
