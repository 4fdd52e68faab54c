"""Closed, open and offline load; what ends a run early; latency from when a request was due."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import pytest
from client_process import client, the_error
from double import CORE_NS, Collecting, Double
from mmlu import write_benchmark
from mmlu_client.load.pacing import arrival_intervals
from run_files import manifest, page, records, summary
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 30, "beta": 30})


def dues(output: Path) -> list[int]:
    return sorted({record["client_ns"]["due"] for record in records(output)})


def test_open_loop_at_a_constant_rate(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client(
            "--url", double.url, "--data", data, "--output", output, "--request-rate", "200",
            "--arrival-pattern", "constant", "--limit", "10",
        )  # fmt: skip
    gaps = {later - earlier for earlier, later in pairwise(dues(output))}
    assert gaps == {5_000_000}
    for record in records(output):
        times = record["client_ns"]
        assert times["due"] <= times["ready"] <= times["sent"] < times["received"]
    figures = summary(output)
    longest = max(record["client_ns"]["received"] - record["client_ns"]["due"] for record in records(output))
    assert figures["latency_max_seconds"] == pytest.approx(longest / 1e9)
    assert manifest(output)["load"]["description"] == "open loop, 200 requests/s, constant arrivals"


def test_poisson_arrivals_follow_from_the_seed(data: Path, tmp_path: Path) -> None:
    offsets = {}
    with Double(TOKENIZER) as double:
        for name, seed in (("one", "7"), ("again", "7"), ("other", "8")):
            client(
                "--url", double.url, "--data", data, "--output", tmp_path / name, "--request-rate", "500",
                "--random-seed", seed, "--limit", "5",
            )  # fmt: skip
            first, *rest = dues(tmp_path / name)
            offsets[name] = [due - first for due in rest]
    assert offsets["one"] == offsets["again"] != offsets["other"]


def test_poisson_arrivals_have_the_mean_and_spread_of_their_law() -> None:
    intervals = list(islice(arrival_intervals(50, "poisson", 3), 20_000))
    mean = sum(intervals) / len(intervals)
    assert mean == pytest.approx(1 / 50, rel=0.03)
    spread = (sum((each - mean) ** 2 for each in intervals) / len(intervals)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05)


def test_offline_has_everything_due_at_once(data: Path, output: Path) -> None:
    with Collecting(TOKENIZER, stream_window=16) as double:
        client("--url", double.url, "--data", data, "--output", output, "--offline", "--limit", "10")
    assert double.most_unanswered == 16
    assert len(dues(output)) == 1
    assert len(records(output)) == 20


def test_closed_loop_is_due_when_an_answer_makes_room(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output, "--concurrency", "1", "--limit", "4")
    times = [record["client_ns"] for record in records(output)]
    for earlier, later in pairwise(times):
        assert later["due"] == earlier["received"]


def test_sweep_is_a_run_for_each_point(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=1,3",
            "--limit", "2",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for point, count in (("concurrency-1", 1), ("concurrency-3", 3)):
        assert manifest(output / point)["concurrency"] == count
        assert summary(output / point)["answered"] == 4
        assert point in (output / "sweep.md").read_text()
        assert f"{point}: 4 of 4 questions" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--concurrency", "7"), "--concurrency: 7 requests"),
        (("--sweep", "concurrency=1,9,3,8"), "--sweep: 9 requests"),
    ],
)
def test_more_in_flight_than_servers_take_is_refused_before_any_is_asked(
    data: Path, output: Path, flags: tuple[str, ...], message: str
) -> None:
    with Double(TOKENIZER, stream_window=3) as one, Double(TOKENIZER, stream_window=3) as two:
        servers = ("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
        refused = client(*servers, *flags)
        assert not one.asked
        assert not two.asked
        assert not output.exists()
        taken = client(*servers, "--concurrency", "6")
    assert refused.returncode == 2
    assert f"{message} cannot be in flight: the servers' windows hold 6 in all" in the_error(refused)
    assert taken.returncode == 0, taken.stderr


def test_sweep_over_rates(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "request-rate=100,200.5",
            "--limit", "2",
        )  # fmt: skip
    assert manifest(output / "request-rate-200.5")["load"]["mode"] == "open"


def test_warm_up_is_asked_and_forgotten(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client(
            "--url", double.url, "--data", data, "--output", output, "--warmup-request-count", "7",
            "--limit", "2",
        )  # fmt: skip
    assert len(double.asked) == 7 + 4
    assert len(records(output)) == 4
    assert summary(output)["requests"] == 4


def test_request_count_takes_a_random_sample(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output, "--request-count", "5", "--bs", "4")
    assert [len(request.prompts) for request in double.asked] == [4] * 5
    assert {record["subject"] for record in records(output)} == {"alpha", "beta"}
    assert summary(output)["questions"] == 20
    assert manifest(output)["data"]["order"] == "shuffled"


def test_duration_ends_a_run(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--request-rate", "20",
            "--arrival-pattern", "constant", "--benchmark-duration", "0.5",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Due at once, at 50 ms, 100 ms, … up to, not with, 500 ms.
    assert summary(output)["answered"] == 10
    assert summary(output)["unanswered"] == 50
    assert summary(output)["ended_early"] == "benchmark duration"
    told = "--benchmark-duration 0.5 s is over; questions in random order (seed 0)"
    assert f"ended early: {told}" in page(output)


@pytest.mark.parametrize("pattern", ["poisson", "constant"])
def test_the_first_request_of_an_open_loop_is_due_at_once(data: Path, output: Path, pattern: str) -> None:
    """However rare they are: the next would come after the end."""
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--request-rate", "0.001",
            "--arrival-pattern", pattern, "--benchmark-duration", "0.5",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (summary(output)["answered"], summary(output)["unanswered"]) == (1, 59)


def test_early_stop_ends_when_the_interval_is_narrow(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--early-stop", "0.33")
    assert result.returncode == 0, result.stderr
    figures = summary(output)
    assert figures["acc_high"] - figures["acc_low"] < 0.33
    assert 30 <= figures["answered"] < 60
    assert manifest(output)["sessions"][0]["ended"]["why"] == figures["ended_early"] == "early stop"
    assert "ended early: the 95 % interval of accuracy is narrower than --early-stop 0.33" in page(output)
    assert "questions in random order (seed 0)" in (output / "report.html").read_text()


def test_goodput_is_the_share_inside_every_goal(data: Path, tmp_path: Path) -> None:
    core = CORE_NS / 1e6
    with Double(TOKENIZER) as double:
        for name, goal in (("in", core), ("out", core / 2)):
            client(
                "--url", double.url, "--data", data, "--output", tmp_path / name, "--limit", "2",
                "--goodput", f"core:{goal}", "--goodput", "latency:60000",
            )  # fmt: skip
    assert summary(tmp_path / "in")["goodput_share"] == 1.0
    assert summary(tmp_path / "out")["goodput_share"] == 0.0


def test_stages_add_up_to_the_latency(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    figures = summary(output)
    stages = {name: value for name, value in figures.items() if name.startswith("stage_")}
    del stages["stage_tokenize_seconds"]
    assert sum(stages.values()) == pytest.approx(figures["latency_mean_seconds"])
    parts = figures["ramp_seconds"] + figures["steady_seconds"] + figures["drain_seconds"]
    assert parts == pytest.approx(figures["whole_seconds"])


def test_a_client_that_is_slower_than_the_server_says_so(data: Path, output: Path) -> None:
    """The double answers at once: the client is all that takes time."""
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--offline")
    assert summary(output)["client_is_bottleneck"]
    assert "THE CLIENT WAS A BOTTLENECK" in result.stdout


def test_two_modes_at_once_are_refused() -> None:
    result = client("--offline", "--request-rate", "5")
    assert result.returncode == 2
    assert "not allowed with argument" in the_error(result)
