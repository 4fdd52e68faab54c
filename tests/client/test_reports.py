"""What is made of a run's records: other formats, the page, comparisons."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import math
import re
import shutil
import statistics
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from chromium import dumped, needs_chromium
from client_process import client, the_error
from double import PARAMETERS, Double
from mmlu import write_benchmark
from mmlu_client.data.groups import (
    GROUP_OF,
    HARNESS_GROUP_OF,
    HUMANITIES,
    OTHER,
    SOCIAL_SCIENCES,
    STEM,
)
from mmlu_client.figures.accuracy import Accuracy
from mmlu_client.report.lm_eval import pooled_stderr
from run_files import page, records, summary
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two subjects that lm-evaluation-harness has in different groups."""
    folder = tmp_path_factory.mktemp("run")
    data = write_benchmark(folder / "data", {"anatomy": 12, "virology": 6})
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", folder / "run", "--goodput", "latency:50")
    return folder / "run"


def test_flagperf_line_and_row(run: Path) -> None:
    result = client("report", run, "--format", "flagperf")
    line, _, *row = result.stdout.splitlines()
    found, figures = ast.literal_eval(line), summary(run)
    assert list(found) == [
        "vendor", "compiler", "precision", "batchsize", "flops", "e2e_time(second)",
        "p_validation_whole(qps)", "p_validation_core(qps)", "p_inference_whole(qps)",
        "*p_inference_core(qps)", "val_average_acc", "infer_average_acc",
    ]  # fmt: skip
    assert found["*p_inference_core(qps)"] == round(figures["p_infer_core"], 3)
    assert found["infer_average_acc"] == round(figures["acc_vocab"], 3)
    assert found["val_average_acc"] is None
    assert found["flops"] == 2 * PARAMETERS * figures["p_infer_core"]
    assert row[0].startswith("| tool")
    assert f"| {figures['acc_vocab']:.3f} " in row[2]


def test_flagperf_counts_the_whole_vocabularys_choice(run: Path, tmp_path: Path) -> None:
    """Of the engine and of the reference, which chose a token beside the letters here and there."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    told = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**told, "validate": True}))
    # Of the four letters each time the right one.
    written = [{**each, "answer": each["predicted"], "correct": True} for each in records(copy)]
    others = {"infer": 4, "val": 2}
    lines = [
        json.dumps({**each, "phase": phase, **({"top_token": 0} if each["index"] < count else {})})
        for phase, count in others.items()
        for each in written
    ]
    (copy / "records.jsonl").write_text("".join(f"{line}\n" for line in lines))
    line, _, *row = client("report", copy, "--format", "flagperf").stdout.splitlines()
    found = ast.literal_eval(line)
    # Of two subjects' 18 questions.
    assert (found["infer_average_acc"], found["val_average_acc"]) == (round(10 / 18, 3), round(14 / 18, 3))
    assert f"| {10 / 18:.3f} " in row[2]
    assert summary(copy)["acc"] == summary(copy)["acc_val"] == 1.0


def test_lm_eval_results(run: Path) -> None:
    found = json.loads(client("report", run, "--format", "lm-eval").stdout)
    written = records(run)
    right = sum(record["correct"] for record in written if record["subject"] == "anatomy") / 12
    assert found["results"]["mmlu_anatomy"]["acc,none"] == pytest.approx(right)
    assert found["results"]["mmlu_anatomy"]["acc_stderr,none"] == pytest.approx(
        math.sqrt(right * (1 - right) / 11)
    )
    assert found["groups"]["mmlu_stem"]["acc,none"] == pytest.approx(right)
    assert set(found["groups"]) == {"mmlu", "mmlu_stem", "mmlu_other"}
    assert found["results"]["mmlu"]["acc,none"] == summary(run)["acc"]
    assert set(found["n-shot"].items()) == {
        (name, 5) for name in ("mmlu_stem", "mmlu_other", "mmlu_anatomy", "mmlu_virology")
    }
    assert found["higher_is_better"].keys() == found["n-shot"].keys()
    assert found["group_subtasks"] == {
        "mmlu": ["mmlu_stem", "mmlu_other"], "mmlu_stem": ["mmlu_anatomy"], "mmlu_other": ["mmlu_virology"],
    }  # fmt: skip
    assert found["groups"]["mmlu_stem"]["alias"] == "stem"
    assert found["n-samples"]["mmlu_anatomy"] == {"original": 12, "effective": 12}
    assert {name: group["alias"] for name, group in found["results"].items()}["mmlu_anatomy"] == "anatomy"


def lm_eval_files(output: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The results, and the samples of each task, as a run of a model named `double` leaves them."""
    (results,) = (output / "lm-eval" / "double").glob("results_*.json")
    time = results.stem.removeprefix("results_")
    found = {
        path.stem.removeprefix("samples_").removesuffix(f"_{time}"): [
            json.loads(line) for line in path.read_text().splitlines()
        ]
        for path in results.parent.glob("samples_*.jsonl")
    }
    return json.loads(results.read_text()), found


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_lm_eval_files_are_those_of_the_harness(run: Path) -> None:
    """Fields, their order and hashes as its own log of the same questions has them."""
    printed = json.loads(client("report", run, "--format", "lm-eval").stdout)
    results, samples = lm_eval_files(run)
    hashes = results.pop("task_hashes")
    assert results == printed
    assert {name: len(each) for name, each in samples.items()} == {"mmlu_anatomy": 12, "mmlu_virology": 6}
    config = results["configs"]["mmlu_anatomy"]
    assert config["metric_list"] == [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    assert config["doc_to_text"] == (
        "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
    )
    written = {each["index"]: each for each in records(run) if each["subject"] == "anatomy"}
    mine = samples["mmlu_anatomy"]
    assert [each["doc_id"] for each in mine] == list(range(12))
    for sample in mine:
        record = written[sample["doc_id"]]
        assert list(sample) == [
            "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
            "doc_hash", "prompt_hash", "target_hash", "acc",
        ]  # fmt: skip
        assert sample["doc"] == {
            "question": f"What is number {record['index']} of anatomy?", "subject": "anatomy",
            "choices": ["one", "two", "three", "four"], "answer": "ABCD".index(record["answer"]),
        }  # fmt: skip
        scores = [
            [str(record["logprobs"][each]), str(record["candidates"][each] == record["top_token"])]
            for each in "ABCD"
        ]
        assert sample["filtered_resps"] == [each for (each,) in sample["resps"]] == scores
        assert sample["acc"] == float(record["correct"])
        contexts = [each["arg_0"] for each in sample["arguments"].values()]
        assert [each["arg_1"] for each in sample["arguments"].values()] == [" A", " B", " C", " D"]
        (context,) = set(contexts)
        assert context.count("Answer:") == 6
        assert context.endswith(
            f"What is number {record['index']} of anatomy?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
        )
        assert sample["prompt_hash"] == sha256(context)
        assert sample["target"] == str("ABCD".index(record["answer"]))
        assert sample["target_hash"] == sha256(sample["target"])
        assert sample["doc_hash"] == sha256(json.dumps(sample["doc"], indent=2))
    parts = (each[f"{part}_hash"] for each in mine for part in ("doc", "prompt", "target"))
    assert hashes["mmlu_anatomy"] == sha256("".join(parts))


@pytest.mark.parametrize(
    ("prompt_format", "kept"), [("hendrycks", "01"), ("flagperf", "34"), ("lm-eval", "01234")]
)
def test_lm_eval_samples_have_the_shots_that_were_kept(tmp_path: Path, prompt_format: str, kept: str) -> None:
    """Two of five have room. The harness's own log has what was before its model cut it."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 1}), tmp_path / "run"
    flags = ("--data", data, "--output", output, "--prompt-format", prompt_format, "--format", "lm-eval")
    with Double(TOKENIZER, max_prompt_tokens=160) as double:
        result = client("--url", double.url, *flags)
    assert result.returncode == 0, result.stderr
    _, samples = lm_eval_files(output)
    (sample,) = samples["mmlu_alpha"]
    shots = re.findall(r"What is number (\d) of dev alpha", sample["arguments"]["gen_args_0"]["arg_0"])
    assert records(output)[0]["truncated"]
    assert "".join(shots) == kept


def test_lm_eval_files_of_other_questions_have_no_samples(run: Path, tmp_path: Path) -> None:
    """The folder that was asked has other questions by now."""
    copy, data = tmp_path / "copy", write_benchmark(tmp_path / "data", {"anatomy": 11, "virology": 6})
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "lm-eval", ignore_errors=True)
    told = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**told, "data": {**told["data"], "name": str(data)}}))
    result = client("report", copy, "--format", "lm-eval")
    assert result.returncode == 1
    assert "are not those that were asked" in the_error(result)
    assert lm_eval_files(copy) == (json.loads(result.stdout), {})
    shutil.rmtree(data)
    shutil.rmtree(copy / "lm-eval")
    result = client("report", copy, "--format", "lm-eval")
    assert result.returncode == 2
    assert "no such folder" in the_error(result)
    assert lm_eval_files(copy) == (json.loads(result.stdout), {})


def test_every_subject_of_mmlu_has_a_group() -> None:
    """Counted in Hendrycks' categories.py and in the harness's task files."""
    sizes = [Counter(groups.values()) for groups in (GROUP_OF, HARNESS_GROUP_OF)]
    assert sizes == [
        {STEM: 18, HUMANITIES: 13, SOCIAL_SCIENCES: 12, OTHER: 14},
        {STEM: 19, HUMANITIES: 13, SOCIAL_SCIENCES: 12, OTHER: 13},
    ]


def test_lm_eval_pools_the_errors_of_a_group() -> None:
    """Against the definition: the variance within tasks, over all that were asked."""
    tasks = [Accuracy(3, 10), Accuracy(20, 25)]
    answers = [[1.0] * each.correct + [0.0] * (each.answered - each.correct) for each in tasks]
    within = sum(statistics.variance(each) * (len(each) - 1) for each in answers) / (35 - 2)
    assert pooled_stderr(tasks) == pytest.approx(math.sqrt(within / 35))
    assert pooled_stderr([Accuracy(1, 1), Accuracy(20, 25)]) is None


def test_csv_has_every_figure(run: Path) -> None:
    head, row = csv.reader(client("report", run, "--format", "csv").stdout.splitlines())
    figures = summary(run)
    assert head == [name for name in figures if name not in ("acc_by_group", "acc_by_subject")]
    assert float(row[head.index("p_infer_core")]) == figures["p_infer_core"]
    assert row[head.index("acc_val")] == ""


def test_json_is_the_summary(run: Path) -> None:
    assert json.loads(client("report", run, "--format", "json").stdout) == summary(run)


def test_a_run_prints_the_format_alone(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 2})
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", tmp_path / "run", "--format", "lm-eval"
        )
    assert json.loads(result.stdout)["results"]["mmlu"]["sample_len"] == 2


def test_figures_are_made_again_from_the_records(run: Path, tmp_path: Path) -> None:
    """Half the records: half the questions."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    lines = (copy / "records.jsonl").read_text().splitlines(keepends=True)
    (copy / "records.jsonl").write_text("".join(lines[:9]))
    result = client("report", copy)
    assert result.returncode == 0, result.stderr
    assert "answered 9, failed 0, unanswered 9" in page(copy)
    assert summary(copy)["answered"] == 9


class Links(HTMLParser):
    """What a page would fetch, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.headings: list[str] = []
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]
        self._in_heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False


def test_the_page_needs_no_network_and_has_its_parts(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = Links()
    page.feed(text)
    assert not page.fetched
    assert page.headings == [
        "What was measured", "Where a request's time goes", "Latency of requests", "Latency over time",
        "Throughput over time", "MFU over time", "Lengths of prompts", "Padding and reuse",
        "Memory over time", "Accuracy by subject",
    ]  # fmt: skip
    assert "model.fingerprint" in text
    assert f"{summary(run)['p_infer_core']:.2f}" in text


@needs_chromium
def test_the_page_draws_its_charts(run: Path, tmp_path: Path) -> None:
    drawn = dumped(run / "report.html", tmp_path)
    # The script that stands in the page says these words too, once.
    assert len(re.findall(r'<svg class="main-svg"', drawn)) >= 9
    assert "anatomy" in drawn


@needs_chromium
def test_the_page_fits_a_phone(run: Path, tmp_path: Path) -> None:
    """390 pixels wide, in a frame: a window of headless Chromium is 500 wide at the least."""
    frame, page = tmp_path / "frame.html", (run / "report.html").as_uri()
    frame.write_text(
        f"""<iframe src="{page}" width="390" height="800" style="border: 0"></iframe>
        <p id="seen"></p><script>onload = () => {{
            const page = document.querySelector("iframe").contentDocument;
            const names = [...page.querySelectorAll("section[data-rows] .textpoint")];
            seen.textContent = [page.documentElement.scrollWidth, ...names.map(each => each.textContent)];
        }};</script>"""
    )
    assert '<p id="seen">390,anatomy,virology</p>' in dumped(frame, tmp_path)


def test_a_page_with_a_notice_shows_it(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 1})
    with Double(TOKENIZER, notice="random weights: <b>chance</b>") as double:
        client("--url", double.url, "--data", data, "--output", tmp_path / "run")
    assert "random weights: &lt;b&gt;chance&lt;/b&gt;" in (tmp_path / "run" / "report.html").read_text()


def test_energy_of_a_device_that_counts_it(tmp_path: Path) -> None:
    """Read at the beginning and the end of the phase at the least: steps lie between readings."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4}), tmp_path / "run"
    with Double(TOKENIZER, joules_a_reading=10.0) as double:
        client("--url", double.url, "--data", data, "--output", output)
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    figures, joules = summary(output), 10.0 * (len(readings) - 1)
    assert joules >= 10.0
    assert figures["joules_per_question"] == pytest.approx(joules / 4)
    assert figures["joules_per_token"] == pytest.approx(joules / figures["logical_tokens"])
    assert "Power over time" in (output / "report.html").read_text()


def test_a_run_of_another_version_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    told = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**told, "manifest_version": 0}))
    commands: list[list[str | Path]] = [["compare", run, copy], ["report", copy], ["--resume", copy]]
    for command in commands:
        result = client(*command)
        assert result.returncode == 2
        assert "manifest.json was written by another version of mmlu-client" in the_error(result)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"limit": "all"}, "data.limit is 'all'"),
        ({"subjects": ["alpha", 7]}, "data.subjects[1] is 7"),
        ({"questions": None}, "data.questions is None"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused_by_its_name(
    run: Path, tmp_path: Path, data: dict[str, Any], fault: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    told = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**told, "data": {**told["data"], **data}}))
    result = client("report", copy)
    assert result.returncode == 2
    assert f"manifest.json is not a run's manifest: {fault}" in the_error(result)


def test_a_manifest_without_a_key_is_refused_by_its_name(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    told = json.loads((copy / "manifest.json").read_text())
    del told["limits"]["stream_window"]
    (copy / "manifest.json").write_text(json.dumps(told))
    result = client("report", copy)
    assert result.returncode == 2
    assert "manifest.json is not a run's manifest: limits.stream_window is missing" in the_error(result)
