"""The demo benchmark through server and client, in every way it can be asked, and in plain transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_process import client
from processes import ServerProcess
from run_files import records, summary

from tools.demo_model.evaluate import Answerer
from tools.demo_model.prompt import prompt
from tools.demo_model.split import Split

Predictions = dict[tuple[str, int], str]


@pytest.fixture(scope="module")
def expected(checkpoint: Path, splits: list[Split]) -> Predictions:
    """Of transformers in fp32, one prompt at a time."""
    answerer = Answerer(checkpoint)
    return {
        (each.subject, index): answerer.answer(prompt(each.subject, each.dev, question))
        for each in splits
        for index, question in enumerate(each.test)
    }


@pytest.fixture(scope="module")
def demo_server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server.wait_until_serving()


@pytest.mark.parametrize("flags", [(), ("--reuse-prefix",)], ids=["whole", "reused"])
@pytest.mark.parametrize("bs", [1, 8])
def test_every_question_is_answered_as_transformers_answers_it(
    demo_server: ServerProcess, expected: Predictions, tmp_path: Path, bs: int, flags: tuple[str, ...]
) -> None:
    result = client("--url", demo_server.url, "--bs", str(bs), "--output", tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    found = {(record["subject"], record["index"]): record["predicted"] for record in records(tmp_path)}
    assert found == expected
    assert (summary(tmp_path)["prefix_hit_ratio"] > 0.5) == bool(flags)
