"""Requests in flight, retries, failures and lost streams, through the real client and a real channel."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_process import SECONDS, ClientProcess, client, command, the_error
from double import (
    CORE_NS,
    FLOPS_A_TOKEN,
    HOLD,
    PARAMETERS,
    PEAK,
    Collecting,
    Double,
    Verdict,
    chosen_letter,
    queue_full,
    status,
)
from google.rpc import code_pb2
from mmlu import write_benchmark, write_csv
from run_files import manifest, page, records, summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files, write_tokenizer

TOKENIZER = tokenizer_files(byte_level())


def asked(double: Double) -> list[tuple[int, ...]]:
    return [tuple(prompt.token_ids.ids) for request in double.asked for prompt in request.prompts]


def test_every_question_once_and_in_order(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--bs", "3")
    assert result.returncode == 0, result.stderr
    assert [len(request.prompts) for request in double.asked] == [3, 3, 3, 2]
    written = records(output)
    assert [(r["subject"], r["index"]) for r in written] == [
        *(("alpha", index) for index in range(7)),
        *(("beta", index) for index in range(4)),
    ]
    for ids, record in zip(asked(double), written, strict=True):
        assert record["predicted"] == "ABCD"[chosen_letter(list(ids))]
        assert record["correct"] == (record["predicted"] == record["answer"])
        assert record["tokens"]["logical"] == len(ids)
        assert record["flops"] == FLOPS_A_TOKEN * len(ids)
        assert record["server_ns"]["core"] == CORE_NS
        assert record["client_ns"]["received"] > record["client_ns"]["sent"]
        assert record["error"] is None
    assert double.streams_ended_well == 1


def test_prompts_of_a_batch_are_of_like_length_and_one_subject(tmp_path: Path, output: Path) -> None:
    """Short and long in turn, an odd number of either in each of two subjects."""
    for subject in ("alpha", "beta"):
        lengths = [60 if number % 2 else 3 for number in range(10)]
        rows = [("word " * length, "1", "2", "3", "4", "A") for length in lengths]
        write_csv(tmp_path / "data" / "test" / f"{subject}_test.csv", rows)
    with Double(TOKENIZER) as double:
        flags = ("--data", tmp_path / "data", "--bs", "2", "--few-shots", "0")
        client("--url", double.url, "--output", output, *flags)
    batches: dict[str, list[dict[str, Any]]] = {}
    for record in records(output):
        batches.setdefault(record["request"]["id"], []).append(record)
    assert len(batches) == 10
    assert all(len({record["subject"] for record in batch}) == 1 for batch in batches.values())
    # The middle one of each subject has a short and a long prompt.
    assert sum(batch[0]["batch"]["padding_tokens"] > 0 for batch in batches.values()) == 2


def test_like_lengths_are_put_together_over_hundreds_of_questions(tmp_path: Path, output: Path) -> None:
    """Sixteen lengths in turn, as many of each as fill batches: but for a few at both ends none is padded."""
    rows = [("word " * (5 * (number % 16)), "1", "2", "3", "4", "A") for number in range(512)]
    write_csv(tmp_path / "data" / "test" / "alpha_test.csv", rows)
    with Double(TOKENIZER) as double:
        flags = ("--data", tmp_path / "data", "--bs", "8", "--few-shots", "0")
        client("--url", double.url, "--output", output, *flags)
    batches = {record["request"]["id"]: record["batch"] for record in records(output)}
    assert len(batches) == 64
    assert sum(batch["padding_tokens"] > 0 for batch in batches.values()) <= 16


def test_a_random_order_is_sorted_in_small_parts_only(tmp_path: Path, output: Path) -> None:
    """Whatever of it is answered first must tell nothing about a question's length."""
    rows = [("word " * (number % 64), "1", "2", "3", "4", "A") for number in range(512)]
    write_csv(tmp_path / "data" / "test" / "alpha_test.csv", rows)
    with Double(TOKENIZER) as double:
        flags = ("--data", tmp_path / "data", "--bs", "8", "--few-shots", "0", "--request-count", "64")
        client("--url", double.url, "--output", output, *flags, "--concurrency", "1")
    lengths = [record["tokens"]["logical"] for record in records(output)]
    first, second = (sum(half) / len(half) for half in (lengths[:256], lengths[256:]))
    assert first == pytest.approx(second, rel=0.25)


def test_figures_follow_from_the_records(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output, "--bs", "3")
    figures, written = summary(output), records(output)
    tokens = sum(record["tokens"]["logical"] for record in written)
    core = 4 * CORE_NS / 1e9
    assert figures["acc"] == pytest.approx(sum(record["correct"] for record in written) / 11)
    assert figures["p_infer_core"] == pytest.approx(tokens / core)
    assert figures["p_infer_whole"] == pytest.approx(tokens / figures["whole_seconds"])
    assert figures["mfu"] == pytest.approx(FLOPS_A_TOKEN * tokens / (core * 1e9))
    assert figures["mean_batch_size"] == pytest.approx(11 / 4)
    assert figures["e2e_time"] > 3.0 + 4.0 + figures["whole_seconds"]
    assert (figures["mem_used_gib"], figures["mem_total_gib"]) == (2.0, 40.0)


def test_requests_in_flight_are_bounded_and_answers_may_come_in_any_order(data: Path, output: Path) -> None:
    with Collecting(TOKENIZER, stream_window=3) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--limit", "3")
    assert result.returncode == 0, result.stderr
    assert double.most_unanswered == manifest(output)["concurrency"] == 3
    assert "load: closed loop, 3 in flight" in page(output)
    by_question = {(record["subject"], record["index"]): record for record in records(output)}
    assert len(by_question) == 6
    expected = ["ABCD"[chosen_letter(list(ids))] for ids in asked(double)]
    assert [by_question[key]["predicted"] for key in sorted(by_question)] == expected


def test_a_full_queue_is_asked_again(data: Path, output: Path) -> None:
    refusals = {2: queue_full(0.05), 5: queue_full(None)}
    with Double(TOKENIZER, refusals.get) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert len(double.asked) == 13
    assert summary(output)["answered"] == 11
    assert summary(output)["interruptions"] == 0


def test_a_failed_question_is_recorded_and_the_run_goes_on(data: Path, output: Path) -> None:
    wrong = {1: status(code_pb2.OUT_OF_RANGE, "prompt of 99 tokens, 50 at most")}
    with Double(TOKENIZER, wrong.get) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    assert the_error(result) == (
        "1 of 11 questions failed, the first alpha 1: OUT_OF_RANGE: prompt of 99 tokens, 50 at most"
    )
    failed = [record for record in records(output) if record["error"]]
    assert [(record["subject"], record["index"]) for record in failed] == [("alpha", 1)]
    assert failed[0]["logprobs"] is None
    assert failed[0]["correct"] is None
    figures = summary(output)
    assert (figures["answered"], figures["failed"], figures["unanswered"]) == (10, 1, 0)


def test_a_question_too_long_for_the_model_is_recorded(data: Path, output: Path) -> None:
    with Double(TOKENIZER, max_prompt_tokens=20) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--limit", "1")
    assert "2 of 2 questions failed, the first alpha 0:" in the_error(result)
    assert not double.asked
    assert all("without any shot: the limit is 20" in record["error"] for record in records(output))


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_broken_stream_is_opened_again(data: Path, output: Path, code: grpc.StatusCode) -> None:
    with Double(TOKENIZER, {4: code}.get) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert f"the stream to {double.url} broke (" in result.stderr
    figures = summary(output)
    assert (figures["answered"], figures["failed"], figures["interruptions"]) == (11, 0, 1)
    assert {(r["subject"], r["index"]) for r in records(output)} == {
        *(("alpha", index) for index in range(7)),
        *(("beta", index) for index in range(4)),
    }
    assert len(records(output)) == 11
    assert "interruptions: 1" in page(output)


def test_a_draining_server_is_waited_for(data: Path, output: Path) -> None:
    """What it turns away while it drains is asked again, not failed."""
    draining = status(code_pb2.UNAVAILABLE, "draining")
    with Double(TOKENIZER, lambda number: draining if 3 <= number < 7 else None) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11
    assert summary(output)["interruptions"] >= 1


def test_a_server_that_drains_while_its_queue_is_full_is_waited_for(data: Path, output: Path) -> None:
    """It turns the second request away, and then has no other to answer than the first, which it put off."""
    verdicts = {0: queue_full(0.5), 1: status(code_pb2.UNAVAILABLE, "draining")}
    with Double(TOKENIZER, verdicts.get) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert "(the server takes no more work)" in result.stderr
    assert summary(output)["answered"] == 11
    assert summary(output)["interruptions"] == 1


def test_a_server_that_never_answers_again_ends_the_run(data: Path, output: Path) -> None:
    def break_after_two(number: int) -> Verdict:
        if number < 2:
            return None
        wait_for_records(output, 2)  # what is on its way when a stream breaks may be lost with it
        return grpc.StatusCode.UNAVAILABLE

    with Double(TOKENIZER, break_after_two) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    assert "broke 5 streams in a row without an answer" in the_error(result)
    assert len(records(output)) == 2
    assert summary(output)["unanswered"] == 9


def hold_from(first: int) -> Callable[[int], Verdict]:
    return lambda number: HOLD if number >= first else None


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_reports_what_there_is(
    data: Path, output: Path, number: signal.Signals, exit_status: int
) -> None:
    with Double(TOKENIZER, hold_from(4)) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output, "--concurrency", "1")
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
        running.signal(number)
        result = running.finish()
    assert result.returncode == exit_status
    assert the_error(result) == f"stopped by {number.name}; --resume {output} goes on with it"
    assert len(records(output)) == 4
    assert (summary(output)["answered"], summary(output)["unanswered"]) == (4, 7)
    assert "| tool" in result.stdout


def test_a_server_that_comes_back_is_used_again(data: Path, output: Path) -> None:
    with Double(TOKENIZER, hold_from(4)) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output, "--concurrency", "2")
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    with Double(TOKENIZER, port=double.port) as again:
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert len(again.asked) == 7
    assert len(records(output)) == 11
    assert summary(output)["interruptions"] == 1
    assert summary(output)["outage_seconds"] > 0


def test_a_server_that_stays_away_ends_the_run_with_what_there_is(data: Path, output: Path) -> None:
    with Double(TOKENIZER, hold_from(4)) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--concurrency", "1",
            "--server-timeout", "1",
        )  # fmt: skip
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    result = running.finish()
    assert result.returncode == 1
    assert "within 1 s" in the_error(result)
    assert len(records(output)) == 4
    assert summary(output)["unanswered"] == 7
    lost = summary(output)["ended_early"]
    assert the_error(result) == f"{lost}; --resume {output} goes on with it"
    assert f"ended early: {lost}" in page(output)


def test_another_engine_does_not_finish_the_run(data: Path, output: Path) -> None:
    with Double(TOKENIZER, hold_from(4)) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output)
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    with Double(TOKENIZER, port=double.port, fingerprint="engine-2") as other:
        result = running.finish()
    assert result.returncode == 1
    assert "came back with another model or engine" in the_error(result)
    assert not other.asked
    assert len(records(output)) == 4


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_server_that_comes_back_with_another_peak_is_counted_at_the_larger(
    data: Path, output: Path, factor: float
) -> None:
    with Double(TOKENIZER, hold_from(4)) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output)
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    with Double(TOKENIZER, port=double.port, peak=factor * PEAK):
        result = running.finish()
    assert result.returncode == 0, result.stderr
    figures = summary(output)
    possible = 11 * CORE_NS / 1e9 * max(1.0, factor) * PEAK
    assert figures["answered"] == 11
    assert figures["mfu"] == pytest.approx(figures["flops"] / possible)
    assert figures["mfu_flagperf"] == pytest.approx(2 * PARAMETERS * figures["logical_tokens"] / possible)
    assert f"peak {max(1.0, factor) * PEAK / 1e12:.4g} TFLOP/s" in page(output)


@pytest.mark.parametrize(
    ("limits", "trouble"),
    [
        ({"max_batch_size": 1}, "--bs 2 is too many"),
        ({"reference": ""}, "has no reference engine"),
        ({"max_prompt_tokens": 200}, "takes prompts of 200 tokens, this run asks for up to 2048"),
    ],
)
def test_a_server_that_comes_back_unable_does_not_finish_the_run(
    data: Path, output: Path, limits: dict[str, Any], trouble: str
) -> None:
    able: dict[str, Any] = {"max_batch_size": 2, "reference": "one"}
    with Double(TOKENIZER, hold_from(2), **able) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--bs", "2", "--validate"
        )
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    with Double(TOKENIZER, port=double.port, **{**able, **limits}) as other:
        result = running.finish()
    assert result.returncode == 1
    assert "came back as it cannot be used: " in the_error(result)
    assert trouble in the_error(result)
    assert not other.asked


def test_a_full_disk_keeps_what_was_scored(data: Path, output: Path) -> None:
    """A limit on the size of files stands for the disk."""
    limit = len(TOKENIZER["tokenizer.json"]) + 3000
    data = write_benchmark(data, {"alpha": 100})
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--subjects", "alpha",
            file_size=limit,
        )  # fmt: skip
    assert result.returncode == 1
    assert "cannot write" in the_error(result)
    assert "records.jsonl" in the_error(result)
    kept = (output / "records.jsonl").read_text()
    assert kept.endswith("\n")
    assert summary(output)["answered"] == len(records(output)) > 5


def test_model_without_tokenizer_takes_a_named_one(data: Path, output: Path, tmp_path: Path) -> None:
    with Double(None) as double:
        without = client("--url", double.url, "--data", data, "--output", output)
        folder = write_tokenizer(byte_level(), tmp_path / "tokenizer")
        named = client(
            "--url", double.url, "--data", data, "--output", output, "--tokenizer", folder, "--limit", "1"
        )
    assert without.returncode == 2
    assert (
        "double has no tokenizer: name one whose ids its vocabulary has, with --tokenizer demo"
        in the_error(without)
    )
    assert named.returncode == 0, named.stderr


def test_tokenizer_of_another_model_is_refused(tmp_path: Path, output: Path) -> None:
    """Said once, however many chunks of prompts are built ahead."""
    data = write_benchmark(tmp_path / "data", {"alpha": 300})
    with Double(TOKENIZER, vocabulary_size=100) as double:
        result = command("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 2
    assert "the model's vocabulary has 100: it is not this model's tokenizer" in the_error(result)


def test_more_prompts_than_the_server_takes(data: Path, output: Path) -> None:
    with Double(TOKENIZER, max_batch_size=8) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--bs", "9")
    assert result.returncode == 2
    assert f"--bs 9 is too many: {double.url} takes 8; start it with --max-batch-size 9" in the_error(result)
