"""What is read of a server over HTTP beside its answers, and what Prometheus reads of such a run."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from http_double import HttpDouble, Kind
from run_files import page, records, summary, wait_for_records
from test_client_metrics import scrape
from tokenizer_kinds import byte_level

EXACT: tuple[Kind, ...] = ("vllm", "sglang")


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
