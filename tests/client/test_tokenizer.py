"""Whose tokenizer a run uses, what it says of it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
from checkpoints import write_checkpoint
from client_process import client, command, the_error
from double import Double
from mmlu import write_benchmark
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.tokenizer import named_tokenizer
from processes import ServerProcess
from run_files import manifest, records
from scoring.v1 import scoring_pb2 as pb
from sentencepiece_files import write_sentencepiece
from tokenizer_kinds import byte_level, metaspace, tokenizer_files, write_tokenizer
from tokenizers import Tokenizer, processors

from tools.free_port import free_port

TEXT = "What is the capital of France?\nA. Rome\nB. Paris\nAnswer:"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 2, "beta": 2})


def prompts_of(data: Path) -> list[str]:
    benchmark, style = load_benchmark(str(data)), FORMATS["hendrycks"]
    return [
        style.head(question.subject, benchmark.dev[question.subject]) + style.body(question)
        for question in benchmark.questions(benchmark.pick_subjects(None), None)
    ]


def imported(profile: str) -> set[str]:
    """Top-level packages that a process says it imported."""
    lines = [line for line in profile.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_a_demo_run_needs_no_transformers_and_no_torch(output: Path) -> None:
    """On either side, text prompts included: both take seconds to import."""
    profiled = {"PYTHONPROFILEIMPORTTIME": "1"}
    with ServerProcess("--model", "demo", environment=profiled) as server:
        url = server.wait_until_serving().url
        result = command("--url", url, "--limit", "1", "--output", output, environment=profiled)
        server.stub().Score(
            pb.ScoreRequest(prompts=[pb.Prompt(text=TEXT, candidates=[pb.Candidate(text=" B")])])
        )
        server.stop()
    assert result.returncode == 0, result.stderr
    for profile, package in ((result.stderr, "mmlu_client"), ("".join(server.lines), "trt_server")):
        assert {package, "tokenizers"} <= imported(profile)
        assert not {"transformers", "torch"} & imported(profile)
    assert not {"trt_server", "onnxruntime"} & imported(result.stderr)


def test_what_was_done_about_a_bos_is_told(data: Path, output: Path, tmp_path: Path) -> None:
    """tokenizer_config.json asks for one, tokenizer.json has no template: DeepSeek's files."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    folder = write_tokenizer(tokenizer, write_checkpoint(tmp_path / "model", "llama", tokenizer=False))
    settings = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    note = (
        "BOS <s> (id 0) is put first: tokenizer_config.json says add_bos_token: true, though the template of "
        "tokenizer.json does not"
    )
    with ServerProcess("--model", str(folder)) as server:
        url = server.wait_until_serving().url
        result = client("--url", url, "--data", data, "--output", output)
        by_text = server.stub().Score(
            pb.ScoreRequest(prompts=[pb.Prompt(text=TEXT, candidates=[pb.Candidate(token_id=1)])])
        )
    assert result.returncode == 0, result.stderr
    assert f"the server's tokenizer: {note}" in result.stderr
    assert any(f"tokenizer: {note}" in line for line in server.lines)
    assert manifest(output)["special_tokens"] == {"first": [0], "notes": [note]}
    lengths = [1 + len(tokenizer.encode(text).ids) for text in prompts_of(data)]
    assert [record["tokens"]["logical"] for record in records(output)] == lengths
    assert by_text.scores[0].tokens.logical == 1 + len(tokenizer.encode(TEXT).ids)


def test_a_tokenizer_model_alone(data: Path, output: Path, tmp_path: Path) -> None:
    folder = write_sentencepiece(write_checkpoint(tmp_path / "model", "llama", tokenizer=False))
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    with ServerProcess("--model", str(folder)) as server:
        url = server.wait_until_serving().url
        result = client("--url", url, "--data", data, "--output", output)
        by_text = server.stub().Score(
            pb.ScoreRequest(prompts=[pb.Prompt(text=TEXT, candidates=[pb.Candidate(text=" B")])])
        )
    assert result.returncode == 0, result.stderr
    lengths = [1 + len(own.encode(text)) for text in prompts_of(data)]
    assert [record["tokens"]["logical"] for record in records(output)] == lengths
    assert list(by_text.scores[0].candidate_ids) == [own.encode(TEXT + " B")[-1]]
    assert by_text.scores[0].tokens.logical == 1 + len(own.encode(TEXT))


def test_vocab_and_merges_are_read_through_transformers(data: Path, output: Path, tmp_path: Path) -> None:
    """As Qwen's first checkpoints: how words are split stands in the code of the class."""
    folder = write_checkpoint(tmp_path / "model", "qwen2", tokenizer=False)
    tokenizer = byte_level()
    saved = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(saved["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, saved["merges"])]))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": "<s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with ServerProcess("--model", str(folder)) as server:
        result = client("--url", server.wait_until_serving().url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert manifest(output)["special_tokens"]["first"] == [0]
    from transformers import Qwen2Tokenizer

    reference = Qwen2Tokenizer.from_pretrained(folder)
    lengths = [1 + len(reference.encode(text, add_special_tokens=False)) for text in prompts_of(data)]
    assert [record["tokens"]["logical"] for record in records(output)] == lengths


def test_another_models_tokenizer_is_refused(data: Path, output: Path, tmp_path: Path) -> None:
    other = write_tokenizer(metaspace(), tmp_path / "other")
    tokenizer = byte_level()
    with Double(tokenizer_files(tokenizer), sample=(TEXT, tokenizer.encode(TEXT).ids)) as double:
        arguments = ("--url", double.url, "--data", data, "--output", output)
        refused = client(*arguments, "--tokenizer", other)
        assert not double.asked
        same = client(*arguments, "--tokenizer", write_tokenizer(byte_level(), tmp_path / "same"))
    assert refused.returncode == 2
    assert the_error(refused).startswith(f"--tokenizer {other} is not the tokenizer of the server's model: ")
    assert same.returncode == 0, same.stderr


def test_files_that_give_other_ids_here_are_refused(data: Path, output: Path) -> None:
    """As where the two sides have other versions of a library."""
    tokenizer = byte_level()
    ids = tokenizer.encode(TEXT).ids
    with Double(tokenizer_files(tokenizer), sample=(TEXT, [*ids[:4], 7, *ids[5:]])) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    assert the_error(result).startswith("the server's tokenizer gives other ids here than there: ")
    assert f"they part at token 4: [7, {ids[5]}, {ids[6]}] there, {ids[4:7]} here" in the_error(result)
    assert not double.asked
    assert not output.exists()


def test_the_servers_sample_is_its_own_ids(server: ServerProcess, llama_folder: Path) -> None:
    answer = server.stub().GetTokenizer(pb.GetTokenizerRequest())
    tokenizer = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    assert list(answer.sample_ids) == tokenizer.encode(answer.sample_text).ids
    assert len(answer.sample_ids) > 100


def test_the_bundled_tokenizer_for_a_model_without(tmp_path: Path, output: Path) -> None:
    with ServerProcess("--model", "dummy:llama-15m") as server:
        url = server.wait_until_serving().url
        arguments = ("--url", url, "--subjects", "calendar", "--limit", "1", "--output", output)
        without = command(*arguments, folder=tmp_path)
        bundled = command(*arguments, "--tokenizer", "demo", folder=tmp_path)
    assert without.returncode == 2
    assert the_error(without) == (
        "dummy:llama-15m has no tokenizer: name one whose ids its vocabulary has, with --tokenizer demo (the "
        "bundled one), or a folder, or a hub id"
    )
    assert bundled.returncode == 0, bundled.stderr
    assert manifest(output)["tokenizer"] == "demo"


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    closed = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(tmp_path)}
    with Double(None) as double:
        result = command("--url", double.url, "--tokenizer", "org/name", environment=closed, folder=tmp_path)
    assert result.returncode == 2
    assert the_error(result).startswith(
        "cannot load --tokenizer org/name: no such folder, and from the hub: "
    )


def test_a_folder_of_that_name_is_another_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(byte_level(), tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    bundled, folder = named_tokenizer("demo"), named_tokenizer("./demo")
    assert bundled.encode([TEXT]) != folder.encode([TEXT])
