"""`--validate`: the reference engine first, then the compiled one, on the same questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_process import client, the_error
from mmlu import write_benchmark
from processes import ServerProcess
from run_files import records, summary
from tokenizer_kinds import byte_level, write_tokenizer


@pytest.fixture(scope="module")
def validating(llama_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(llama_folder), "--reference", "torch") as process:
        yield process.wait_until_serving()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tokenizer(byte_level(), tmp_path_factory.mktemp("tokenizer")))


def test_reference_first_then_the_engine(validating: ServerProcess, tmp_path: Path, tokenizer: str) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4, "beta": 3}), tmp_path / "run"
    result = client(
        "--url", validating.url, "--data", data, "--output", output, "--tokenizer", tokenizer, "--validate",
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
    assert figures["mcnemar_p"] == 1.0
    assert figures["acc_val"] == figures["acc"]
    assert figures["p_val_core"] > figures["p_val_whole"] > 0
    assert figures["answered"] == figures["val_answered"] == 7
    lines = [line for line in result.stderr.splitlines() if "/7 questions" in line]
    assert [line.partition(": acc")[0].removeprefix("mmlu-client: ") for line in lines] == [
        "reference: alpha", "reference: beta", "alpha", "beta",
    ]  # fmt: skip
    assert "no difference in accuracy is shown between the reference and the engine" in result.stdout


def test_early_stop_validates_what_it_asks(validating: ServerProcess, tmp_path: Path, tokenizer: str) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 60}), tmp_path / "run"
    client(
        "--url", validating.url, "--data", data, "--output", output, "--tokenizer", tokenizer, "--validate",
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
