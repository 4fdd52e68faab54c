"""mmlu-client against servers that it asks over HTTP."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from client_process import SECONDS, ClientProcess, client, command, the_error
from harness_tasks import write_tasks
from http_double import VOCABULARY, HttpDouble, Kind, logprobs_after, prompts_of
from mmlu import write_benchmark
from processes import ServerProcess
from run_files import manifest, page, records, summary, wait_for_records
from test_client_metrics import scrape
from tokenizer_kinds import byte_level, write_tokenizer

KINDS: tuple[Kind, ...] = ("vllm", "sglang", "llama.cpp")
EXACT: tuple[Kind, ...] = ("vllm", "sglang")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(byte_level(), tmp_path_factory.mktemp("tokenizer") / "files")


@pytest.fixture(scope="module")
def scorer(llama_folder: Path) -> Iterator[ServerProcess]:
    """Both ports of one server."""
    with ServerProcess("--model", str(llama_folder), "--max-batch-size", "8", "--http-port", "0") as process:
        yield process.wait_until_serving()


def test_our_own_completions_give_what_grpc_gives(
    scorer: ServerProcess, llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    """Log-probabilities and FLOPs, with the client's own count of these from config.json."""
    over_grpc, over_http = tmp_path / "grpc", tmp_path / "http"
    assert client("--url", scorer.url, "--data", data, "--output", over_grpc).returncode == 0
    result = client(
        "--url", f"{scorer.http}/v1", "--model-config", llama_folder, "--peak-flops", "1e12",
        "--data", data, "--output", over_http, "--goodput", "core:100000",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected = {(each["subject"], each["index"]): each for each in records(over_grpc)}
    found = records(over_http)
    assert len(found) == len(expected)
    for record in found:
        other = expected[record["subject"], record["index"]]
        for key in ("predicted", "candidates", "top_token", "flops", "tokens", "shots", "below"):
            assert record[key] == other[key], key
        for letter, logprob in record["logprobs"].items():
            assert logprob == pytest.approx(other["logprobs"][letter], abs=1e-4)
        assert record["server_ns"]["core"] > 0
    figures = summary(over_http)
    assert figures["engine"] == "trt-server"
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * 1e12))
    for absent in (
        "precision",
        "e2e_time",
        "mem_used_gib",
        "mem_total_gib",
        "joules_per_token",
        "merged_share",
    ):
        assert figures[absent] is None, absent
    assert figures["goodput_share"] == 1.0


def test_runs_over_grpc_and_over_http_are_compared_by_what_both_have(
    scorer: ServerProcess, llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    ours, peer = tmp_path / "ours", tmp_path / "peer"
    client("--url", scorer.url, "--data", data, "--output", ours)
    client("--url", scorer.http, "--tokenizer", llama_folder, "--data", data, "--output", peer)
    page = tmp_path / "compare.html"
    result = client("compare", ours, peer, "--output", page)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "answers: the same letter on 11 of 11 (100.0%)" in text
    assert "accuracy: no difference in accuracy is shown between A and B" in text
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("| ")]
    assert {"acc", "p_infer_whole, tokens/s", "latency p50"} <= set(rows)
    assert not {"memory, GiB", "e2e_time, s", "mfu"} & set(rows)
    assert (
        "because B does not have them: mfu; prompts a batch; peak, TFLOP/s; memory, GiB; e2e_time, s" in text
    )
    assert " → trt-server" in text
    assert page.is_file()


def test_lists_of_prompts_to_our_own_completions(
    scorer: ServerProcess, llama_folder: Path, data: Path, output: Path
) -> None:
    result = client(
        "--url", scorer.http, "--tokenizer", llama_folder, "--data", data, "--output", output, "--bs", "3"
    )
    assert result.returncode == 0, result.stderr
    # In the order in which they were answered.
    assert Counter(record["request"]["prompts"] for record in records(output)) == {3: 9, 2: 2}
    figures = summary(output)
    assert figures["answered"] == 11
    # What several prompts took together is not told for each.
    assert figures["flops"] is None
    assert figures["mfu_whole"] is None


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


@pytest.mark.parametrize("verdict", [429, 503, "cut"])
def test_what_was_not_answered_is_asked_again(
    verdict: Any, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("vllm", byte_level(), lambda number: verdict if number == 4 else None) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    keys = [(record["subject"], record["index"]) for record in records(output)]
    assert len(set(keys)) == len(keys) == 11


def test_a_request_that_fails_fails_its_questions_alone(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level(), lambda number: 400 if number == 4 else None) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 1
    (failed,) = [record for record in records(output) if record["error"]]
    assert failed["error"] == "INVALID_ARGUMENT: HTTP 400: status 400 was asked for"
    assert summary(output)["answered"] == 10


def test_a_killed_run_goes_on(tokenizer: Path, data: Path, output: Path) -> None:
    arguments = ("--tokenizer", tokenizer, "--data", data, "--output", output)
    with HttpDouble("vllm", byte_level(), lambda number: "hold" if number == 6 else None) as double:
        running = ClientProcess("--url", double.url, *arguments, "--concurrency", "1")
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 6)
        running.signal(signal.SIGKILL)
        running.join()
        port = double.port
    with HttpDouble("vllm", byte_level(), port=port):
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11
    assert summary(output)["sessions"] == 2


def test_an_open_loop_sends_when_requests_are_due_over_connections_that_are_kept(
    tokenizer: Path, data: Path, output: Path
) -> None:
    """The first is held until all others are there: nothing waits for an answer."""
    with HttpDouble("vllm", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--concurrency", "2",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        # Two in flight, and one more at the start to look at the server.
        assert len(double.asked) > 11
        assert len(double.connections) <= 3
    with HttpDouble("vllm", byte_level(), lambda number: "hold" if number == 0 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--request-rate", "50",
            "--output", output.with_name("open"), "--arrival-pattern", "constant",
        )  # fmt: skip
        wait_for_records(output.with_name("open"), 10)
        running.signal(signal.SIGTERM)
        running.finish()
    assert len(double.measured) == 11
    times = [record["client_ns"] for record in records(output.with_name("open"))]
    due = sorted(each["due"] for each in times)
    assert all(later - earlier == 20_000_000 for earlier, later in pairwise(due))


def test_stages_that_a_server_does_not_tell_are_no_goal(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--goodput", "core:5",
        )  # fmt: skip
    assert result.returncode == 2
    assert "--goodput core:5: " in the_error(result)
    assert "does not tell this stage of a request: ask for latency" in the_error(result)


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


def test_tasks_over_our_own_completions_are_those_over_grpc(
    scorer: ServerProcess, llama_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    tasks = write_tasks(tmp_path / "tasks")
    found = []
    for name, url in (("grpc", scorer.url), ("http", scorer.http)):
        flags = ("--tokenizer", str(llama_folder)) if name == "http" else ()
        done = command(
            "--url", url, "--task", "endings", "--include-path", tasks, "--output", tmp_path / name, *flags,
            "--limit", "6", environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append({record["index"]: record for record in records(tmp_path / name)})
    over_grpc, over_http = found
    assert over_grpc.keys() == over_http.keys()
    for index, record in over_grpc.items():
        other = over_http[index]
        assert other["greedy"] == record["greedy"]
        assert other["scored_tokens"] == record["scored_tokens"]
        assert other["loglikelihoods"] == pytest.approx(record["loglikelihoods"], abs=1e-3)
        assert other["tokens"]["logical"] == record["tokens"]["logical"]


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


def test_prometheus_reads_the_latency_of_a_server_that_tells_no_core_time(
    tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("sglang", byte_level(), lambda number: "hold" if number == 5 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--concurrency", "1", "--metrics-port", "0",
        )  # fmt: skip
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 5)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    assert seen["mmlu_client_request_seconds_count"] == 5
    assert seen["mmlu_client_core_seconds_total"] == 0
    assert seen["mmlu_client_tokens_total,logical"] == sum(
        record["tokens"]["logical"] for record in records(output)
    )


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


def test_several_servers_share_a_sweep(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as one, HttpDouble("vllm", byte_level()) as other:
        result = client(
            "--url", f"{one.url},{other.url}", "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--sweep", "concurrency=2,4",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert one.measured
        assert other.measured
    for load in ("concurrency-2", "concurrency-4"):
        assert summary(output / load)["answered"] == 11
    assert (output / "report.html").is_file()


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


def test_a_server_with_tls(llama_folder: Path, data: Path, output: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    with ServerProcess(
        "--model", str(llama_folder), "--http-port", "0", "--tls-cert", str(tmp_path / "certificate.pem"),
        "--tls-key", str(tmp_path / "key.pem"),
    ) as process:  # fmt: skip
        process.wait_until_serving()
        url = f"https://localhost:{process.ports['http_port']}"
        arguments = ("--url", url, "--tokenizer", llama_folder, "--data", data, "--output", output)
        without = client(*arguments)
        result = client(*arguments, "--tls-ca", tmp_path / "authority.pem")
    assert without.returncode == 1
    assert "is not trusted (" in the_error(without)
    assert "give its authority with --tls-ca FILE" in the_error(without)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11


@pytest.mark.parametrize(
    "answer",
    [[], {"choices": 1}, {"choices": [1]}, {"choices": [{"logprobs": {"tokens": 5}}]},
     {"choices": [{"index": [], "logprobs": {"content": [{"id": [], "top_logprobs": [7]}]}}]},
     {"choices": [{"logprobs": {"tokens": ["token_id:1"], "token_logprobs": [-1.0],
                                "top_logprobs": [{"token_id:1": -(10**400)}]}}]},
     {"choices": [{"logprobs": {"content": [{"id": 2**70, "logprob": -1.0, "top_logprobs": []}]}}]}],
)  # fmt: skip
def test_an_answer_that_is_none_fails_its_question_alone(
    answer: Any, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble(
        "vllm", byte_level(), lambda number: {"answer": answer} if number == 4 else None
    ) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 1
    (failed,) = [record for record in records(output) if record["error"]]
    assert failed["error"].startswith("DATA_LOSS: the server's answer cannot be used: ")
    assert summary(output)["answered"] == 10


def test_a_port_that_does_not_speak_http(scorer: ServerProcess, tokenizer: Path, output: Path) -> None:
    result = client("--url", f"http://{scorer.url}", "--tokenizer", tokenizer, "--output", output)
    assert result.returncode == 1
    assert f"the server at {scorer.url} does not speak HTTP" in the_error(result)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_servers_own_metrics_tell_reuse_and_its_queue(
    kind: Kind, batch_size: int, tokenizer: Path, data: Path, output: Path
) -> None:
    """Here that 40 tokens of each prompt were in its cache, though it was asked to keep prompts apart."""
    with HttpDouble(kind, byte_level(), cached=40) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--server-metrics", f"{double.url}/metrics", "--bs", str(batch_size),
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    figures = summary(output)
    assert figures["computed_tokens"] == figures["logical_tokens"] - 11 * 40
    assert figures["prefix_hit_ratio"] == pytest.approx(11 * 40 / figures["logical_tokens"])
    assert f"{kind} (prefix reuse)" in page(output)
    # A request of two prompts has no one wait.
    assert figures["stage_server_queue_seconds"] == (0.25 if batch_size == 1 else None)


def test_metrics_that_count_others_prompts_too_tell_nothing(
    tokenizer: Path, data: Path, output: Path
) -> None:
    def decide(number: int) -> None:
        double.others_tokens = 1000 * number

    with HttpDouble("vllm", byte_level(), decide, cached=40) as double:
        client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--server-metrics", f"{double.url}/metrics",
        )  # fmt: skip
    assert summary(output)["stage_server_queue_seconds"] is None
    assert "others asked it too, or prompts failed; nothing is taken from them" in page(output)


def test_metrics_of_an_unknown_server_are_refused(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("llama.cpp", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--server-metrics", f"{double.url}/metrics",
        )  # fmt: skip
        assert not double.measured
    assert result.returncode == 2
    assert "has neither vLLM's vllm:prompt_tokens_total nor SGLang's" in the_error(result)


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
