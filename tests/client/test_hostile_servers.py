"""What a server or a file says that cannot be, or that would be more than text on a terminal."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from client_process import client, command, the_error
from double import Double, status
from google.rpc import code_pb2
from mmlu import write_benchmark
from run_files import page, records, summary
from scoring.v1 import scoring_pb2 as pb
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
# A screen is cleared, a title is set, a text runs backwards, and a line pretends to be of this program.
HOSTILE = "demo\x1b[2J\x1b]0;title\x07\u202e\x9b31m\r\nmmlu-client: all is well | 1.000 |"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


class Described(Double):
    """A double whose description of its model is changed before it goes out."""

    def __init__(self, change_model: Callable[[pb.Model], None]) -> None:
        super().__init__(TOKENIZER)
        self._change_model = change_model

    async def GetModel(self, request: object, context: object) -> pb.Model:  # noqa: N802
        model = await super().GetModel(request, context)
        self._change_model(model)
        return model


# What is changed in an answer, and what is said of it; TOKENS is the number of its prompt's.
IMPOSSIBLE: Sequence[tuple[Callable[[pb.ScoreResponse], None], str]] = (
    (lambda response: setattr(response.timing, "core_ns", -5), "core took -5 ns"),
    (lambda response: setattr(response.timing, "queue_ns", -(2**63)), f"queue took -{2**63} ns"),
    (lambda response: setattr(response.timing, "total_ns", 2**63 - 1), f"total took {2**63 - 1} ns"),
    (
        lambda response: setattr(response.scores[0], "flops", 2**64 - 1),
        f"a prompt took {2**64 - 1} floating-point operations",
    ),
    (
        lambda response: setattr(response.scores[0].tokens, "logical", 2**31 - 1),
        f"a prompt of TOKENS tokens has {2**31 - 1}",
    ),
    (
        lambda response: setattr(response.scores[0].tokens, "logical", 0),
        "a prompt of TOKENS tokens has 0",
    ),
    (
        lambda response: setattr(response.scores[0].tokens, "computed", 2**31 - 1),
        f"{2**31 - 1} tokens of a prompt of TOKENS were computed",
    ),
    (
        lambda response: setattr(response.scores[0].tokens, "computed", 0),
        "0 tokens of a prompt of TOKENS were computed",
    ),
    (
        lambda response: response.scores[0].candidate_logprobs.__setitem__(1, 3e38),
        "3e+38 is the logarithm of a probability",
    ),
    (
        lambda response: setattr(response.scores[0], "top_logprob", 0.01),
        "0.01 is the logarithm of a probability",
    ),
    (
        lambda response: setattr(response.scores[0], "top_token_id", 1000),
        "token 1000 is the most likely of 1000",
    ),
    (
        lambda response: setattr(response.batch, "prompts", 2**31 - 1),
        f"its batch had {2**31 - 1} prompts",
    ),
    (lambda response: response.ClearField("batch"), "its batch had 0 prompts"),
    (
        lambda response: setattr(response.batch, "padded_length", 2**31 - 1),
        f"its batch was padded to {2**31 - 1} tokens",
    ),
    (
        lambda response: setattr(response.batch, "padding_tokens", 2**31 - 1),
        f"its prompts were padded with {2**31 - 1} tokens",
    ),
)


def place(request: pb.ScoreRequest) -> int:
    """The number of a request in its run, from 0."""
    return int(request.id.rpartition("-")[2]) - 1


def spoil(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
    """Make the first answers impossible, each in a way of its own."""
    if place(request) < len(IMPOSSIBLE):
        change, _ = IMPOSSIBLE[place(request)]
        change(response)


def test_an_answer_that_cannot_be_is_a_failed_question(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": len(IMPOSSIBLE) + 3})
    with Double(TOKENIZER, change=spoil) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    tokens = {place(request): len(request.prompts[0].token_ids.ids) for request in double.asked}
    found = {record["index"]: record for record in records(output)}
    assert len(found) == len(IMPOSSIBLE) + 3
    for index, (_, said) in enumerate(IMPOSSIBLE):
        said = said.replace("TOKENS", str(tokens[index]))
        assert found[index]["error"] == f"DATA_LOSS: the server's answer cannot be: {said}"
    assert the_error(result).startswith(
        f"{len(IMPOSSIBLE)} of {len(found)} questions failed, the first alpha 0: {found[0]['error']}"
    )
    assert all(
        value >= 0 for record in found.values() for value in (record["server_ns"] or {"core": 0}).values()
    )
    figures = summary(output)
    assert (figures["answered"], figures["failed"]) == (3, len(IMPOSSIBLE))
    assert figures["flops"] == sum(record["flops"] or 0 for record in found.values())
    again = command("report", output)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: setattr(model.peak, "flops_per_second", math.nan), "peak_flops is nan"),
        (lambda model: setattr(model.peak, "flops_per_second", -1.0), "peak_flops is -1.0"),
        (lambda model: setattr(model.peak, "flops_per_second", 5e-324), "peak_flops is 5e-324"),
        (lambda model: setattr(model.engine, "load_seconds", math.inf), "engine.load_seconds is inf"),
        (lambda model: setattr(model.parameters, "total", 2**64 - 1), f"parameters is {2**64 - 1}"),
        (lambda model: setattr(model.device, "power_watts", math.nan), "device.power_watts is nan"),
    ],
)
def test_a_model_that_cannot_be_is_refused(
    data: Path, output: Path, change: Callable[[pb.Model], None], said: str
) -> None:
    with Described(change) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    assert the_error(result) == f"grpc://{double.url} describes its model with what cannot be: {said}"
    assert not output.exists()
    assert not double.asked


def test_rounding_of_a_log_probability_is_no_fault(data: Path, output: Path) -> None:
    def round_up(_: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        response.scores[0].top_logprob = 1e-6

    with Double(TOKENIZER, change=round_up) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr


def test_no_text_of_a_server_is_printed_at_any_length(data: Path, output: Path) -> None:
    def change(model: pb.Model) -> None:
        model.notice = model.architecture = model.peak.source = model.device.name = "word " * 600_000
        model.id = model.engine.name = "x" * 3_000_000

    def refuse(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        if request.id.endswith("-3"):
            response.scores[0].top_token_id = 2**32 - 1

    with Described(change) as double:
        double._change = refuse
        double._decide = lambda number: status(code_pb2.INTERNAL, "y" * 3_000_000) if number == 5 else None
        result = client("--url", double.url, "--data", data, "--output", output, "--verbose")
    assert result.returncode == 1
    assert "DATA_LOSS" in the_error(result)
    errors = [str(record["error"]) for record in records(output)]
    assert any("yyy … yyy" in error for error in errors)
    for text in (result.stdout, result.stderr, page(output), *errors):
        assert len(text) < 100_000
    assert "xxx … xxx" in page(output)


def test_a_device_that_loses_its_mind_spoils_no_reading(data: Path, output: Path) -> None:
    """The first two calls are of the start; the readings after them hold no number."""

    def change(model: pb.Model) -> None:
        if double.readings > 2:
            model.device.energy_joules = math.nan

    double = Described(change)
    with double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    for name in ("summary.json", "manifest.json", "records.jsonl", "device.jsonl"):
        assert "NaN" not in (output / name).read_text()


def test_no_text_of_a_server_controls_the_terminal(data: Path, output: Path) -> None:
    def change(model: pb.Model) -> None:
        model.id = model.architecture = model.notice = model.peak.source = HOSTILE
        model.engine.name = model.engine.version = model.device.name = HOSTILE

    def refuse(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
        del request
        response.scores[0].top_logprob = math.nan

    with Described(change) as double:
        double._change = refuse
        result = client("--url", double.url, "--data", data, "--output", output, "--verbose")
        again = command("report", output, "--verbose")
    pages = [(output / name).read_text() for name in ("summary.md", "report.html")]
    pages[1] = re.sub(r"<script.*?</script>", "", pages[1], flags=re.DOTALL)
    for text in (result.stdout, result.stderr, again.stdout, again.stderr, *pages):
        assert not CONTROL.search(text)
        assert not re.search(r"^mmlu-client: all is well", text, re.MULTILINE)
    assert r"\x1b[2J" in page(output)
    rows = [line for line in page(output).splitlines() if line.startswith("|")][:3]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_no_name_of_a_file_controls_the_terminal(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"al\x1b[2Jpha": 2})
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--verbose")
    assert result.returncode == 0, result.stderr
    for text in (result.stdout, result.stderr, page(output)):
        assert not CONTROL.search(text)
        assert r"al\x1b[2Jpha" in text


def test_results_are_their_owners_alone(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in output.iterdir()}
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("name", ["records.jsonl", "device.jsonl"])
def test_a_link_in_place_of_a_file_is_not_followed(
    data: Path, output: Path, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    output.mkdir()
    (output / name).symlink_to(victim)
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert victim.read_bytes() == b""
    if name == "records.jsonl":
        assert result.returncode == 1
        assert "records.jsonl: Too many levels of symbolic links" in the_error(result)


def test_a_file_of_figures_is_not_written_through_a_link(data: Path, output: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    output.mkdir()
    for name in ("manifest.json", "summary.md", ".summary.md.part", ".manifest.json.part"):
        (output / name).symlink_to(victim)
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert victim.read_text() == "precious"
    assert json.loads((output / "manifest.json").read_text())["model"]["id"] == "double"
    assert not (output / "summary.md").is_symlink()


# Written out, the last of them would be 9¹² words.
ALIASES = ", ".join(["&a0 [x, x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 13))])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"subjects: [{ALIASES}]\n", "gives `subjects` what is neither a value nor a list of values"),
        ("subjects: &a [*a]\n", "gives `subjects` what is neither a value nor a list of values"),
        ("limit: {a: 1}\n", "gives `limit` what is neither a value nor a list of values"),
        ("subjects: " + "[" * 5000, "is nested too deeply"),
        (
            "subjects: &a [" + "[" * 3 + "x" + "]" * 3 + "]\n",
            "gives `subjects` what is neither a value nor a list of values",
        ),
    ],
)
def test_a_config_file_of_nested_aliases_is_refused_in_one_line(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    result = command("--config", path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert said in line
