"""How long prompts get: hendrycks' and flagperf's programs cut at 2,048 tokens, whatever a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_process import client, command, the_error
from double import HOLD, Double
from mmlu import Row, write_csv
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.prompts.format import FORMATS
from run_files import manifest, page, records
from test_resume import killed
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
SERVERS = 8192


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Prompts of 3,000 to 5,000 tokens with five shots, of less than 2,048 with one."""
    for split, count in (("dev", 5), ("test", 6)):
        lines: list[Row] = [
            (
                f"{number}. " + "Which of the following is the largest? " * (35 + number),
                *"1234",
                "ABCD"[number % 4],
            )
            for number in range(count)
        ]
        write_csv(tmp_path / "data" / split / f"alpha_{split}.csv", lines)
    return tmp_path / "data"


def longest(double: Double) -> int:
    return max(len(request.prompts[0].token_ids.ids) for request in double.asked)


def length(data: Path, style: str, keep: slice) -> list[int]:
    """Tokens of each prompt with these of the shots."""
    benchmark, form = load_benchmark(str(data)), FORMATS[style]
    head = form.head("alpha", benchmark.dev["alpha"][keep])
    texts = [head + form.body(question) for question in benchmark.questions(["alpha"], None)]
    return [len(byte_level().encode(text).ids) for text in texts]


@pytest.mark.parametrize(
    ("style", "flags", "limit", "source"),
    [
        ("hendrycks", (), 2048, "hendrycks's own program"),
        ("flagperf", (), 2048, "flagperf's own program"),
        ("lm-eval", (), SERVERS, "the server"),
        ("hendrycks", ("--max-prompt-tokens", "model"), SERVERS, "the server"),
        ("hendrycks", ("--max-prompt-tokens", "1700"), 1700, "--max-prompt-tokens"),
        ("lm-eval", ("--max-prompt-tokens", "1700"), 1700, "--max-prompt-tokens"),
    ],
)
def test_prompts_are_cut_where_the_format_says(
    data: Path, output: Path, style: str, flags: tuple[str, ...], limit: int, source: str
) -> None:
    with Double(TOKENIZER, max_prompt_tokens=SERVERS) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--prompt-format", style, *flags
        )
    assert result.returncode == 0, result.stderr
    whole = length(data, style, slice(None))
    assert max(whole) > 2048
    written = records(output)
    assert [record["tokens"]["logical"] for record in written] == [
        expected_length(data, style, limit, place, whole) for place in range(len(whole))
    ]
    assert {record["truncated"] for record in written} == {limit < SERVERS}
    told = manifest(output)
    assert told["limits"]["max_prompt_tokens"] == limit
    assert told["max_prompt_tokens"]["source"] == source
    assert f"at most {limit} tokens, the limit of {source}" in page(output)


def expected_length(data: Path, style: str, limit: int, place: int, whole: list[int]) -> int:
    """By the format's own rule, worked out shot by shot."""
    if style == "lm-eval":
        return min(limit, whole[place])
    for dropped in range(6):
        keep = slice(dropped, None) if style == "flagperf" else slice(5 - dropped)
        if (fits := length(data, style, keep)[place]) <= limit:
            return fits
    raise AssertionError("it does not fit without a shot")


def test_a_smaller_server_has_the_last_word(data: Path, output: Path) -> None:
    with Double(TOKENIZER, max_prompt_tokens=1500) as double:
        client("--url", double.url, "--data", data, "--output", output)
    assert longest(double) <= 1500
    assert manifest(output)["max_prompt_tokens"] == {"asked": None, "source": "the server"}


def test_more_than_the_server_takes_is_refused(data: Path, output: Path) -> None:
    with Double(TOKENIZER, max_prompt_tokens=1500) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--max-prompt-tokens", "1501"
        )
    assert result.returncode == 2
    assert the_error(result).startswith(
        "--max-prompt-tokens 1501 is more than the 1500 that the server takes: ask"
    )
    assert not double.asked


@pytest.mark.parametrize("value", ["0", "-1", "2k", "Model"])
def test_a_limit_that_is_none_is_one_line(value: str) -> None:
    result = command("--max-prompt-tokens", value)
    assert result.returncode == 2
    assert "is not a whole number from 1, nor `model`" in the_error(result)


@pytest.mark.parametrize("way", ["file", "environment"])
def test_it_may_come_from_elsewhere(data: Path, output: Path, tmp_path: Path, way: str) -> None:
    flags: list[Any] = []
    if way == "file":
        (tmp_path / "run.yaml").write_text("max-prompt-tokens: model\n")
        flags = ["--config", tmp_path / "run.yaml"]
    environment = {"MMLU_CLIENT_MAX_PROMPT_TOKENS": "model"} if way == "environment" else {}
    with Double(TOKENIZER, max_prompt_tokens=SERVERS) as double:
        arguments = ("--url", double.url, "--data", data, "--output", output, *flags)
        result = command(*arguments, environment=environment)
    assert result.returncode == 0, result.stderr
    assert longest(double) > 2048


@pytest.mark.parametrize("server", [2048, SERVERS])
def test_a_resumed_run_keeps_its_limit(data: Path, output: Path, server: int) -> None:
    """Named otherwise it is refused, also where it comes to the same tokens on this server."""
    with Double(TOKENIZER, lambda number: HOLD if number == 2 else None, max_prompt_tokens=server) as double:
        killed(("--url", double.url, "--data", data, "--output", output), double)
    with Double(TOKENIZER, port=double.port, max_prompt_tokens=server) as double:
        refused = client("--resume", output, "--max-prompt-tokens", "model")
        assert not double.asked
        resumed = client("--resume", output)
    assert refused.returncode == 2
    assert 'max_prompt_tokens.asked was null, now it is "model"' in the_error(refused)
    assert resumed.returncode == 0, resumed.stderr
    assert longest(double) <= 2048
