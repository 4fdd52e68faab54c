"""kill -9 in the middle, and going on: nothing twice, nothing lost, the same answers."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from client_process import SECONDS, ClientProcess, client, the_error
from double import CORE_NS, HOLD, PARAMETERS, PEAK, Double, status
from google.rpc import code_pb2
from mmlu import write_benchmark
from processes import ServerProcess
from run_files import manifest, page, records, summary, wait_for_records
from safetensors.torch import load_file, save_file
from tokenizer_kinds import byte_level, tokenizer_files

from tools.free_port import free_port

TOKENIZER = tokenizer_files(byte_level())


def killed(arguments: Sequence[str | Path], double: Double) -> None:
    """A client killed while the double holds a request."""
    running = ClientProcess(*arguments)
    assert double.holds.wait(SECONDS)
    running.signal(signal.SIGKILL)
    running.join()


def test_a_killed_run_goes_on_with_its_own_flags(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        killed(
            ("--url", double.url, "--data", data, "--output", output, "--bs", "2", "--goodput", "core:9"),
            double,
        )
        half = (output / "records.jsonl").read_text()
        # What a kill in the middle of a write leaves.
        (output / "records.jsonl").write_text(half + '{"subject":"alp')
        client("report", output)
        assert "ended early: the client was killed" in page(output)
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    assert summary(output)["ended_early"] is None
    written = records(output)
    assert (output / "records.jsonl").read_text().startswith(half)
    assert sorted((r["subject"], r["index"]) for r in written) == [
        *(("alpha", index) for index in range(7)), *(("beta", index) for index in range(4)),
    ]  # fmt: skip
    assert {record["session"] for record in written} == {0, 1}
    figures = summary(output)
    assert (figures["sessions"], figures["answered"], figures["goodput_share"]) == (2, 11, 1.0)
    whole = sum(
        max(times["received"] for times in of) - min(times["due"] for times in of)
        for session in (0, 1)
        if (of := [record["client_ns"] for record in written if record["session"] == session])
    )
    assert figures["whole_seconds"] == pytest.approx(whole / 1e9)
    assert [each["ended"] is None for each in manifest(output)["sessions"]] == [True, False]


def test_servers_of_an_earlier_start_count(data: Path, output: Path) -> None:
    """Killed on two servers, gone on with on one: the peaks of both are what the run is a share of."""
    with Double(TOKENIZER) as one, Double(TOKENIZER, lambda number: HOLD if number == 3 else None) as two:
        killed(("--url", f"{one.url},{two.url}", "--data", data, "--output", output), two)
        result = client("--resume", output, "--url", one.url)
    assert result.returncode == 0, result.stderr
    assert [(server["name"], server["session"]) for server in manifest(output)["servers"]] == [
        (one.url, 0), (two.url, 0), (one.url, 1),
    ]  # fmt: skip
    figures = summary(output)
    assert figures["answered"] == 11
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * 2 * PEAK))
    # A kill may overtake the last answer: what counts is what was written.
    of_two = [record for record in records(output) if record["server"] == two.url]
    assert {record["session"] for record in of_two} == {0}
    assert f"server {two.url}: {len(of_two)} request" in page(output)


def test_a_server_started_anew_with_another_peak_leaves_earlier_work_at_its_own(
    data: Path, output: Path
) -> None:
    """A quarter of it: for all of the work that would flatter by far."""
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output, "--concurrency", "1"), double)
    with Double(TOKENIZER, port=double.port, peak=PEAK / 4) as double:
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    figures, core = summary(output), CORE_NS / 1e9
    before = sum(record["session"] == 0 for record in records(output))
    assert 0 < before <= 5
    possible = core * (before * PEAK + (11 - before) * PEAK / 4)
    assert figures["mfu"] == pytest.approx(figures["flops"] / possible)
    assert figures["mfu_flagperf"] == pytest.approx(2 * PARAMETERS * figures["logical_tokens"] / possible)
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * PEAK))
    assert "peaks 0.00025 … 0.001 TFLOP/s over servers and their starts" in page(output)


def test_a_flag_that_the_resumed_run_has_no_use_for_is_refused(data: Path, output: Path) -> None:
    """Where it stands on this command line: what the run has of its own is left alone."""
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
        told = manifest(output)
        told["flags"]["arrival_pattern"], told["flags"]["metrics_host"] = "poisson", "127.0.0.1"
        (output / "manifest.json").write_text(json.dumps(told))
        taken = client("--resume", output)
        refused = client("--resume", output, "--arrival-pattern", "constant")
    assert taken.returncode == 0, taken.stderr
    assert refused.returncode == 2
    assert "--arrival-pattern is of an open loop" in the_error(refused)


def test_a_torn_line_of_device_readings_is_cut_off(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
        with (output / "device.jsonl").open("a") as log:
            log.write('{"phase":"infer","ses')
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    assert {each["session"] for each in readings} == {0, 1}


def test_a_run_that_was_never_answered_leaves_no_readings_to_the_next(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 0 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
        assert len((output / "device.jsonl").read_text().splitlines()) == 1
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    started = manifest(output)["sessions"][0]["process_started_ns"]
    assert min(each["monotonic_ns"] for each in readings) > started


def test_a_finished_run_asks_nothing_again(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        first = client("--url", double.url, "--data", data, "--output", output)
        before = {path.name: path.read_bytes() for path in output.iterdir() if path.suffix != ".html"}
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    assert len(double.asked) == len(records(output)) == 11
    assert {name: (output / name).read_bytes() for name in before} == before
    assert result.stdout == first.stdout
    assert "nothing left to ask" in result.stderr


def test_a_run_that_stopped_early_asks_nothing_again(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 60})
    with Double(TOKENIZER, reference="reference-1") as double:
        first = client(
            "--url", double.url, "--data", data, "--output", output, "--early-stop", "0.33", "--validate"
        )
        asked = len(double.asked)
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    assert len(double.asked) == asked < 120
    assert result.stdout == first.stdout


def test_a_finished_run_with_a_failed_question_still_says_so(data: Path, output: Path) -> None:
    refusal = status(code_pb2.INTERNAL, "told to fail")
    with Double(TOKENIZER, lambda number: refusal if number == 3 else None) as double:
        first = client("--url", double.url, "--data", data, "--output", output)
        result = client("--resume", output)
    assert (result.returncode, result.stdout) == (1, first.stdout)
    assert the_error(result) == the_error(first)


def test_a_resumed_run_has_what_is_left_of_its_duration(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 200})
    with Double(TOKENIZER) as double:
        flags: list[Any] = ["--url", double.url, "--data", data, "--output", output, "--request-rate", "20"]
        client(*flags, "--arrival-pattern", "constant", "--benchmark-duration", "0.5")
        assert len(records(output)) == 10
        result = client("--resume", output)
        assert result.returncode == 0, result.stderr
        assert len(records(output)) == len(double.asked) == 10
        # As if it had been killed at its last reply.
        told = manifest(output)
        assert len(told["sessions"]) == 1
        told["sessions"][0]["ended"] = None
        (output / "manifest.json").write_text(json.dumps(told))
        times = [record["client_ns"] for record in records(output)]
        spent = max(each["received"] for each in times) - min(each["due"] for each in times)
        result = client("--resume", output, "--benchmark-duration", "1.5")
    assert result.returncode == 0, result.stderr
    left = [due for due in range(0, 1_500_000_000, 50_000_000) if spent + due < 1_500_000_000]
    assert len(records(output)) == 10 + len(left)
    assert summary(output)["unanswered"] == 200 - len(records(output))


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--prompt-format", "lm-eval"], 'prompt_format was "hendrycks", now it is "lm-eval"'),
        (["--random-seed", "5"], "seeds.random_seed was 0, now it is 5"),
        (["--bs", "2"], "bs was 1, now it is 2"),
        (["--limit", "3"], "data.limit was null, now it is 3"),
    ],
)
def test_another_run_is_refused(data: Path, output: Path, flags: list[str], difference: str) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
        before = (output / "manifest.json").read_text()
        result = client("--resume", output, *flags)
    assert result.returncode == 2
    assert difference in the_error(result)
    assert (output / "manifest.json").read_text() == before


def test_other_data_and_another_model_are_refused(data: Path, output: Path, tmp_path: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
        other = write_benchmark(tmp_path / "other", {"alpha": 7, "gamma": 4})
        result = client("--resume", output, "--data", other)
        assert "data.sha256 was" in the_error(result)
    with Double(TOKENIZER, fingerprint="engine-2") as double:
        result = client("--resume", output, "--url", double.url)
    assert 'engine.fingerprint was "engine-1", now it is "engine-2"' in the_error(result)


def test_a_model_whose_weights_changed_in_the_middle_of_a_tensor_is_refused(
    data: Path, output: Path, tmp_path: Path
) -> None:
    """Most of a matrix is another, and not its beginning, its end or what lies at regular distances."""
    folder = write_checkpoint(tmp_path / "model", "llama", hidden_size=256, num_hidden_layers=1)
    with ServerProcess("--model", str(folder)) as server:
        server.wait_until_serving()
        done = client("--url", server.url, "--data", data, "--output", output)
        assert done.returncode == 0, done.stderr
    before, path = (output / "records.jsonl").read_bytes(), folder / "model.safetensors"
    tensors = load_file(path)
    matrix = tensors["model.embed_tokens.weight"].view(-1)
    for start in range(0, len(matrix), 8192):
        matrix[start + 1200 : start + 7000] *= -1
    save_file(tensors, path, metadata={"format": "pt"})
    with ServerProcess("--model", str(folder)) as server:
        server.wait_until_serving()
        refused = client("--resume", output, "--url", server.url)
    assert refused.returncode == 2
    assert f"--resume {output}: model.fingerprint was " in the_error(refused)
    assert (output / "records.jsonl").read_bytes() == before


def test_a_reference_that_was_not_asked_is_no_part_of_the_run(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
    with Double(TOKENIZER, reference="reference-1") as double:
        result = client("--resume", output, "--url", double.url)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11


def test_another_reference_is_refused(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None, reference="reference-1") as double:
        killed(("--url", double.url, "--data", data, "--output", output, "--validate"), double)
    with Double(TOKENIZER, reference="reference-2") as double:
        result = client("--resume", output, "--url", double.url)
    assert 'reference.fingerprint was "reference-1", now it is "reference-2"' in the_error(result)


def test_a_server_that_would_be_asked_other_prompts_is_refused(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
    with Double(TOKENIZER, port=double.port, max_prompt_tokens=200) as double:
        result = client("--resume", output)
    assert result.returncode == 2
    assert "limits.max_prompt_tokens was 2048, now it is 200" in the_error(result)
    assert not double.asked


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    result = client("--resume", tmp_path)
    assert result.returncode == 2
    assert "holds no run" in the_error(result)


def test_two_clients_do_not_write_one_run(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output)
        assert double.holds.wait(SECONDS)
        result = client("--resume", output)
        running.signal(signal.SIGINT)
        running.finish()
    assert "another mmlu-client is writing" in the_error(result)


def test_a_client_that_was_slow_to_connect_leaves_a_finished_run_as_it_is(data: Path, output: Path) -> None:
    """Two were started on one folder: the other had asked everything before this one found its server."""
    slow = Double(TOKENIZER, port=free_port())
    running = ClientProcess("--url", slow.url, "--data", data, "--output", output)
    running.wait_for("waiting up to 60 s")
    with Double(TOKENIZER) as double:
        assert client("--url", double.url, "--data", data, "--output", output).returncode == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with slow:
        result = running.finish()
    assert result.returncode == 2
    assert f"--output {output} holds a run already (records.jsonl)" in the_error(result)
    assert result.stdout == ""
    assert not slow.asked
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_killed_at_random_like_undisturbed(slow_folder: Path, tmp_path: Path) -> None:
    """The client, the server and both are killed at random moments of a run of a real engine."""
    chance = random.Random()
    seed = chance.randrange(10**6)
    chance.seed(seed)
    print(f"seed {seed}")
    data = write_benchmark(tmp_path / "data", {"alpha": 60, "beta": 60})
    flags: list[Any] = ["--data", data, "--bs", "3"]
    server = ServerProcess("--model", str(slow_folder)).wait_until_serving()
    port = server.url.rpartition(":")[2]
    try:
        client("--url", server.url, *flags, "--output", tmp_path / "calm")
        output, asked = tmp_path / "killed", 0
        for victims in ("client", "server", "both"):
            where: list[Any] = (
                ["--resume", output] if asked else ["--url", server.url, *flags, "--output", output]
            )
            running = ClientProcess(*where)
            asked += chance.randrange(3, 30)
            wait_for_records(output, asked)
            if victims != "client":
                server.kill()
            if victims != "server":
                running.signal(signal.SIGKILL)
                running.join()
            if victims != "client":
                server = ServerProcess("--model", str(slow_folder), "--grpc-port", port).wait_until_serving()
            if victims == "server":
                wait_for_records(output, asked + 3)
                running.signal(signal.SIGKILL)
                running.join()
            asked = len(records(output))
        result = client("--resume", output)
    finally:
        server.kill()
    assert result.returncode == 0, result.stderr
    answers = [
        {(r["subject"], r["index"]): (r["predicted"], r["tokens"]["logical"]) for r in records(folder)}
        for folder in (tmp_path / "calm", output)
    ]
    assert answers[0] == answers[1]
    assert len(records(output)) == len(answers[0]) == 120
    assert summary(output)["acc"] == summary(tmp_path / "calm")["acc"]
    assert summary(output)["failed"] == 0
