"""`--validate`: the reference engine first, then the compiled one, on the same questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client_process import client, the_error
from double import Double
from mmlu import write_benchmark
from mmlu_client.figures.tolerance import TOLERANCES
from processes import ServerProcess
from run_files import page, records, summary
from scoring.v1 import scoring_pb2 as pb
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


@pytest.fixture(scope="module")
def validating(llama_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(llama_folder), "--reference", "torch") as process:
        yield process.wait_until_serving()


def test_reference_first_then_the_engine(validating: ServerProcess, tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4, "beta": 3}), tmp_path / "run"
    result = client(
        "--url", validating.url, "--data", data, "--output", output, "--validate",
        "--bs", "2",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    written, figures = records(output), summary(output)
    assert [record["phase"] for record in written] == ["val"] * 7 + ["infer"] * 7
    for val, infer in zip(written[:7], written[7:], strict=True):
        assert (val["subject"], val["index"]) == (infer["subject"], infer["index"])
        assert val["logprobs"] == pytest.approx(infer["logprobs"], abs=1e-3)
        assert val["logprobs"] != infer["logprobs"], "the reference was not asked"
    largest = max(
        abs(val["logprobs"][letter] - infer["logprobs"][letter])
        for val, infer in zip(written[:7], written[7:], strict=True)
        for letter in "ABCD"
    )
    assert figures["largest_logprob_difference"] == pytest.approx(largest)
    assert figures["agreement"] == 1.0
    assert figures["validated"] is True
    assert figures["largest_logprob_tolerance"] == TOLERANCES["fp32"].largest
    assert figures["mcnemar_p"] == 1.0
    assert figures["acc_val"] == figures["acc"]
    assert figures["p_val_core"] > figures["p_val_whole"] > 0
    assert figures["answered"] == figures["val_answered"] == 7
    lines = [line for line in result.stderr.splitlines() if "/7 questions" in line]
    assert [line.partition(", acc")[0].removeprefix("mmlu-client: ") for line in lines] == [
        "reference: 7/7 questions", "7/7 questions",
    ]  # fmt: skip
    assert "no difference in accuracy is shown between the reference and the engine" in page(output)


def test_early_stop_validates_what_it_asks(validating: ServerProcess, tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 60}), tmp_path / "run"
    client(
        "--url", validating.url, "--data", data, "--output", output, "--validate",
        "--bs", "8", "--early-stop", "0.36",
    )  # fmt: skip
    asked = {phase: set[int]() for phase in ("val", "infer")}
    for record in records(output):
        asked[record["phase"]].add(record["index"])
    assert 30 <= len(asked["val"]) < 60
    assert asked["infer"] <= asked["val"]


def test_without_a_reference_nothing_is_asked(server: ServerProcess, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = client("--url", server.url, "--output", output, "--validate")
    assert result.returncode == 2
    assert "has no reference engine: start it with --reference torch" in the_error(result)
    assert not output.exists()


def is_of_the_reference(request: pb.ScoreRequest) -> bool:
    return request.engine == pb.ENGINE_ROLE_REFERENCE


def engine_is_off(nats: float, questions: int) -> Callable[[pb.ScoreRequest, pb.ScoreResponse], None]:
    """By so much, at the first letter of the first questions."""

    def change(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        number = int(request.id.rpartition("-")[2])
        if not is_of_the_reference(request) and number <= questions:
            response.scores[0].candidate_logprobs[0] -= nats

    return change


FP32 = TOLERANCES["fp32"]


@pytest.mark.parametrize(
    ("nats", "questions", "agrees"),
    [
        (FP32.largest * 0.9, 2, True),
        (FP32.largest * 1.1, 1, False),
        (FP32.median * 0.9, 8, True),
        (FP32.median * 1.1, 8, False),
        (49.0, 8, False),
    ],
)
def test_an_engine_that_is_off_does_not_pass(
    tmp_path: Path, nats: float, questions: int, agrees: bool
) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    off = engine_is_off(nats, questions)
    with Double(TOKENIZER, reference="reference-1", change=off) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--validate")
        resumed = client("--resume", output)
    figures = summary(output)
    assert figures["validated"] is agrees
    assert figures["largest_logprob_difference"] == pytest.approx(nats, rel=1e-2)
    assert figures["median_logprob_difference"] == pytest.approx(nats if questions == 8 else 0.0, rel=1e-2)
    for done in (result, resumed):
        assert done.returncode == (0 if agrees else 1)
        assert "| tool" in done.stdout
        assert "accuracy: " in done.stdout
        assert ("VALIDATION FAILED" in done.stdout) is not agrees
        assert ("| double (fails validation) |" in done.stdout) is not agrees
    if not agrees:
        assert f"are {nats:.2g} nats apart" in the_error(result) == the_error(resumed)
        assert "VALIDATION FAILED: log-probabilities of engine and reference" in page(output)


def test_without_a_reference_nothing_is_said_of_it(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 2}), tmp_path / "run"
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    figures = summary(output)
    names = ("validated", "largest_logprob_tolerance", "median_logprob_tolerance", "val_tied")
    assert [figures[name] for name in names] == [None] * 4


@pytest.mark.parametrize("who", ["engine", "reference"])
def test_scores_that_are_no_numbers_do_not_pass(tmp_path: Path, who: str) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 6}), tmp_path / "run"

    def change(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        if is_of_the_reference(request) == (who == "reference") and request.id.endswith("-3"):
            response.scores[0].candidate_logprobs[2] = math.nan

    with Double(TOKENIZER, reference="reference-1", change=change) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--validate")
    figures = summary(output)
    assert result.returncode == 1
    assert f"the {who}'s log-probabilities are not finite on 1 questions" in the_error(result)
    assert (figures["not_finite"], figures["val_not_finite"]) == ((1, 0) if who == "engine" else (0, 1))
    assert figures["validated"] is False
    assert "the server's log-probabilities are not finite" in page(output)


def set_equal(response: pb.ScoreResponse, count: int) -> None:
    """The first letters' log-probabilities, larger than the others'."""
    for score in response.scores:
        score.candidate_logprobs[:] = [-1.0] * count + [-2.0] * (4 - count)


def test_a_model_that_does_not_choose_has_measured_nothing(tmp_path: Path) -> None:
    """All four alike in every question: the first counts as chosen, which is right in a quarter of them."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    with Double(TOKENIZER, change=lambda _, response: set_equal(response, 4)) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    figures = summary(output)
    assert {record["predicted"] for record in records(output)} == {"A"}
    assert (figures["tied"], figures["acc"]) == (8, 2 / 8)
    assert "NOTHING WAS MEASURED: on 8 of 8 questions letters tie for the largest" in result.stdout
    assert "NOTHING WAS MEASURED: on 8 of 8 questions" in page(output)


def test_ties_are_counted_of_engine_and_reference(tmp_path: Path) -> None:
    """One of the engine's, three of the reference's; four letters in a row of two sizes are none."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    counts = {"infer-0-2": 2, "infer-0-3": 1, "val-0-1": 3, "val-0-2": 2, "val-0-5": 4}

    def change(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        if request.id in counts:
            set_equal(response, counts[request.id])

    with Double(TOKENIZER, reference="reference-1", change=change) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--validate")
    figures = summary(output)
    assert (figures["tied"], figures["val_tied"]) == (1, 3)
    assert "ties: on 1 of 8 questions letters tie for the largest log-probability" in page(output)
    assert "ties by the reference: on 3 of 8 questions" in page(output)
    assert "ties: on 1 of 8 questions" in result.stdout
    assert "NOTHING WAS MEASURED" not in result.stdout
