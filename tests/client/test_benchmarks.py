"""CMMLU, C-Eval and MMLU-Pro as they are published: read exactly, and scored by a real server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import (
    CEVAL_HEADER,
    CMMLU_HEADER,
    PRO_ROWS,
    PRO_SHOTS,
    ROWS,
    SHOTS,
    SUBJECTS,
    Row,
    lettered_dicts,
    lettered_lines,
    write_ceval,
    write_cmmlu,
    write_parquet,
    write_pro,
)
from checkpoints import reference_logprobs
from client_process import client
from mmlu import write_benchmark, write_csv
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.data.family import CEVAL, CMMLU, MMLU, MMLU_PRO
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError
from mmlu_client.prompts.tokenizer import named_tokenizer
from processes import ServerProcess
from run_files import manifest, page, records, summary
from trt_common import demo

COMMIT = "1" * 40


def read_back(questions: Any) -> list[Row]:
    return [(each.text, each.options, each.answer) for each in questions]


@pytest.mark.parametrize(("write", "family"), [(write_cmmlu, CMMLU), (write_ceval, CEVAL)])
def test_lettered_tables_keep_every_byte(write: Callable[[Path], Path], family: Any, tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write(tmp_path)))
    assert benchmark.family is family
    assert list(benchmark.test) == list(benchmark.dev) == list(SUBJECTS)
    for subject in SUBJECTS:
        assert read_back(benchmark.test[subject]) == list(ROWS)
        assert read_back(benchmark.dev[subject]) == list(SHOTS)
        assert [question.key for question in benchmark.test[subject]] == [(subject, n) for n in range(3)]


def test_mmlu_pro_has_categories_and_up_to_ten_options(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_pro(tmp_path)))
    assert benchmark.family is MMLU_PRO
    assert list(benchmark.test) == ["computer science", "math"]
    assert read_back(benchmark.test["math"]) == list(PRO_ROWS)
    assert read_back(benchmark.dev["math"]) == list(PRO_SHOTS)


@pytest.mark.parametrize(
    "place", ["{subject}/{split}-00000-of-00001.parquet", "{subject}/{split}/0000.parquet"]
)
@pytest.mark.parametrize(
    ("write", "header", "asked"), [(write_cmmlu, CMMLU_HEADER, "test"), (write_ceval, CEVAL_HEADER, "val")]
)
def test_parquet_and_csv_files_are_the_same(
    write: Callable[[Path], Path], header: tuple[str, ...], asked: str, place: str, tmp_path: Path
) -> None:
    """What is empty in a CSV file is null in the hub's."""
    for subject in SUBJECTS:
        for split, rows in (("dev", SHOTS), (asked, ROWS)):
            path = tmp_path / "hub" / place.format(subject=subject, split=split)
            write_parquet(path, lettered_dicts(header, rows, explanation=""))
    plain, hub = load_benchmark(str(write(tmp_path / "csv"))), load_benchmark(str(tmp_path / "hub"))
    assert hub.family is plain.family
    assert hub.sha256 == plain.sha256


def test_spreadsheets_own_ways_of_writing_change_nothing(tmp_path: Path) -> None:
    """A byte order mark, CRLF, an empty line, quotes everywhere, small letters."""
    plain = load_benchmark(str(write_cmmlu(tmp_path / "plain")))
    folder = write_cmmlu(tmp_path / "other")
    (head, *lines), doubled = lettered_lines(CMMLU_HEADER, ROWS), '""'
    quoted = [
        ",".join(f'"{cell.replace(chr(34), doubled)}"' for cell in (*line[:-1], line[-1].lower()))
        for line in lines
    ]
    text = "\ufeff" + "\r\n\r\n".join([",".join(head), *quoted]) + "\r\n"
    for subject in SUBJECTS:
        (folder / "test" / f"{subject}.csv").write_bytes(text.encode())
    assert load_benchmark(str(folder)).sha256 == plain.sha256


@pytest.mark.parametrize("letters", ["ABC", "ABCDEFGHIJ"])
def test_a_table_may_have_three_to_ten_options(letters: str, tmp_path: Path) -> None:
    rows = [("?", tuple(letters.lower()), letters[-1])]
    header = ("", "Question", *letters, "Answer")
    (question,) = load_benchmark(str(write_cmmlu(tmp_path, rows, header))).test["anatomy"]
    assert question == Question("anatomy", 0, "?", tuple(letters.lower()), letters[-1])  # type: ignore[arg-type]


def test_mmlus_own_val_split_makes_it_no_ceval(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, {"anatomy": 2})
    write_csv(folder / "val" / "anatomy_val.csv", [("q", "a", "b", "c", "d", "A")])
    assert load_benchmark(str(folder)).family is MMLU


def test_a_missing_file_of_shots_is_named(tmp_path: Path) -> None:
    write_cmmlu(tmp_path)
    missing = tmp_path / "dev" / "anatomy.csv"
    missing.unlink()
    with pytest.raises(InputError, match=f"no dev questions .no file {missing}"):
        load_benchmark(str(tmp_path)).shots(["anatomy"], 5)


def without_val(folder: Path) -> Path:
    write_ceval(folder)
    for path in (folder / "val").iterdir():
        path.unlink()
    return folder


def both(folder: Path) -> Path:
    write_parquet(folder / "x" / "test-00000-of-00001.parquet", lettered_dicts(CMMLU_HEADER, ROWS))
    return write_cmmlu(folder)


def gbk(folder: Path) -> Path:
    write_cmmlu(folder)
    path = folder / "test" / "anatomy.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("gb18030"))
    return folder


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda f: write_cmmlu(f, header=("", "Question", "A", "B", "C", "D", "Key")),
            r"csv:1: no column 'answer'",
        ),
        (
            lambda f: write_cmmlu(f, header=("", "Question", "A", "B", "x", "D", "Answer")),
            r"no column 'C' .it has ''",
        ),
        (lambda f: write_ceval(f, header=("id", "question", "A", "x", "y", "z", "answer")), r"no column 'B'"),
        (
            lambda f: write_cmmlu(f, [("?", tuple("abcd"), "E")]),
            r"csv:2: the answer is 'E', not one of A, B, C, D",
        ),
        (lambda f: write_ceval(f, [("?", tuple("abcd"), "")]), r"csv:2: the answer is ''"),
        (lambda f: write_cmmlu(f, [(" ", tuple("abcd"), "A")]), r"csv:2: the question is empty"),
        (lambda f: write_cmmlu(f, [("?", tuple("abc"), "A")]), r"csv:2: 6 columns where the header names 7"),
        (lambda f: write_cmmlu(f, []), r"anatomy.csv holds no questions"),
        (without_val, r"no val questions: C-Eval's test split is published without answers"),
        (both, r"holds questions twice"),
        (gbk, r"anatomy.csv is not UTF-8 text"),
        (lambda f: write_pro(f, options="gone"), r"no column 'options'"),
        (lambda f: write_pro(f, category="gone"), r"no column 'category'"),
        (lambda f: write_pro(f, answer="H"), r"row 7: the answer is 'H', not one of A, B, C, D, E, F, G"),
        (lambda f: write_pro(f, answer="F"), r"row 7: the answer is F, but answer_index is 6: one is wrong"),
        (lambda f: write_pro(f, options=["a"]), r"row 7: options must be 2 to 10 texts"),
        (lambda f: write_pro(f, options=["a"] * 11), r"row 7: options must be 2 to 10 texts"),
    ],
)
def test_broken_data_is_named(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_benchmark(str(write(tmp_path)))


def cached(monkeypatch: pytest.MonkeyPatch, cache: Path, name: str) -> Path:
    """The folder in which the hub's library keeps a data set that it has downloaded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = cache / f"datasets--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


def test_the_hubs_data_sets_are_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(monkeypatch, tmp_path / "cache", "ceval/ceval-exam")
    for split, rows in (("dev", SHOTS), ("val", ROWS)):
        write_parquet(
            folder / "anatomy" / f"{split}-00000-of-00001.parquet", lettered_dicts(CEVAL_HEADER, rows)
        )
    assert read_back(load_benchmark("ceval/ceval-exam").test["anatomy"]) == list(ROWS)
    write_pro(cached(monkeypatch, tmp_path / "cache", "TIGER-Lab/MMLU-Pro"))
    assert read_back(load_benchmark("TIGER-Lab/MMLU-Pro").dev["math"]) == list(PRO_SHOTS)


def test_cmmlus_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, plain = (
        cached(monkeypatch, tmp_path / "cache", "haonan-li/cmmlu"),
        write_cmmlu(tmp_path / "plain"),
    )
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "cmmlu_v1_0_1.zip", "w") as archive:
        for path in plain.rglob("*.csv"):
            archive.write(path, path.relative_to(plain))
    assert load_benchmark("haonan-li/cmmlu").sha256 == load_benchmark(str(plain)).sha256
    (folder / "cmmlu_v1_0_1.zip").write_bytes(b"no")
    with pytest.raises(InputError, match="is not a readable archive"):
        load_benchmark("haonan-li/cmmlu")


@pytest.fixture(scope="module")
def demo_server() -> Iterator[ServerProcess]:
    with ServerProcess("--model", "demo", "--reference", "torch") as process:
        yield process.wait_until_serving()


def expected_logprobs(prompt: str, letters: list[str]) -> list[float]:
    """Of each letter's token after the prompt, by PyTorch."""
    tokenizer = named_tokenizer("demo")
    ids, *longer = tokenizer.encode([prompt, *(prompt + letter for letter in letters)])
    assert [each[:-1] for each in longer] == [ids] * len(letters)
    logprobs = reference_logprobs(demo.FOLDER, ids)
    return [float(logprobs[each[-1]]) for each in longer]


def worded(row: Row, before: str, after: str) -> str:
    text, options, _ = row
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", options, strict=False))
    return f"{before}{text}{lines}\n{after}"


@pytest.mark.parametrize(
    ("write", "subject", "introduction", "before", "after", "blank"),
    [
        (
            write_cmmlu,
            "anatomy",
            "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n",
            "题目：",
            "答案是：",
            "",
        ),
        (
            write_ceval,
            "high_school_physics",
            "以下是中国关于高中物理考试的单项选择题，请选出其中的正确答案。\n\n",
            "",
            "答案：",
            "",
        ),
        (write_pro, "computer science", "", "", "Answer:", " "),
    ],
)
def test_a_whole_run_is_what_pytorch_says(
    demo_server: ServerProcess,
    write: Callable[[Path], Path],
    subject: str,
    introduction: str,
    before: str,
    after: str,
    blank: str,
    tmp_path: Path,
) -> None:
    data, output = write(tmp_path / "data"), tmp_path / "run"
    flags = ("--data", data, "--few-shots", "2", "--validate", "--bs", "2", "--max-prompt-tokens", "model")
    result = client("--url", demo_server.url, *flags, "--output", output, "--format", "lm-eval")
    assert result.returncode == 0, result.stderr
    assert ("C-Eval's test split is published without answers" in result.stderr) == (write is write_ceval)
    rows, shots = (PRO_ROWS, PRO_SHOTS) if write is write_pro else (ROWS, SHOTS)
    solved = "".join(f"{worded(shot, before, after)}{blank}{shot[2]}\n\n" for shot in shots[:2])
    mine = [each for each in records(output) if each["subject"] == subject and each["phase"] == "infer"]
    for record in mine:
        row = rows[record["index"]]
        letters = list("ABCDEFGHIJ"[: len(row[1])])
        expected = expected_logprobs(
            introduction + solved + worded(row, before, after), [blank + letter for letter in letters]
        )
        assert list(record["logprobs"]) == list(record["candidates"]) == letters
        assert list(record["logprobs"].values()) == pytest.approx(expected, abs=1e-3)
        assert record["predicted"] == letters[expected.index(max(expected))]
        assert record["answer"] == row[2]
        assert record["correct"] == (record["predicted"] == row[2])
    assert len(mine) == len(rows)
    figures = summary(output)
    assert figures["acc"] == sum(each["correct"] for each in records(output)) / len(records(output))
    assert (figures["agreement"], figures["validated"]) == (1.0, True)
    assert figures["acc_by_group"] is None
    chance = sum(1 / len(row[1]) for row in rows) / len(rows)
    assert (
        f"The dotted line is chance, {chance:.3f} over all questions." in (output / "report.html").read_text()
    )
    assert manifest(output)["data"]["family"] == load_benchmark(str(data)).family.name
    task = {write_cmmlu: "cmmlu", write_ceval: "ceval-valid", write_pro: "mmlu_pro"}[write]
    task = f"{task}_{subject.replace(' ', '_')}"
    results = json.loads(result.stdout)
    assert results["results"][task]["acc,none"] == sum(each["correct"] for each in mine) / len(mine)
    (samples,) = output.glob(f"lm-eval/*/samples_{task}_*.jsonl")
    for line in map(json.loads, samples.read_text(encoding="utf-8").splitlines()):
        text, options, letter = rows[line["doc_id"]]
        context = introduction + solved + worded((text, options, letter), before, after)
        assert [each["arg_0"] for each in line["arguments"].values()] == [context] * len(options)
        assert [each["arg_1"] for each in line["arguments"].values()] == [
            blank + each for each in "ABCDEFGHIJ"[: len(options)]
        ]
        assert line["target"] == str("ABCDEFGHIJ".index(letter))


def test_questions_of_different_options_are_compared(demo_server: ServerProcess, tmp_path: Path) -> None:
    """The same run with the formats of two programs."""
    data = write_pro(tmp_path / "data")
    for style in ("mmlu-pro", "hendrycks"):
        flags = ("--data", data, "--few-shots", "1", "--prompt-format", style, "--output", tmp_path / style)
        assert client("--url", demo_server.url, *flags).returncode == 0
    mine, others = (sorted(records(tmp_path / style), key=key) for style in ("mmlu-pro", "hendrycks"))
    apart = [
        max(abs(one["logprobs"][letter] - other["logprobs"][letter]) for letter in one["logprobs"])
        for one, other in zip(mine, others, strict=True)
    ]
    result = client("compare", tmp_path / "mmlu-pro", tmp_path / "hendrycks", "--format", "json")
    (compared,) = json.loads(result.stdout)["comparisons"]
    assert compared["answers"]["largest_difference"] == pytest.approx(max(apart))
    assert compared["answers"]["same_prediction"] == sum(
        one["predicted"] == other["predicted"] for one, other in zip(mine, others, strict=True)
    )
    assert "prompts: format hendrycks" in page(tmp_path / "hendrycks")


def key(record: dict[str, Any]) -> tuple[str, int]:
    return record["subject"], record["index"]
