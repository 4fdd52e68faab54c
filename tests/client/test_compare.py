"""`mmlu-client compare`: what it prints, its page and its forms for programs."""

from __future__ import annotations

import csv
import json
import math
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_process import client, command, the_error
from double import Double
from mmlu import write_benchmark
from mmlu_client.figures.resampling import ratio_interval, resampled
from mmlu_client.figures.statistics import paired_difference
from mmlu_client.rundir.finished_run import read_run
from run_files import records, summary
from tokenizer_kinds import byte_level, tokenizer_files

Answers = list[dict[tuple[str, int], dict[str, Any]]]

TOKENIZER = tokenizer_files(byte_level())
SUBJECTS = {"anatomy": 12, "virology": 6}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same questions with fewer shots and two a request: the double gives other answers."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_benchmark(folder / "data", SUBJECTS)
    with Double(TOKENIZER) as double:
        for name, flags in (("first", ()), ("other", ("--few-shots", "2", "--bs", "2"))):
            flags = ("--url", double.url, "--data", str(data), "--output", str(folder / name), *flags)
            assert client(*flags).returncode == 0
    return folder / "first", folder / "other"


@pytest.fixture(scope="module")
def letters(runs: tuple[Path, Path]) -> Answers:
    """The records of both by question."""
    return [{(each["subject"], each["index"]): each for each in records(run)} for run in runs]


def test_it_prints_one_short_table(runs: tuple[Path, Path], letters: Answers, tmp_path: Path) -> None:
    result = command("compare", *runs, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 40
    table = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert rows[0] == ["figure", "A", "B", "B to A (95 % interval)"]
    figures = {row[0]: row[1:] for row in rows[2:]}
    one, two = map(summary, runs)
    assert figures["answered"] == ["18 of 18", "18 of 18", ""]
    assert figures["acc"][:2] == [f"{one['acc']:.4f}", f"{two['acc']:.4f}"]
    assert figures["acc"][2].startswith(f"{two['acc'] - one['acc']:+.4f} (")
    whole = two["p_infer_whole"] / one["p_infer_whole"]
    assert figures["p_infer_whole, tokens/s"][2].startswith(f"× {whole:.3f}")
    # The double takes as long for two prompts as for one, each time: nothing to be unsure of.
    assert figures["core of a request"] == ["2.0 ms", "2.0 ms", "× 1.000"]
    same = sum(letters[0][each]["predicted"] == letters[1][each]["predicted"] for each in letters[0])
    assert f"answers: the same letter on {same} of 18" in text
    assert "accuracy: no difference in accuracy is shown between A and B (McNemar's exact test on 18" in text
    assert "bs 1 → 2; few_shots 5 → 2" in text
    assert "load_seconds" not in text
    assert text.endswith(": compare.html\n")
    assert (tmp_path / "compare.html").is_file()


def test_it_names_the_code_that_measured_first(runs: tuple[Path, Path], tmp_path: Path) -> None:
    later = shutil.copytree(runs[0], tmp_path / "later")
    path = later / "manifest.json"
    kept = json.loads(path.read_text())
    measured = kept["client"]["version"]
    kept["client"] = {**kept["client"], "version": "0.1+g0123abcde", "platform": "elsewhere"}
    kept["server_version"] = "0.1+g9876fedcb"
    path.write_text(json.dumps(kept))
    result = command("compare", runs[0], later, folder=tmp_path)
    told = " ".join(result.stdout.split())
    code = f"client.version {measured} → 0.1+g0123abcde; server_version 0 → 0.1+g9876fedcb"
    assert f"manifests differ in: {code}; client.platform" in told


def test_a_run_that_told_no_version_is_still_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    earlier = shutil.copytree(runs[0], tmp_path / "earlier")
    path = earlier / "manifest.json"
    kept = json.loads(path.read_text())
    measured = kept["client"].pop("version")
    path.write_text(json.dumps(kept))
    result = command("compare", earlier, runs[0], folder=tmp_path)
    assert f"client.version none → {measured}" in result.stdout


def test_its_page_has_plots_and_lists(runs: tuple[Path, Path], letters: Answers, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert client("compare", *runs, "--output", page).returncode == 0
    text = page.read_text()
    for title in (
        "Accuracy",
        "Speed",
        "Latency of requests",
        "Accuracy by subject",
        "Where a request's time goes",
    ):
        assert f"<h2>{title.replace(chr(39), '&#39;')}</h2>" in text
    assert text.count('class="plotly-graph-div"') == 5
    differing = differing_letters(letters)
    assert differing, "the double answers alike: this shows nothing"
    for (subject, index), (one, two) in differing.items():
        row = f"<tr><td>{subject} {index}</td><td>{letters[0][subject, index]['answer']}</td>"
        assert f"{row}<td>{one}</td><td>{two}</td>" in text
    assert '<tr><th>few_shots</th><td class="value">5</td><td class="value">2</td></tr>' in text
    assert f"{runs[0]}</a>" in text
    assert "<td>18</td><td>18</td>" in text


def test_a_page_that_cannot_be_written_loses_no_text(runs: tuple[Path, Path], tmp_path: Path) -> None:
    result = client("compare", *runs, "--output", tmp_path / "missing" / "page.html")
    assert result.returncode == 1
    assert "cannot write" in the_error(result)
    assert "answers: the same letter on" in result.stdout


def test_json(runs: tuple[Path, Path], letters: Answers, tmp_path: Path) -> None:
    result = command("compare", *runs, "--format", "json", folder=tmp_path)
    assert not list(tmp_path.iterdir())
    found = json.loads(result.stdout)
    one, two = map(summary, runs)
    assert [each["summary"] for each in found["runs"]] == [one, two]
    (compared,) = found["comparisons"]
    whole = compared["ratios"]["p_infer_whole"]
    assert whole["value"] == pytest.approx(two["p_infer_whole"] / one["p_infer_whole"])
    anatomy = [sum(by["anatomy", index]["correct"] for index in range(12)) / 12 for by in letters]
    assert compared["subject_differences"]["anatomy"]["value"] == pytest.approx(anatomy[1] - anatomy[0])
    assert {"name": "few_shots", "first": 5, "other": 2} in compared["manifest"]
    apart = [
        abs(letters[0][each]["logprobs"][letter] - letters[1][each]["logprobs"][letter])
        for each, letter in product(letters[0], "ABCD")
    ]
    assert compared["answers"]["largest_difference"] == pytest.approx(max(apart))
    other = compared["other_letters"]
    assert {(each["subject"], each["index"]): (each["first"], each["other"]) for each in other} == (
        differing_letters(letters)
    )


def differing_letters(letters: Answers) -> dict[tuple[str, int], tuple[str, str]]:
    """Those of questions on which the two runs chose other ones."""
    both = {each: (letters[0][each]["predicted"], letters[1][each]["predicted"]) for each in letters[0]}
    return {question: pair for question, pair in both.items() if pair[0] != pair[1]}


def test_csv(runs: tuple[Path, Path]) -> None:
    rows = list(csv.DictReader(client("compare", *runs, runs[0], "--format", "csv").stdout.splitlines()))
    assert [row["run"] for row in rows] == ["A", "B", "C"]
    assert [float(row["p_infer_core"]) for row in rows[:2]] == [summary(run)["p_infer_core"] for run in runs]
    assert rows[0]["ratio_p_infer_core"] == rows[0]["same_letter"] == ""
    assert float(rows[1]["ratio_mean_batch_size"]) == pytest.approx(summary(runs[1])["mean_batch_size"])
    assert (float(rows[2]["ratio_p_infer_core"]), rows[2]["same_letter"]) == (1.0, "18")


def test_a_run_against_itself_differs_in_nothing(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    text = client("compare", runs[0], copy, "--output", tmp_path / "page.html").stdout
    assert "manifests: the same model, engine, device, data and flags" in text
    assert "the same letter on 18 of 18 (100.0%); log-probabilities differ by at most 0" in text
    assert "+0.0000 (" in text


def test_compare_wants_runs(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = runs
    assert "compare needs two runs or more" in the_error(client("compare", run))
    assert "holds no run" in the_error(client("compare", run, tmp_path))
    # As of a sweep, whose loads are runs.
    assert f"runs are in {run}" in the_error(client("report", run.parent))


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1, 0.3), (0.8, 0.1, 0.05, 0.05), (0.3, 0.25, 0.1, 0.35)])
def test_the_interval_of_a_paired_difference_holds_its_level(shares: tuple[float, ...]) -> None:
    """Over every outcome of 25 questions that these shares can give: both right, one alone, neither."""
    count, truth, covered = 25, shares[1] - shares[2], 0.0
    for both, first, second in product(range(count + 1), repeat=3):
        neither = count - both - first - second
        if neither < 0:
            continue
        outcome = (both, first, second, neither)
        ways = math.factorial(count) / math.prod(map(math.factorial, outcome))
        chance = ways * math.prod(share**number for share, number in zip(shares, outcome, strict=True))
        interval = paired_difference(*outcome)
        assert interval is not None
        covered += chance * (interval.low <= truth <= interval.high)
    assert 0.93 <= covered <= 0.99


def test_resampled_ratios_are_as_wide_as_independent_requests_make_them(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Core seconds made anew, independent of each other: the delta method knows their mean's spread."""
    first, count = records(runs[0]), 600
    times = first[0]["client_ns"]
    random = np.random.default_rng(1)
    spreads = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shutil.copy(runs[0] / "manifest.json", folder)
        cores = random.gamma(4.0, 1e6, count).astype(int).tolist()
        lines = [
            {
                **first[0],
                "index": number,
                "request": {"id": f"infer-0-{number}", "prompts": 1},
                "server_ns": {**first[0]["server_ns"], "core": core},
                "client_ns": {
                    **times,
                    "received": times["received"] + number,
                },
            }
            for number, core in enumerate(cores)
        ]
        (folder / "records.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        spreads.append((np.std(cores) / np.mean(cores)) ** 2 / count)
    one, two = (resampled(read_run(tmp_path / str(seed)), seed) for seed in (1, 2))
    interval = ratio_interval(two["stage_core_seconds"], one["stage_core_seconds"])
    assert interval is not None
    expected = 2 * 1.96 * math.sqrt(sum(spreads))
    assert math.log(interval.high / interval.low) == pytest.approx(expected, rel=0.35)
    assert interval.low < 1 < interval.high
