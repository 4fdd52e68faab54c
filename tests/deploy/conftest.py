"""A run that Prometheus watched, for the tests of rules and dashboards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from fake_gpu_machine import gpu_machine
from observed_campaign import two_cells
from processes import ServerProcess
from score_requests import ids_request
from trt_common.demo import FOLDER

from tools.free_port import free_port
from tools.watching.observed_campaign import ObservedCampaign
from tools.watching.observed_run import ObservedRun, observe
from tools.watching.prometheus import Prometheus

# Of each subject: a run of 10 s or so on two cores.
QUESTIONS = "50"
CARD = Path(__file__).with_name("card_with_energy_counter")


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program; skips where it is not installed."""
    found = shutil.which("promtool")
    if found is None or shutil.which("prometheus") is None:
        pytest.skip("prometheus and promtool are not installed: apt-get install prometheus")
    return found


@pytest.fixture(scope="session")
def watched_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The bundled tokenizer on a model that is slow enough to be watched.

    With a peak that is given: one that is measured on a busy machine may be too low, and MFU above 1.
    """
    folder = tmp_path_factory.mktemp("watched-model")
    vocabulary = json.loads((FOLDER / "config.json").read_text())["vocab_size"]
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "vocab_size": vocabulary}
    write_checkpoint(folder, "llama", **sizes)
    for file in FOLDER.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    with ServerProcess("--model", str(folder), "--peak-flops", "1e12") as server:
        yield server.wait_until_serving()


@pytest.fixture(scope="session")
def observed_run(
    promtool: str,  # noqa: ARG001
    watched_server: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ObservedRun]:
    folder = tmp_path_factory.mktemp("watched")
    client_port = free_port()
    targets = {
        "servers": [f"127.0.0.1:{watched_server.ports['metrics_port']}"],
        "clients": [f"127.0.0.1:{client_port}"],
    }
    with Prometheus(folder, targets) as prometheus:
        # Its counters at 0, before anything is asked: a rate needs to have seen where it began.
        prometheus.wait_for("count_over_time(trt_server_flops_total[1m]) >= 2")
        yield observe(
            prometheus,
            server=watched_server.url,
            client_port=client_port,
            output=folder / "run",
            arguments=("--limit", QUESTIONS),
        )


@pytest.fixture(scope="session")
def observed_campaign(
    promtool: str,  # noqa: ARG001
    llama_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ObservedCampaign]:
    folder = tmp_path_factory.mktemp("watched-campaign")
    # Its own: what the other one has counted is held against the run that it was watched in.
    with (
        ServerProcess("--model", str(llama_folder)) as server,
        two_cells(folder, server.wait_until_serving()) as observed,
    ):
        yield observed


@pytest.fixture(scope="session")
def gpu_prometheus(
    promtool: str,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """One that watches a server on two fake GPUs, at work."""
    folder = tmp_path_factory.mktemp("watched-gpu")
    environment = gpu_machine(folder / "cache", devices=2)
    environment["PYTHONPATH"] = os.pathsep.join([str(CARD), environment["PYTHONPATH"]])
    with ServerProcess("--model", "demo", "--devices", "0,1", environment=environment) as server:
        stub = server.wait_until_serving().stub()
        servers = [f"127.0.0.1:{server.ports['metrics_port']}"]
        with Prometheus(folder, {"servers": servers, "clients": []}) as prometheus:
            while not prometheus.query("rate(trt_server_flops_total[4s]) > 0"):
                stub.Score(ids_request(40))
            yield prometheus
