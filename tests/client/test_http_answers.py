"""What mmlu-client makes of the answers of servers over HTTP, each of its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from client_process import client, command, the_error
from harness_tasks import write_tasks
from http_double import VOCABULARY, HttpDouble, Kind, logprobs_after, prompts_of
from mmlu import write_benchmark
from run_files import manifest, page, records, summary
from tokenizer_kinds import byte_level, write_tokenizer

KINDS: tuple[Kind, ...] = ("vllm", "sglang", "llama.cpp")
EXACT: tuple[Kind, ...] = ("vllm", "sglang")


@pytest.mark.parametrize("kind", EXACT)
def test_chosen_tokens_are_asked_for_and_read_exactly(
    kind: Kind, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble(kind, byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output, "--bs", "2"
        )
        assert result.returncode == 0, result.stderr
        prompts = _prompts(double)
    found = records(output)
    assert len(prompts) == len(found) == 11
    for record in found:
        ids = prompts[record["tokens"]["logical"], record["top_token"]]
        after = logprobs_after(ids)
        for letter, token in record["candidates"].items():
            assert record["logprobs"][letter] == pytest.approx(after[token], abs=1e-9)
        assert record["top_token"] == after.argmax()
        best = max(record["candidates"], key=lambda letter: after[record["candidates"][letter]])
        assert record["predicted"] == best
        assert record["below"] is None
    figures, kept = summary(output), manifest(output)
    assert figures["bounded"] == 0
    assert kept["scoring"] == {"tells_stages": False, "told_tokens": None, "unrepeatable": 0.0}
    assert kept["engine"]["name"] == kind
    assert figures["precision"] == {"vllm": None, "sglang": "bf16"}[kind]
    for absent in ("p_infer_core", "mfu", "core_seconds", "stage_core_seconds", "stage_network_seconds"):
        assert figures[absent] is None, absent
    assert figures["latency_p50_seconds"] > 0
    assert figures["stage_client_queue_seconds"] >= 0


def test_each_prompt_is_kept_apart_from_the_others_unless_reuse_is_asked_for(
    tokenizer: Path, data: Path, output: Path, tmp_path: Path
) -> None:
    arguments = ("--tokenizer", tokenizer, "--data", data)
    with HttpDouble("vllm", byte_level()) as double:
        assert client("--url", double.url, *arguments, "--output", output).returncode == 0
        salts = [body["cache_salt"] for body in double.measured]
    assert len(set(salts)) == len(salts) == 11
    assert summary(output)["prefix_hit_ratio"] == 0
    reused = tmp_path / "reused"
    with HttpDouble("vllm", byte_level(), cached=64, tells_cached=True) as double:
        result = client("--url", double.url, *arguments, "--output", reused, "--reuse-prefix")
        assert result.returncode == 0, result.stderr
        assert all("cache_salt" not in body for body in double.measured)
    tokens = [record["tokens"] for record in records(reused)]
    assert all(each["computed"] == each["logical"] - 64 for each in tokens)
    assert "vllm (prefix reuse)" in page(reused)


def test_reuse_that_was_not_asked_for_is_told(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("llama.cpp", byte_level(), cached=32) as double:
        client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    figures = summary(output)
    assert figures["prefix_hit_ratio"] == pytest.approx(32 * figures["answered"] / figures["logical_tokens"])
    assert "llama.cpp (prefix reuse)" in page(output)


def test_letters_below_the_most_likely_tokens_are_counted_and_never_made_up(
    tokenizer: Path, tmp_path: Path, output: Path
) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 60})
    with HttpDouble("llama.cpp", byte_level()) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
        prompts = _prompts(double)
    assert "tells log-probabilities of the 20 most likely tokens alone" in result.stderr
    bounded = failed = 0
    for record in records(output):
        candidates = record["candidates"]
        if record["error"] is not None:
            failed += 1
            assert record["error"] == (
                "the server tells the most likely tokens alone, and 4 of 4 candidates are none of them"
            )
            assert record["logprobs"] is record["predicted"] is None
            continue
        after = logprobs_after(prompts[record["tokens"]["logical"], record["top_token"]])
        twentieth = sorted(after, reverse=True)[19]
        known = {letter for letter, token in candidates.items() if after[token] >= twentieth}
        assert record["logprobs"].keys() == known
        assert (record["below"] or {}).keys() == candidates.keys() - known
        assert all(bound == pytest.approx(twentieth) for bound in (record["below"] or {}).values())
        assert record["predicted"] == max(candidates, key=lambda letter: after[candidates[letter]])
        bounded += len(known) < 4
    figures = summary(output)
    # Both happen among these questions, or nothing is shown.
    assert (figures["bounded"], figures["failed"]) == (bounded, failed)
    assert bounded > 0
    assert failed > 0
    assert result.returncode == 1
    assert f"below the 20th: on {bounded} of {60 - failed} questions" in page(output)


def test_a_server_that_allows_fewer_of_the_most_likely_tokens(
    tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("vllm", byte_level(), knows_chosen=False, max_logprobs=5) as double:
        client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert manifest(output)["scoring"]["told_tokens"] == 5


def _nothing(answer: dict[str, Any]) -> None:
    for choice in answer["choices"]:
        choice["logprobs"] = None


def _texts(answer: dict[str, Any]) -> None:
    for choice in answer["choices"]:
        choice["logprobs"]["tokens"] = ["A"] * len(choice["logprobs"]["tokens"])


def _logits(answer: dict[str, Any]) -> None:
    for choice in answer["choices"]:
        found = choice["logprobs"]
        found["top_logprobs"] = [
            {name: value + 20 for name, value in top.items()} for top in found["top_logprobs"]
        ]
        found["token_logprobs"] = [value + 20 for value in found["token_logprobs"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            _nothing,
            "gives no log-probabilities that can be used (no logprobs in a choice): accuracy cannot be",
        ),
        (_texts, "it names tokens by their texts, like 'A', which several tokens may have, not by id"),
        (_logits, "gives as log-probabilities are none"),
    ],
    ids=["nothing", "texts", "logits"],
)
def test_a_server_whose_answers_cannot_be_used_is_refused_before_anything_is_asked(
    change: Any, reason: str, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("vllm", byte_level(), change=change) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
        assert not double.measured
    assert result.returncode == 2
    assert reason in the_error(result)
    assert not output.exists()


def test_answers_that_depend_on_what_else_is_asked_are_told(
    tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("vllm", byte_level(), noise=0.25) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert "when it was asked again among others: up to 0.25 nats apart" in result.stderr
    assert manifest(output)["scoring"]["unrepeatable"] == pytest.approx(0.25)
    assert "not repeatable: asked again among others" in page(output)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_is_not_the_models_is_refused(
    kind: Kind, data: Path, output: Path, tmp_path: Path
) -> None:
    other = write_tokenizer(byte_level(), tmp_path / "other")
    settings = json.loads((other / "tokenizer.json").read_text())
    settings["model"]["merges"] = settings["model"]["merges"][:40]
    (other / "tokenizer.json").write_text(json.dumps(settings))
    with HttpDouble(kind, byte_level()) as double:
        result = client("--url", double.url, "--tokenizer", other, "--data", data, "--output", output)
        assert not double.measured
    assert result.returncode == 2
    assert "is not the tokenizer of the server's model: of a sample text the server makes" in the_error(
        result
    )


def test_a_server_without_tokenizer_files_needs_a_named_one(data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 2
    assert "double has no tokenizer: name one" in the_error(result)


def test_the_key_is_shown_and_not_kept(tokenizer: Path, data: Path, output: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a-secret\n")
    arguments = ("--tokenizer", tokenizer, "--data", data)
    with HttpDouble("vllm", byte_level(), key="a-secret") as double:
        without = client("--url", double.url, *arguments, "--output", tmp_path / "without")
        result = client("--url", double.url, *arguments, "--output", output, "--api-key-file", key)
    assert without.returncode == 1
    assert "refuses the client: HTTP 401: Unauthorized; name its key with --api-key-file" in the_error(
        without
    )
    assert result.returncode == 0, result.stderr
    assert all("a-secret" not in path.read_text() for path in output.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_lists_its_model_to_all_asks_for_the_key_in_the_same_words(
    kind: Kind, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble(kind, byte_level(), key="a-secret", lists_to_all=True) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
        assert not double.measured
    assert result.returncode == 1
    assert "refuses the client: HTTP 401: Unauthorized; name its key with --api-key-file" in the_error(result)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--url", "localhost:1", "--peak-flops", "1e12"),
            "--peak-flops is of servers that are asked over HTTP",
        ),
        (("--url", "http://localhost:1", "--validate"), "--validate asks a trt-server's reference engine"),
        (("--url", "localhost:1,http://localhost:2"), "one run asks servers of one kind"),
        (("--url", "grpc://localhost:1", "--server-kind", "openai"), "write http://localhost:1"),
        (
            ("--url", "http://localhost:1", "--api-key-file", "/nowhere"),
            "cannot read --api-key-file /nowhere",
        ),
        (("--url", "http://localhost:1", "--peak-flops", "much"), "'much' is not a number of FLOP/s"),
    ],
)
def test_flags_that_do_not_go_together(flags: tuple[str, ...], message: str) -> None:
    result = client(*flags)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_model_that_is_not_there(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--model-name", "other",
        )  # fmt: skip
    assert result.returncode == 2
    assert f"--model-name other: {double.url} has double" in the_error(result)


def test_tasks_need_the_log_probabilities_of_a_prompts_own_tokens(
    tokenizer: Path, output: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    tasks = write_tasks(tmp_path / "tasks")
    with HttpDouble("llama.cpp", byte_level()) as double:
        done = command(
            "--url", double.url, "--task", "endings", "--include-path", tasks, "--output", output,
            "--tokenizer", tokenizer, environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        )  # fmt: skip
    assert done.returncode == 2
    assert "gives no log-probabilities of a prompt's own tokens" in the_error(done)


def test_flops_follow_from_the_models_config_and_what_was_computed(
    tokenizer: Path, data: Path, output: Path
) -> None:
    """2·P·(T−C) + 2·L·d·(T²−C²) + 2·V·h, of a prompt of T tokens of which C were reused."""
    layers, hidden, inner, vocabulary, cached = 2, 64, 160, VOCABULARY, 48
    config = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "vocab_size": vocabulary,
        "num_hidden_layers": layers, "num_attention_heads": 4, "max_position_embeddings": 2048,
    }  # fmt: skip
    (tokenizer / "config.json").write_text(json.dumps(config))
    with HttpDouble("sglang", byte_level(), cached=cached) as double:
        result = client(
            "--url", double.url, "--model-config", tokenizer, "--peak-flops", "2e9", "--data", data,
            "--output", output, "--reuse-prefix",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    weights = layers * (4 * hidden**2 + 3 * hidden * inner)
    for record in records(output):
        tokens = record["tokens"]["logical"]
        assert record["flops"] == (
            2 * weights * (tokens - cached)
            + 2 * layers * hidden * (tokens**2 - cached**2)
            + 2 * vocabulary * hidden
        )
    figures = summary(output)
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * 2e9))
    assert "peak 0.002 TFLOP/s (given to the client: --peak-flops)" in page(output)


@pytest.mark.parametrize("kind", EXACT)
def test_tasks_have_the_log_likelihoods_of_their_endings(
    kind: Kind, tokenizer: Path, tmp_path: Path, output: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    tasks = write_tasks(tmp_path / "tasks")
    with HttpDouble(kind, byte_level()) as double:
        done = command(
            "--url", double.url, "--task", "last_words", "--include-path", tasks, "--output", output,
            "--tokenizer", tokenizer, "--limit", "3", "--concurrency", "1",
            environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = [ids for body in double.measured for ids in prompts_of(body)]
    found = records(output)
    assert len(rows) == len(found) == 3
    assert any(record["scored_tokens"] != [1] for record in found)
    for ids, record in zip(rows, found, strict=True):
        (scored,) = record["scored_tokens"]
        places = range(len(ids) - scored, len(ids))
        if scored == 1:  # it is asked for as a candidate, and is not sent
            continue
        after = [logprobs_after(ids[:place]) for place in places]
        expected = sum(each[ids[place]] for each, place in zip(after, places, strict=True))
        assert record["loglikelihoods"] == [pytest.approx(expected)]
        greedy = all(each.argmax() == ids[place] for each, place in zip(after, places, strict=True))
        assert record["greedy"] == [greedy]


def test_a_comparison_says_where_log_probabilities_are_not_known(tokenizer: Path, tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 60})
    for kind in ("vllm", "llama.cpp"):
        with HttpDouble(kind, byte_level()) as double:
            client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", tmp_path / kind)
    exact, bounded = ({r["index"]: r for r in records(tmp_path / kind)} for kind in ("vllm", "llama.cpp"))
    result = client("compare", tmp_path / "vllm", tmp_path / "llama.cpp", "--output", tmp_path / "page.html")
    text = " ".join(result.stdout.split())
    answered = [index for index, record in bounded.items() if record["error"] is None]
    assert all(bounded[index]["predicted"] == exact[index]["predicted"] for index in answered)
    assert f"the same letter on {len(answered)} of {len(answered)} (100.0%)" in text
    assert "log-probabilities differ by at most 0 " in text
    assert f"B: on {summary(tmp_path / 'llama.cpp')['bounded']} questions a letter is below the most" in text


def test_the_kind_says_how_a_bare_address_is_asked(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("sglang", byte_level()) as double:
        result = client(
            "--url", double.url.removeprefix("http://"), "--server-kind", "sglang", "--tokenizer", tokenizer,
            "--data", data, "--output", output,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert manifest(output)["engine"]["name"] == "sglang"


def test_a_model_config_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    result = client("--url", "http://localhost:1", "--model-config", tmp_path)
    assert result.returncode == 2
    assert "model_type 'gpt2' is not supported" in the_error(result)


def _prompts(double: HttpDouble) -> dict[tuple[int, int], list[int]]:
    """Each prompt that was asked, by its length and the token that is most likely after it."""
    found = {}
    for body in double.measured:
        for ids in prompts_of(body):
            found[len(ids), int(logprobs_after(ids).argmax())] = ids
    return found
