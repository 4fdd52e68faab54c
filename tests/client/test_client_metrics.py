"""`--metrics-port`: what Prometheus reads while a run is on."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from double import CORE_NS, FLOPS_A_TOKEN, HOLD, PEAK, Double
from mmlu import write_benchmark
from prometheus_client.parser import text_string_to_metric_families
from run_files import records, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


def scrape(address: str) -> dict[str, float]:
    text = urllib.request.urlopen(address, timeout=SECONDS).read().decode()
    return {
        ",".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_in_its_middle(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4, "beta": 4}), tmp_path / "run"
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--concurrency", "1",
            "--metrics-port", "0", "--metrics-host", "127.0.0.2",
        )  # fmt: skip
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 5)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        assert address.startswith("http://127.0.0.2:")
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    written = records(output)
    tokens = sum(record["tokens"]["logical"] for record in written)
    right = sum(record["correct"] for record in written if record["subject"] == "alpha")
    assert seen["mmlu_client_questions_total,correct,alpha"] == right
    assert seen["mmlu_client_questions_total,wrong,alpha"] == 4 - right
    assert seen["mmlu_client_questions_total,failed,beta"] == 0
    assert (seen["mmlu_client_questions_planned,alpha"], seen["mmlu_client_questions_planned,beta"]) == (4, 4)
    assert seen["mmlu_client_tokens_total,logical"] == seen["mmlu_client_tokens_total,computed"] == tokens
    assert seen["mmlu_client_flops_total"] == FLOPS_A_TOKEN * tokens
    assert seen["mmlu_client_core_seconds_total"] == pytest.approx(5 * CORE_NS / 1e9)
    assert seen["mmlu_client_peak_flops"] == PEAK
    assert seen["mmlu_client_requests_in_flight"] == 1
    times = [record["client_ns"] for record in written]
    assert seen["mmlu_client_request_seconds_count"] == 5
    assert seen["mmlu_client_request_seconds_sum"] == pytest.approx(
        sum(each["received"] - each["due"] for each in times) / 1e9
    )
    assert seen["mmlu_client_run_seconds"] == pytest.approx(
        (times[-1]["received"] - times[0]["due"]) / 1e9, rel=0.01
    )
    assert any(name.startswith("mmlu_client_info,") and "double" in name for name in seen)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--output", tmp_path / "run", "--metrics-port", str(double.port))
    assert result.returncode == 2
    assert f"--metrics-port {double.port}: cannot listen on 127.0.0.1" in the_error(result)
