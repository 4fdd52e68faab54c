"""Campaigns on this machine: each cell once, whatever is killed, and servers shared by their cells."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from client_process import SECONDS, ClientProcess, client, command, the_error
from double import HOLD, Double, status
from fake_gpu_machine import gpu_machine
from google.rpc import code_pb2
from mmlu import write_benchmark
from run_files import manifest, records, summary
from tokenizer_kinds import byte_level, tokenizer_files
from waiting import wait_until

TOKENIZER = tokenizer_files(byte_level())
QUESTIONS = 11


def write_campaign(folder: Path, text: str) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(text)
    return path


def against(double: Double, cells: str = "loads:\n  one: {bs: 1, concurrency: 1}\n") -> str:
    """A campaign of a server that runs already."""
    return f"servers:\n  double: {{url: '{double.url}'}}\nworkloads:\n  all: {{data: data}}\n{cells}"


def state(output: Path, cell: str) -> dict[str, Any]:
    return dict(json.loads((output / "cells" / cell / "cell.json").read_text()))


def starts(output: Path, server: str) -> int:
    """How often a server has come to serve."""
    logs = (output / "servers" / server).glob("*.log")
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return sum(line.get("event") == "serving" for line in lines)


def started_by(process: ClientProcess) -> dict[str, psutil.Process]:
    """The programs that a campaign has started and that run, each of them once, by name."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        for name in ("trt-server", "mmlu-client"):
            if any(word.endswith(f"/{name}") for word in child.cmdline()):
                assert name not in found
                found[name] = child
    return found


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_benchmark(tmp_path / "data", {"alpha": 7, "beta": 4})
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign that has come to its end; its file is beside it."""
    folder = tmp_path_factory.mktemp("finished")
    text = (
        "models: [demo]\n"
        "servers:\n"
        "  one: {engine: onnxruntime, threads: 1}\n"
        "  two: {engine: onnxruntime, max-batch-size: 2}\n"
        "workloads:\n  few: {subjects: [geography], limit: 2}\n"
        "repetitions: 2\n"
    )
    path = write_campaign(folder, text.replace("subjects: [geography], ", ""))
    done = client("campaign", path, "--output", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_every_cell_is_a_run_and_says_what_it_is(finished: Path) -> None:
    for server in ("one", "two"):
        for number in ("r1", "r2"):
            cell = f"demo+{server}+few+{number}"
            run = finished / "cells" / cell
            assert summary(run)["answered"] == summary(run)["questions"] > 0
            labels = {"model": "demo", "server": server, "workload": "few", "repetition": number}
            assert manifest(run)["labels"] == labels
            found = state(finished, cell)
            assert found["state"] == "finished"
            assert found["definition"]["coordinates"] == labels
            assert found["definition"]["server"]["flags"]["engine"] == "onnxruntime"
            assert [attempt["status"] for attempt in found["attempts"]] == [0]
            assert "mmlu-client" in (run / "client.log").read_text()
    assert manifest(finished / "cells" / "demo+two+few+r1")["limits"]["max_batch_size"] == 2


def test_a_server_is_started_once_for_all_its_cells_and_stopped(finished: Path) -> None:
    for server in ("one", "two"):
        assert starts(finished, f"demo+{server}") == 1
        (log,) = (finished / "servers" / f"demo+{server}").iterdir()
        assert "draining" in json.loads(log.read_text().splitlines()[-1])["message"]


def test_started_again_it_runs_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/records.jsonl")}
    again = client("campaign", finished.parent / "campaign.yaml", "--output", finished)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/records.jsonl")} == before
    assert starts(finished, "demo+one") == 1


def test_a_cell_that_has_become_another_is_refused(finished: Path) -> None:
    text = (finished.parent / "campaign.yaml").read_text().replace("threads: 1", "threads: 2")
    path = finished.parent / "other.yaml"
    path.write_text(text)
    done = client("campaign", path, "--output", finished)
    assert done.returncode == 2
    assert "was made with server.flags.threads 1, now it is 2" in the_error(done)


def test_figures_that_a_kill_prevented_are_written_at_the_next_start(finished: Path, tmp_path: Path) -> None:
    """Killed behind the last answer: nothing is asked again, and no server is started."""
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    shutil.rmtree(output / "servers")
    run = output / "cells" / "demo+one+few+r1"
    before = summary(run)
    (run / "summary.json").unlink()
    found = state(output, run.name)
    found["state"] = "running"
    found["attempts"][0] |= {"ended": None, "status": None}
    (run / "cell.json").write_text(json.dumps(found))
    dry = client("campaign", finished.parent / "campaign.yaml", "--output", output, "--dry-run")
    assert f"{run.name}: finished" in dry.stdout
    assert not (run / "summary.json").exists()
    again = client("campaign", finished.parent / "campaign.yaml", "--output", output)
    assert again.returncode == 0, again.stderr
    assert summary(run)["acc"] == before["acc"]
    assert state(output, run.name)["state"] == "finished"
    assert not (output / "servers").exists()


def test_data_that_have_changed_are_refused(folder: Path) -> None:
    output = folder / "out"
    with Double(TOKENIZER) as double:
        path = write_campaign(folder, against(double))
        assert client("campaign", path, "--output", output).returncode == 0
        write_benchmark(folder / "data", {"alpha": 6, "beta": 4})
        done = client("campaign", path, "--output", output)
    assert done.returncode == 2
    assert "the data of cell double+all+one+r1 have changed" in the_error(done)


def test_a_campaign_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    """Its client dies with it; what was answered is not asked again, what was finished is not run again."""
    output = folder / "out"
    with Double(TOKENIZER, lambda number: HOLD if number == QUESTIONS + 5 else None) as double:
        path = write_campaign(
            folder, against(double, "loads:\n  one: {bs: 1, concurrency: 1}\nrepetitions: 2\n")
        )
        process = ClientProcess("campaign", path, "--output", output)
        assert double.holds.wait(SECONDS)
        wait_until(lambda: len(records(output / "cells" / "double+all+one+r2")) == 5)
        running = started_by(process)["mmlu-client"]
        process.signal(signal.SIGKILL)
        process.finish()
        wait_until(lambda: is_gone(running))
        again = client("campaign", path, "--output", output)
        assert again.returncode == 0, again.stderr
        # The sixth question of the second cell was asked, not answered, and asked again.
        assert len(double.asked) == 2 * QUESTIONS + 1
    for number in (1, 2):
        assert summary(output / "cells" / f"double+all+one+r{number}")["answered"] == QUESTIONS
    attempts = state(output, "double+all+one+r2")["attempts"]
    assert [attempt["error"] for attempt in attempts] == ["the campaign was killed in this attempt", None]
    assert len(state(output, "double+all+one+r1")["attempts"]) == 1


def test_a_client_that_is_killed_is_started_again(folder: Path) -> None:
    output = folder / "out"
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        process = ClientProcess("campaign", write_campaign(folder, against(double)), "--output", output)
        assert double.holds.wait(SECONDS)
        wait_until(lambda: len(records(output / "cells" / "double+all+one+r1")) == 5)
        started_by(process)["mmlu-client"].kill()
        done = process.finish()
        assert done.returncode == 0, done.stderr
        assert len(double.asked) == QUESTIONS + 1
    errors = [attempt["error"] for attempt in state(output, "double+all+one+r1")["attempts"]]
    assert errors == ["mmlu-client was ended by SIGKILL", None]


def test_a_server_that_is_killed_is_started_again(folder: Path) -> None:
    """The cell goes on with the next one, and its answers count."""
    output, cell = folder / "out", "demo+here+few+slow+r1"
    text = (
        "models: [demo]\nservers:\n  here: {engine: onnxruntime}\nworkloads:\n  few: {limit: 8}\n"
        "loads:\n  slow: {request-rate: 40}\n"
    )
    process = ClientProcess("campaign", write_campaign(folder, text), "--output", output)
    records_file = output / "cells" / cell / "records.jsonl"
    wait_until(lambda: records_file.exists() and len(records(records_file.parent)) >= 5)
    started_by(process)["trt-server"].kill()
    done = process.finish()
    assert done.returncode == 0, done.stderr
    found = state(output, cell)
    assert found["state"] == "finished"
    assert "trt-server ended with status -9" in found["attempts"][0]["error"]
    assert starts(output, "demo+here") == 2
    asked = Counter((each["subject"], each["index"]) for each in records(output / "cells" / cell))
    assert len(asked) == summary(output / "cells" / cell)["questions"]
    assert set(asked.values()) == {1}


def test_a_signal_ends_it_with_the_figures_there_are(folder: Path) -> None:
    output = folder / "out"
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        path = write_campaign(folder, against(double))
        process = ClientProcess("campaign", path, "--output", output)
        assert double.holds.wait(SECONDS)
        wait_until(lambda: len(records(output / "cells" / "double+all+one+r1")) == 5)
        process.signal(signal.SIGTERM)
        done = process.finish()
        assert done.returncode == 128 + signal.SIGTERM, done.stderr
        assert summary(output / "cells" / "double+all+one+r1")["answered"] == 5
        assert state(output, "double+all+one+r1")["state"] == "waiting"
        assert client("campaign", path, "--output", output).returncode == 0
    assert summary(output / "cells" / "double+all+one+r1")["answered"] == QUESTIONS


def test_a_cell_that_fails_is_tried_again_and_told_and_the_others_go_on(folder: Path) -> None:
    """A question is refused for good in each of its two attempts; what these found is kept."""
    output, refusal = folder / "out", status(code_pb2.INVALID_ARGUMENT, "not this one")
    # The other cell comes between the two.
    refused = (3, 2 * QUESTIONS + 3)
    with Double(TOKENIZER, lambda number: refusal if number in refused else None) as double:
        path = write_campaign(folder, f"{against(double)}  two: {{bs: 1, concurrency: 1}}\nattempts: 2\n")
        done = client("campaign", path, "--output", output)
        assert done.returncode == 1
        assert "1 of 2 cells failed, the first double+all+one+r1: 1 of 11 questions failed" in the_error(done)
        assert [state(output, f"double+all+{load}+r1")["state"] for load in ("one", "two")] == [
            "failed",
            "finished",
        ]
        assert [attempt["status"] for attempt in state(output, "double+all+one+r1")["attempts"]] == [1, 1]
        assert summary(output / "flawed" / "double+all+one+r1.1")["answered"] == QUESTIONS - 1
        # It is tried again by the next start alone.
        assert client("campaign", path, "--output", output).returncode == 0
        assert len(double.asked) == 4 * QUESTIONS
    assert summary(output / "cells" / "double+all+one+r1")["answered"] == QUESTIONS
    assert summary(output / "flawed" / "double+all+one+r1.2")["answered"] == QUESTIONS - 1


def test_a_server_that_does_not_start_takes_its_cells_with_it_and_no_others(folder: Path) -> None:
    output, cache = folder / "out", folder / "no folder"
    cache.write_text("")
    with Double(TOKENIZER) as double:
        text = f"{against(double, '')}repetitions: 3\nattempts: 2\n".replace(
            "servers:\n", "servers:\n  lost: {model: 'dummy:llama-100m', engine: onnxruntime}\n"
        )
        path = write_campaign(folder, text)
        done = command("campaign", path, "--output", output, environment={"TRT_SERVER_CACHE": str(cache)})
    assert done.returncode == 1
    assert "3 of 6 cells failed, the first lost+all+r1: trt-server ended with status 1" in the_error(done)
    lost = [state(output, f"lost+all+r{number}") for number in (1, 2, 3)]
    assert [each["state"] for each in lost] == ["failed"] * 3
    log = output / "servers" / "lost" / "server-1.log"
    assert log.read_text().count("trt-server: error: ") == 2
    assert all(state(output, f"double+all+r{number}")["state"] == "finished" for number in (1, 2, 3))


def test_lanes_share_the_cores(folder: Path) -> None:
    """Two cells at the same time, each with its server on its own cores, and logs apart."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core cannot be shared")
    output = folder / "out"
    text = (
        "models: [demo]\nservers:\n  here: {engine: onnxruntime}\nworkloads:\n  few: {limit: 1}\n"
        "repetitions: 2\n"
    )
    done = client("campaign", write_campaign(folder, text), "--output", output, "--parallel", "2")
    assert done.returncode == 0, done.stderr
    found = [state(output, f"demo+here+few+r{number}")["attempts"][0]["where"] for number in (1, 2)]
    assert sorted(found) == ["local 1", "local 2"]
    logs = sorted(path.name for path in (output / "servers" / "demo+here").iterdir())
    assert logs == ["server-1.log", "server-2.log"]
    assert starts(output, "demo+here") == 2
    parts = [manifest(output / "cells" / f"demo+here+few+r{number}")["device"]["part"] for number in (1, 2)]
    assert len(set(parts)) == 2


def test_a_folder_holds_one_campaign_at_a_time(folder: Path) -> None:
    output = folder / "out"
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        path = write_campaign(folder, against(double))
        process = ClientProcess("campaign", path, "--output", output)
        assert double.holds.wait(SECONDS)
        second = client("campaign", path, "--output", output)
        assert second.returncode == 2
        assert "another campaign runs there" in the_error(second)
        process.signal(signal.SIGKILL)
        process.finish()


def test_variables_do_not_reach_cells(folder: Path) -> None:
    with Double(TOKENIZER) as double:
        path, variable = write_campaign(folder, against(double)), {"MMLU_CLIENT_LIMIT": "1"}
        done = command("campaign", path, "--output", folder / "out", environment=variable)
    assert done.returncode == 0, done.stderr
    assert "MMLU_CLIENT_LIMIT" in done.stderr
    assert summary(folder / "out" / "cells" / "double+all+one+r1")["questions"] == QUESTIONS


def test_a_plan_is_built_once_for_the_servers_that_share_it(folder: Path, llama_folder: Path) -> None:
    """In one lane after the other's, or side by side: the second finds what the first has kept."""
    output, log = folder / "out", folder / "gpu.log"
    text = (
        f"models: [{llama_folder}]\n"
        "servers:\n  one: {engine: tensorrt}\n  two: {engine: tensorrt, max-queue-size: 9}\n"
        "workloads:\n  all: {data: data, limit: 1, few-shots: 0}\n"
    )
    environment = gpu_machine(folder / "cache", log=str(log))
    path = write_campaign(folder, text)
    done = command("campaign", path, "--output", output, environment=environment)
    assert done.returncode == 0, done.stderr
    assert sorted(log.read_text().split()) == ["build", "load", "load"]
