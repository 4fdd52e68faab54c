"""`--data` → the benchmark: dev and test questions by subject, and their hash."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlu_client.data.csv_layout import dev_file, has_csv, read_csv
from mmlu_client.data.hub import is_hub_id, read_hub
from mmlu_client.data.hub_layout import has_parquet, read_parquet
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError
from mmlu_client.text import shown

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

Subjects = Mapping[str, Sequence[Question]]
ReadSplit = Callable[[str], Subjects]


@dataclass(frozen=True)
class Benchmark:
    """This is a benchmark: subjects in alphabetical order, each one's questions in its file's order.

    Attributes:
        name: what `--data` names.
        dev: the questions that are shots.
        test: the questions that are asked.
        sha256: over the parsed questions of both splits, so that every layout of the same data has the same.
    """

    name: str
    dev: Subjects
    test: Subjects
    sha256: str

    def pick_subjects(self, names: Sequence[str] | None) -> list[str]:
        """Choose subjects by name.

        Args:
            names: the names; None for all subjects.

        Returns:
            The subjects in alphabetical order, each once.

        Raises:
            InputError: the benchmark has no such subject.
        """
        for name in names or ():
            if name not in self.test:
                raise InputError(f"no subject {name!r} in {self.name}{_suggestion(name, list(self.test))}")
        return sorted(set(names)) if names else list(self.test)

    def questions(self, subjects: Sequence[str], limit: int | None) -> list[Question]:
        """List the test questions of these subjects, the first `limit` of each; None for all."""
        return [question for subject in subjects for question in self.test[subject][:limit]]

    def shots(self, subjects: Sequence[str], count: int) -> dict[str, Sequence[Question]]:
        """Take the first `count` dev questions of each subject.

        Raises:
            InputError: a subject has fewer.
        """
        for subject in subjects:
            there = len(self.dev.get(subject, ()))
            if there < count and not there:
                raise InputError(
                    f"{subject} has no dev questions{self._missing_file(subject)}, --few-shots asks for "
                    f"{count}: add them, or use --few-shots 0"
                )
            if there < count:
                raise InputError(
                    f"{subject} has {there} dev questions, --few-shots asks for {count}: "
                    f"use --few-shots {there} or fewer"
                )
        return {subject: self.dev.get(subject, ())[:count] for subject in subjects}

    def _missing_file(self, subject: str) -> str:
        """Name the file that the dev questions would stand in, where each subject has its own."""
        folder = Path(self.name).expanduser()
        return f" (no file {dev_file(folder, subject)})" if has_csv(folder) else ""


def load_benchmark(data: str) -> Benchmark:
    """Read the benchmark that `--data` names.

    Args:
        data: "demo", a folder in either layout, or a hub id.

    Raises:
        InputError: there is no such data, or it cannot be read.
    """
    name, read_split = _reader(data)
    try:
        dev, test = (dict(sorted(read_split(split).items())) for split in ("dev", "test"))
    except OSError as error:
        raise InputError(f"cannot read {error.filename or data}: {error.strerror or error}") from None
    if not test:
        raise InputError(f"--data {data} holds no test questions")
    return Benchmark(name, dev, test, _sha256(dev, test))


def _reader(data: str) -> tuple[str, ReadSplit]:
    folder = DEMO_FOLDER if data == DEMO else Path(data).expanduser()
    if folder.is_dir():
        return data, _folder_reader(folder)
    if folder.exists():
        raise InputError(f"--data {data} is not a folder")
    if "/" in data and is_hub_id(data):
        return data, lambda split: read_hub(data, split)
    raise InputError(f"--data {data}: no such folder (nor is it `demo` or a hub id like cais/mmlu)")


def _folder_reader(folder: Path) -> ReadSplit:
    try:
        next(folder.iterdir(), None)  # a folder that may not be listed looks empty to glob
    except OSError as error:
        raise InputError(f"cannot read --data {folder}: {error.strerror}") from None
    if has_parquet(folder) and has_csv(folder):
        raise InputError(
            f"--data {folder} holds questions twice, test/*_test.csv and parquet files: move one of them away"
        )
    if has_parquet(folder):
        return lambda split: read_parquet(folder, split)
    if has_csv(folder):
        return lambda split: read_csv(folder, split)
    raise InputError(
        f"--data {folder} has neither test/<subject>_test.csv (Hendrycks' layout) "
        "nor all/test-*.parquet or <subject>/test-*.parquet (the hub's)"
    )


def _suggestion(name: str, subjects: list[str]) -> str:
    near = difflib.get_close_matches(name, subjects, n=3, cutoff=0.5)
    if near:
        return f"; near it: {', '.join(near)}"
    return f"; it has {shown(subjects)}"


def _sha256(dev: Subjects, test: Subjects) -> str:
    digest = hashlib.sha256()
    for split, subjects in (("dev", dev), ("test", test)):
        for subject, questions in subjects.items():
            for question in questions:
                row = (split, subject, question.text, *question.options, question.answer)
                digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
