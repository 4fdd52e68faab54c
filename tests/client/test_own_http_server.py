"""mmlu-client against trt-server over HTTP: what it answers there is what it answers over gRPC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from client_process import client, command, the_error
from harness_tasks import write_tasks
from processes import ServerProcess
from run_files import records, summary


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


def test_a_port_that_does_not_speak_http(scorer: ServerProcess, tokenizer: Path, output: Path) -> None:
    result = client("--url", f"http://{scorer.url}", "--tokenizer", tokenizer, "--output", output)
    assert result.returncode == 1
    assert f"the server at {scorer.url} does not speak HTTP" in the_error(result)
