"""Both layouts, exactly; and what is wrong with a broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks import write_parquet
from mmlu import MMLU, needs_mmlu, rows, write_benchmark, write_csv
from mmlu_client.data.benchmark import Benchmark, load_benchmark
from mmlu_client.data.hub import read_hub
from mmlu_client.data.item import subject_counts
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError

HUB_ROWS: list[dict[str, Any]] = [
    {
        "question": f"What is {n}?",
        "subject": subject,
        "choices": ["None", "1 ", "a\n\nb", ""],
        "answer": n % 4,
    }
    for subject in ("beta", "alpha")
    for n in range(6)
]


def write_hub(folder: Path) -> Path:
    for split in ("dev", "test"):
        write_parquet(folder / "all" / f"{split}-00000-of-00001.parquet", HUB_ROWS)
    return folder


def every_test_question(benchmark: Benchmark) -> list[Question]:
    return list(benchmark.questions(list(benchmark.test), None))


@needs_mmlu
def test_real_mmlu_is_the_same_in_both_layouts() -> None:
    hub, original = load_benchmark(str(MMLU)), load_benchmark(str(MMLU / "csv"))
    assert hub.test == original.test
    assert hub.dev == original.dev
    assert hub.sha256 == original.sha256


@needs_mmlu
def test_real_mmlu_keeps_every_byte() -> None:
    benchmark = load_benchmark(str(MMLU / "csv"))
    questions = every_test_question(benchmark)
    assert len(benchmark.test) == 57
    assert len(questions) == 14042
    assert sum(map(len, benchmark.dev.values())) == 285
    assert sum("None" in question.options for question in questions) == 10
    assert sum("\n\n" in question.text for question in questions) == 59


def test_layouts_of_small_files_agree(tmp_path: Path) -> None:
    hub = write_hub(tmp_path / "hub")
    for split in ("dev", "test"):
        for subject in ("alpha", "beta"):
            content = [row for row in HUB_ROWS if row["subject"] == subject]
            write_parquet(tmp_path / "apart" / subject / f"{split}-00000-of-00001.parquet", content)
            lines = [(r["question"], *r["choices"], "ABCD"[r["answer"]]) for r in content]
            write_csv(tmp_path / "csv" / split / f"{subject}_{split}.csv", lines)
    read = [load_benchmark(str(folder)) for folder in (hub, tmp_path / "apart", tmp_path / "csv")]
    assert len({benchmark.sha256 for benchmark in read}) == 1
    assert read[0].test == read[1].test == read[2].test
    assert read[0].test["alpha"][1].options == ("None", "1 ", "a\n\nb", "")


def test_hub_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the shape of the hub's repository, read by the library that reads the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = write_hub(tmp_path / "repository")
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: all\n  data_files:\n"
        "  - split: test\n    path: all/test-*\n  - split: dev\n    path: all/dev-*\n---\n"
    )
    folder = load_benchmark(str(repository))
    assert read_hub(str(repository), "test") == folder.test
    assert read_hub(str(repository), "dev") == folder.dev


def test_hash_tells_a_changed_answer(tmp_path: Path) -> None:
    one = load_benchmark(str(write_benchmark(tmp_path / "one", {"alpha": 3})))
    folder = write_benchmark(tmp_path / "two", {"alpha": 3})
    lines = [list(row) for row in rows(3, "alpha")]
    lines[2][5] = "A"
    write_csv(folder / "test" / "alpha_test.csv", lines)
    assert load_benchmark(str(folder)).sha256 != one.sha256


def test_demo_has_shots_for_every_subject() -> None:
    demo = load_benchmark("demo")
    assert len(demo.test) >= 2
    assert all(len(shots) == 5 for shots in demo.shots(list(demo.test), 5).values())


def test_limit_is_per_subject_and_keeps_the_order(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_benchmark(tmp_path, {"beta": 4, "alpha": 4, "gamma": 1})))
    subjects = benchmark.pick_subjects(["gamma", "alpha", "gamma"])
    assert [(q.subject, q.index) for q in benchmark.questions(subjects, 2)] == [
        ("alpha", 0),
        ("alpha", 1),
        ("gamma", 0),
    ]


def test_questions_are_counted_by_subject_in_alphabetical_order(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_benchmark(tmp_path, {"alpha": 3, "beta": 4})))
    questions = benchmark.questions(["alpha", "beta"], 3)
    assert [question.key for question in questions] == [(s, n) for s in ("alpha", "beta") for n in range(3)]
    assert questions[3] == benchmark.test["beta"][0]
    assert list(subject_counts(questions[:1:-1]).items()) == [("alpha", 1), ("beta", 3)]


def test_unknown_subject_names_near_ones(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_benchmark(tmp_path, {"abstract_algebra": 1, "virology": 1})))
    with pytest.raises(InputError, match=r"no subject 'abstract_algebr'.* near it: abstract_algebra"):
        benchmark.pick_subjects(["abstract_algebr"])
    with pytest.raises(InputError, match=r"no subject 'xyz'.*; it has abstract_algebra, virology"):
        benchmark.pick_subjects(["xyz"])


def test_too_few_dev_questions(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(write_benchmark(tmp_path, {"alpha": 1}, shots=2)))
    with pytest.raises(InputError, match="alpha has 2 dev questions, --few-shots asks for 5"):
        benchmark.shots(["alpha"], 5)


def test_a_missing_dev_file_is_named(tmp_path: Path) -> None:
    write_benchmark(tmp_path, {"alpha": 1})
    missing = tmp_path / "dev" / "alpha_dev.csv"
    missing.unlink()
    with pytest.raises(InputError, match=f"no dev questions .no file {missing}.*or use --few-shots 0$"):
        load_benchmark(str(tmp_path)).shots(["alpha"], 5)


LEFT_OVER = ("._{}", "~${}", ".~lock.{}#", ".{}", ".DS_Store", "Thumbs.db", "desktop.ini")


@pytest.mark.parametrize("name", LEFT_OVER)
def test_what_file_managers_and_editors_leave_is_no_data(tmp_path: Path, name: str) -> None:
    folders = {"csv": write_benchmark(tmp_path / "csv", {"alpha": 3}), "hub": write_hub(tmp_path / "hub")}
    before = {layout: load_benchmark(str(folder)) for layout, folder in folders.items()}
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        (path.parent / name.format(path.name)).write_bytes(b"\x00\x05\x16\x07Mac OS X\xff\xfe")
    for layout, folder in folders.items():
        assert load_benchmark(str(folder)).sha256 == before[layout].sha256


def test_what_archives_and_disks_leave_is_no_data(tmp_path: Path) -> None:
    for subject in ("alpha", "beta"):
        for split in ("dev", "test"):
            content = [row for row in HUB_ROWS if row["subject"] == subject]
            write_parquet(tmp_path / subject / f"{split}-00000-of-00001.parquet", content)
    before = load_benchmark(str(tmp_path))
    for folder in (".cache", "__MACOSX", "@eaDir"):
        write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", HUB_ROWS)
    assert load_benchmark(str(tmp_path)).sha256 == before.sha256


def test_spreadsheets_own_ways_of_writing_change_nothing(tmp_path: Path) -> None:
    """A byte order mark, CRLF, an empty line, small letters."""
    plain = load_benchmark(str(write_benchmark(tmp_path / "plain", {"alpha": 3})))
    folder = write_benchmark(tmp_path / "other", {"alpha": 3})
    lines = [f"{','.join(row[:5])},{row[5].lower()}" for row in rows(3, "alpha")]
    text = "\ufeff" + "\r\n\r\n".join(lines) + "\r\n"
    (folder / "test" / "alpha_test.csv").write_bytes(text.encode())
    assert load_benchmark(str(folder)).sha256 == plain.sha256


def test_a_question_about_questions_and_answers_is_no_header(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, {"alpha": 1})
    write_csv(folder / "test" / "alpha_test.csv", [("Which is last?", "question", "answer", "A", "B", "D")])
    (question,) = load_benchmark(str(folder)).test["alpha"]
    assert question.options == ("question", "answer", "A", "B")


def headed(*names: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_benchmark(folder, {"alpha": 3})
        write_csv(folder / "test" / "alpha_test.csv", [names, *rows(2, "alpha")])
        return folder

    return write


def sharded(*names: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_parquet(folder / "all" / "dev-00000-of-00001.parquet", HUB_ROWS)
        for name in names:
            write_parquet(folder / "all" / f"test-{name}.parquet", HUB_ROWS)
        return folder

    return write


def test_a_table_of_several_files_is_read_whole(tmp_path: Path) -> None:
    benchmark = load_benchmark(str(sharded("00000-of-00002", "00001-of-00002")(tmp_path)))
    assert len(every_test_question(benchmark)) == 2 * len(HUB_ROWS)


def spoil(line: tuple[str, ...]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_benchmark(folder, {"alpha": 3})
        write_csv(folder / "test" / "alpha_test.csv", [*rows(2, "alpha"), line])
        return folder

    return write


def spoil_bytes(content: bytes, name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_benchmark(folder, {"alpha": 3})
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return folder

    return write


def broken_parquet(folder: Path) -> Path:
    (write_hub(folder) / "all" / "test-00000-of-00001.parquet").write_bytes(b"no")
    return folder


def spoil_rows(**changes: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_hub(folder)
        row = {name: value for name, value in {**HUB_ROWS[0], **changes}.items() if value != "gone"}
        write_parquet(folder / "all" / "test-00000-of-00001.parquet", [row])
        return folder

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (spoil(("q", "a", "b", "c", "D")), r"alpha_test.csv:3: 5 columns where question, four options"),
        (
            spoil(("q", "a", "b", "c", "d", "E")),
            r"alpha_test.csv:3: the answer is 'E', not one of A, B, C, D",
        ),
        (spoil(("q", "a", "b", "c", "d", "2")), r"alpha_test.csv:3: the answer is '2'"),
        (
            headed("question", "A", "B", "C", "D", "answer"),
            r"alpha_test.csv:1: a header \(question, A, B, C, D, answer\), and this layout has none: delete",
        ),
        (headed("Prompt", "1", "2", "3", "4", "Correct Answer"), r"alpha_test.csv:1: a header"),
        (headed("answer", "question", "A", "B", "C", "D"), r"alpha_test.csv:1: a header"),
        (headed("", "question", "A", "B", "C", "D", "answer"), r"alpha_test.csv:1: a header"),
        (headed("0", "1", "2", "3", "4", "5"), r"alpha_test.csv:1: the answer is '5'"),
        (
            spoil_bytes(b"q;a, b;c;d;e;A\n", "test/alpha_test.csv"),
            r"alpha_test.csv:1: 2 columns where .* make 6: separate them by commas, not by ';'",
        ),
        (spoil_bytes(b"q\ta\tb\tc\td\tA\n", "test/alpha_test.csv"), r"not by '.t'"),
        (spoil_bytes("q,a,b,c,d,A\n".encode("utf-16"), "test/alpha_test.csv"), r"is not UTF-8 text"),
        (spoil_bytes(b"", "dev/alpha_dev.csv"), r"alpha_dev.csv holds no questions"),
        (lambda folder: write_hub(write_benchmark(folder, {"alpha": 1})), r"holds questions twice"),
        (sharded("00000-of-00001", "00000-of-00002", "00001-of-00002"), r"twice, in 1 and 2 files"),
        (sharded("00001-of-00002"), r"all lacks file 00000 of 00002"),
        (spoil_bytes(b"\xff\xfe,a,b,c,d,A\n", "test/alpha_test.csv"), r"alpha_test.csv is not UTF-8"),
        (spoil_bytes(b"", "test/alpha_test.csv"), r"alpha_test.csv holds no questions"),
        (broken_parquet, r"parquet is not a readable parquet file"),
        (
            spoil_rows(choices="gone"),
            r"parquet: no column 'choices' \(it has 'question', 'subject', 'answer'\)",
        ),
        (spoil_rows(answer=4), r"row 0: the answer is 4, not one of 0, 1, 2, 3"),
        (spoil_rows(answer="A"), r"row 0: the answer is 'A'"),
        (spoil_rows(choices=["a", "b"]), r"row 0: choices must be four texts"),
        (spoil_rows(choices=["a", "b", "c", None]), r"row 0: choices must be four texts"),
        (lambda folder: folder, r"has neither test/<subject>_test.csv"),
        (lambda folder: folder / "gone", r"no such folder"),
        (lambda folder: write_csv(folder / "file", []), r"is not a folder"),
    ],
)
def test_broken_data_is_named(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_benchmark(str(write(tmp_path)))
