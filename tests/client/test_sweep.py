"""A sweep's table and page, and what is left of it when it is stopped."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from double import HOLD, Double, status
from google.rpc import code_pb2
from mmlu import write_benchmark
from run_files import manifest, summary
from tokenizer_kinds import byte_level, tokenizer_files

from tools.free_port import free_port

TOKENIZER = tokenizer_files(byte_level())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 6})


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.charts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [named["href"] or ""] if tag == "a" else []
        self.sources += [named["src"] or ""] if "src" in named else []
        self.charts += "plotly-graph-div" in (named.get("class") or "")


def test_its_page_leads_to_each_run(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "request-rate=50,100,200.5",
            "--goodput", "latency:60000",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    text = (output / "report.html").read_text()
    page = Page(text)
    assert page.links == [f"request-rate-{rate}/report.html" for rate in ("50", "100", "200.5")]
    assert all((output / link).is_file() for link in page.links)
    assert not page.sources
    assert page.charts == 5
    for rate in ("50", "100", "200.5"):
        assert f"{summary(output / f'request-rate-{rate}')['request_throughput']:.2f}" in text
    assert "latency:60000 ms" in text
    rows = json.loads((output / "sweep.json").read_text())
    assert [(row["concurrency"], row["request_rate"]) for row in rows] == [
        (None, 50),
        (None, 100),
        (None, 200.5),
    ]


def test_rates_that_are_nearly_alike_are_runs_of_their_own(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "request-rate=1000000,1000001"
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(double.asked) == 12
    assert summary(output / "request-rate-1000001")["answered"] == 6


def test_a_load_named_twice_is_refused(data: Path, tmp_path: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", tmp_path / "run", "--sweep", "concurrency=4,2,4"
        )
    assert result.returncode == 2
    assert "'concurrency=4,2,4' names a load twice" in the_error(result)


def test_reuse_is_never_without_the_word(data: Path, tmp_path: Path) -> None:
    """In the sweep's table and page, in a comparison and in the suite's dict."""
    output = tmp_path / "sweep"
    with Double(TOKENIZER) as double:
        client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=1,2",
            "--reuse-prefix",
        )  # fmt: skip
    runs = [output / "concurrency-1", output / "concurrency-2"]
    assert "double (prefix reuse)" in (output / "sweep.md").read_text()
    assert "double (prefix reuse)" in (output / "report.html").read_text()
    compared = client("compare", *runs, "--output", output / "compare.html").stdout
    for text in (compared, (output / "compare.html").read_text()):
        assert "double (prefix reuse), fp32, bs 1" in text
    assert "'compiler': 'double (prefix reuse)'" in client("report", runs[0], "--format", "flagperf").stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """What a sweep of two loads prints in a format, and its folder."""

    def sweep(form: str) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp(form)
        data = write_benchmark(folder / "data", {"alpha": 3})
        with Double(TOKENIZER) as double:
            result = client(
                "--url", double.url, "--data", data, "--output", folder / "sweep",
                "--sweep", "concurrency=1,2", "--format", form,
            )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "concurrency-2" in (folder / "sweep" / "sweep.md").read_text()
        return result.stdout, folder / "sweep"

    return sweep


def test_csv_of_a_sweep_is_one_table(printed: Callable[[str], tuple[str, Path]]) -> None:
    text, output = printed("csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["load"] for row in rows] == ["concurrency-1", "concurrency-2"]
    for row in rows:
        figures = summary(output / row["load"])
        nested = {"acc_by_group", "acc_by_subject"}
        flat = [name for name in figures if name not in nested]
        assert list(row) == ["load", "concurrency", "request_rate", *flat]
        assert float(row["p_infer_whole"]) == figures["p_infer_whole"]
    assert [(row["concurrency"], row["request_rate"]) for row in rows] == [("1", ""), ("2", "")]
    assert (output / "sweep.csv").read_text() == text


def test_json_of_a_sweep_is_one_list(printed: Callable[[str], tuple[str, Path]]) -> None:
    text, output = printed("json")
    rows = json.loads(text)
    assert rows == [
        {"load": f"concurrency-{many}", "concurrency": many, "request_rate": None}
        | summary(output / f"concurrency-{many}")
        for many in (1, 2)
    ]
    assert (output / "sweep.json").read_text() == text


def test_lm_eval_of_a_sweep_is_a_document_a_line(printed: Callable[[str], tuple[str, Path]]) -> None:
    text, _ = printed("lm-eval")
    found = [json.loads(line) for line in text.splitlines()]
    assert [each["load"] for each in found] == ["concurrency-1", "concurrency-2"]
    assert [each["results"]["mmlu"]["sample_len"] for each in found] == [3, 3]


def test_flagperf_of_a_sweep_is_the_suites_lines_of_each(printed: Callable[[str], tuple[str, Path]]) -> None:
    text, output = printed("flagperf")
    each = [
        client("report", output / name, "--format", "flagperf").stdout
        for name in ("concurrency-1", "concurrency-2")
    ]
    assert text == "\n".join(each)


def test_a_sweep_that_was_slow_to_connect_shows_no_other_sweeps_figures(data: Path, tmp_path: Path) -> None:
    slow, output = Double(TOKENIZER, port=free_port()), tmp_path / "sweep"
    flags = ("--data", data, "--output", output, "--sweep", "concurrency=1,2")
    running = ClientProcess("--url", slow.url, *flags)
    running.wait_for("waiting up to 60 s")
    with Double(TOKENIZER) as double:
        assert client("--url", double.url, *flags).returncode == 0
    table = (output / "sweep.md").read_text()
    with slow:
        result = running.finish()
    assert result.returncode == 2
    assert f"--output {output / 'concurrency-1'} holds a run already" in the_error(result)
    assert result.stdout == ""
    assert (output / "sweep.md").read_text() == table


def test_stopped_it_shows_what_there_is(data: Path, tmp_path: Path) -> None:
    """Six questions of the first load, three of the second."""
    output = tmp_path / "sweep"
    with Double(TOKENIZER, lambda number: HOLD if number == 9 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=2,1,4"
        )
        assert double.holds.wait(SECONDS)
        running.signal(signal.SIGINT)
        result = running.finish()
    assert result.returncode == 130
    assert the_error(result) == f"stopped by SIGINT; --resume {output} goes on with it"
    assert [summary(output / name)["answered"] for name in ("concurrency-2", "concurrency-1")] == [6, 3]
    assert [summary(output / name)["ended_early"] for name in ("concurrency-2", "concurrency-1")] == [
        None, "stopped by SIGINT",
    ]  # fmt: skip
    assert not (output / "concurrency-4").exists()
    table = (output / "sweep.md").read_text()
    for line in ("concurrency-2: 6 of 6 questions", "concurrency-1: 3 of 6 questions"):
        assert line in result.stdout
    assert "| concurrency-1 | 3 of 6 " in result.stdout
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| concurrency")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["concurrency-2", "6 of 6"], ["concurrency-1", "3 of 6"],
    ]  # fmt: skip
    assert Page((output / "report.html").read_text()).charts == 5


def killed_sweep(data: Path, output: Path, double: Double) -> None:
    """Killed while the double holds a request."""
    running = ClientProcess(
        "--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=2,1,4"
    )
    assert double.holds.wait(SECONDS)
    running.signal(signal.SIGKILL)
    running.join()


@pytest.mark.parametrize("held", [6, 9], ids=["before its first answer", "in the middle"])
def test_a_killed_sweep_goes_on_with_the_load_it_was_in(data: Path, tmp_path: Path, held: int) -> None:
    """Six questions of the first load, none or three of the second, none of the third."""
    output = tmp_path / "sweep"
    first = output / "concurrency-2"
    with Double(TOKENIZER, lambda number: HOLD if number == held else None) as double:
        killed_sweep(data, output, double)
        before = {name: (first / name).read_bytes() for name in ("records.jsonl", "manifest.json")}
        result = client("--resume", output)
        asked = len(double.asked)
    assert result.returncode == 0, result.stderr
    assert {name: (first / name).read_bytes() for name in before} == before
    loads = ("concurrency-2", "concurrency-1", "concurrency-4")
    assert [summary(output / name)["answered"] for name in loads] == [6, 6, 6]
    # The one that was held, and what a kill overtook, are asked again.
    assert 18 < asked <= 18 + 4
    sessions = [len(manifest(output / name)["sessions"]) for name in loads]
    assert sessions == [1, 2 if held == 9 else 1, 1]
    table = (output / "sweep.md").read_text()
    assert [line.split()[1] for line in table.splitlines() if line.startswith("| concurrency")] == [*loads]
    assert [name for name in loads if f"{name}: 6 of 6 questions" in result.stdout] == [*loads]


def test_a_sweep_that_was_stopped_goes_on_and_a_finished_one_asks_nothing(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    with Double(TOKENIZER, lambda number: HOLD if number == 9 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "request-rate=1000,2000"
        )
        assert double.holds.wait(SECONDS)
        running.signal(signal.SIGINT)
        stopped = running.finish()
        refused = [
            client("--resume", output, *flags)
            for flags in (("--bs", "2"), ("--concurrency", "3"), ("--sweep", "concurrency=1"))
        ]
        again = client(
            "--url", double.url, "--data", data, "--output", output, "--sweep", "request-rate=1000"
        )
        result = client("--resume", output)
        asked = len(double.asked)
        last = client("--resume", output, "--format", "csv")
        assert len(double.asked) == asked
    assert the_error(stopped) == f"stopped by SIGINT; --resume {output} goes on with it"
    assert [each.returncode for each in (*refused, again)] == [2, 2, 2, 2]
    assert "bs was 1, now it is 2" in the_error(refused[0])
    for each, flag in zip(refused[1:], ("--concurrency", "--sweep"), strict=True):
        assert f"goes on with a sweep, which has its loads: leave {flag} away" in the_error(each)
    assert f"holds a sweep already: name another folder, or go on with it: --resume {output}" in the_error(
        again
    )
    assert result.returncode == 0, result.stderr
    assert [summary(output / f"request-rate-{rate}")["answered"] for rate in (1000, 2000)] == [6, 6]
    assert [row["load"] for row in csv.DictReader(last.stdout.splitlines())] == [
        "request-rate-1000", "request-rate-2000",
    ]  # fmt: skip


def test_a_run_is_not_resumed_as_a_sweep(data: Path, tmp_path: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", tmp_path / "run")
    result = client("--resume", tmp_path / "run", "--sweep", "concurrency=1,2")
    assert result.returncode == 2
    assert "goes on with one run: leave --sweep away" in the_error(result)


def test_a_question_that_fails_does_not_keep_the_other_loads_back(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    refusal = status(code_pb2.INTERNAL, "told to fail")
    with Double(TOKENIZER, lambda number: refusal if number == 2 else None) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=1,2")
    assert result.returncode == 1
    assert the_error(result).startswith("concurrency-1: 1 of 6 questions failed, the first alpha 2: INTERNAL")
    assert [summary(output / name)["answered"] for name in ("concurrency-1", "concurrency-2")] == [5, 6]
