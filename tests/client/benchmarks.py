"""Small benchmarks in the layouts of CMMLU, C-Eval and MMLU-Pro."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mmlu import write_csv

# Question, options, letter: a new line, quotes and commas, a word that is no missing value, an empty option.
Row = tuple[str, tuple[str, ...], str]
ROWS: tuple[Row, ...] = (
    ("在下列选项中，哪一个最大？", ("一", "二", "None", "四"), "D"),
    ('他说："好,\n对吗？"', ("a,b", '"', "", "NA"), "A"),
    ("1 + 1 = ____", ("1", "2", "3", "4"), "B"),
)
SHOTS: tuple[Row, ...] = tuple(
    (f"第{number}题", ("甲", "乙", "丙", "丁"), "ABCDA"[number]) for number in range(5)
)
PRO_ROWS: tuple[Row, ...] = (
    ("How many?", tuple(f"{number}" for number in range(10)), "J"),
    ("Which of three?", ("one", "two", "three"), "B"),
    ("Which of four?\n", ("one", "two", "three", "N/A"), "D"),
    ("Which of seven?", tuple("abcdefg"), "G"),
)
PRO_SHOTS: tuple[Row, ...] = tuple(
    (f"Shot {number}?", tuple(f"{word} {number}" for word in ("no", "yes", "maybe")), "ABCAB"[number])
    for number in range(5)
)
CMMLU_HEADER = ("", "Question", "A", "B", "C", "D", "Answer")
CEVAL_HEADER = ("id", "question", "A", "B", "C", "D", "answer")
SUBJECTS = ("anatomy", "high_school_physics")


def write_parquet(path: Path, content: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), path)
    return path


def lettered_lines(header: Sequence[str], rows: Iterable[Row], *more: str) -> list[tuple[str, ...]]:
    """A header and numbered rows; more: cells at the end of each."""
    numbered = [
        (str(number), text, *options, letter, *more) for number, (text, options, letter) in enumerate(rows)
    ]
    return [tuple(header), *numbered]


def write_cmmlu(folder: Path, rows: Sequence[Row] = ROWS, header: Sequence[str] = CMMLU_HEADER) -> Path:
    for subject in SUBJECTS:
        write_csv(folder / "dev" / f"{subject}.csv", lettered_lines(CMMLU_HEADER, SHOTS))
        write_csv(folder / "test" / f"{subject}.csv", lettered_lines(header, rows))
    return folder


def write_ceval(folder: Path, rows: Sequence[Row] = ROWS, header: Sequence[str] = CEVAL_HEADER) -> Path:
    """Its dev split has explanations, its test split no answers."""
    for subject in SUBJECTS:
        dev = lettered_lines((*CEVAL_HEADER, "explanation"), SHOTS, "因为，\n所以")
        write_csv(folder / "dev" / f"{subject}_dev.csv", dev)
        write_csv(folder / "val" / f"{subject}_val.csv", lettered_lines(header, rows))
        unanswered = [line[:-1] for line in lettered_lines(CEVAL_HEADER, [*rows, *rows])]
        write_csv(folder / "test" / f"{subject}_test.csv", unanswered)
    return folder


def lettered_dicts(header: Sequence[str], rows: Iterable[Row], **more: str) -> list[dict[str, Any]]:
    head, *lines = lettered_lines(header, rows)
    return [
        {**{name: cell or None for name, cell in zip(head[1:], line[1:], strict=True)}, **more}
        for line in lines
    ]


def pro_dicts(rows: Iterable[Row], category: str) -> list[dict[str, Any]]:
    return [
        {
            "question_id": number,
            "question": text,
            "options": list(options),
            "answer": letter,
            "answer_index": "ABCDEFGHIJ".index(letter),
            "cot_content": "A: Let's think step by step.",
            "category": category,
            "src": "test",
        }
        for number, (text, options, letter) in enumerate(rows)
    ]


def write_pro(folder: Path, **changes: Any) -> Path:
    """changes: of the last test question's cells; "gone" leaves a column out."""
    categories = ("math", "computer science")
    test = [row for each in categories for row in pro_dicts(PRO_ROWS, each)]
    test[-1] = {**test[-1], **changes}
    test = [{name: cell for name, cell in row.items() if changes.get(name) != "gone"} for row in test]
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", test)
    shots = [row for each in categories for row in pro_dicts(PRO_SHOTS, each)]
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", shots)
    return folder
