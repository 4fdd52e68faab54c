"""`--data` → the benchmark: dev and test questions by subject, and their hash."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmlu_client.data.csv_layout import dev_file, has_csv, read_csv
from mmlu_client.data.family import CEVAL, CMMLU, MMLU, Family
from mmlu_client.data.hub import is_hub_id, is_published, published_folder, read_hub
from mmlu_client.data.hub_layout import parquet_family, read_parquet
from mmlu_client.data.lettered_csv import is_ceval, is_cmmlu, lettered_file, read_lettered_csv
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError
from mmlu_client.text import shown

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

Subjects = Mapping[str, Sequence[Question]]
ReadSplit = Callable[[str], Subjects]
NameFile = Callable[[str], Path]


@dataclass(frozen=True)
class Source:
    """Where questions are read from.

    Attributes:
        family: whose they are.
        read: reads the questions of the split of this name.
        shots_file: names the file of a subject's shots; None where subjects have no files of their own.
    """

    family: Family
    read: ReadSplit
    shots_file: NameFile | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: subjects in alphabetical order, each one's questions in its file's order.

    Attributes:
        name: what `--data` names.
        family: whose it is.
        dev: the questions that are shots.
        test: the questions that are asked.
        sha256: over the parsed questions of both splits, so that every layout of the same data has the same.
        shots_file: names the file of a subject's shots; None where subjects have no files of their own.
    """

    name: str
    family: Family
    dev: Subjects
    test: Subjects
    sha256: str
    shots_file: NameFile | None = None

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
        return f" (no file {self.shots_file(subject)})" if self.shots_file is not None else ""


def load_benchmark(data: str) -> Benchmark:
    """Read the benchmark that `--data` names.

    Args:
        data: "demo", a folder in one of the layouts, or a hub id.

    Raises:
        InputError: there is no such data, or it cannot be read.
    """
    with ExitStack() as kept:
        try:
            source = _source(data, kept)
            family = source.family
            dev, test = (dict(sorted(source.read(split).items())) for split in (family.shots, family.asked))
        except OSError as error:
            raise InputError(f"cannot read {error.filename or data}: {error.strerror or error}") from None
    if not test:
        without = f": {family.note}; copy it there too" if family.note else ""
        raise InputError(f"--data {data} holds no {family.asked} questions{without}")
    return Benchmark(data, family, dev, test, _sha256(dev, test), source.shots_file)


def _source(data: str, kept: ExitStack) -> Source:
    """Find what `--data` names; what is unpacked for it lasts as long as `kept`."""
    folder = DEMO_FOLDER if data == DEMO else Path(data).expanduser()
    if folder.is_dir():
        return _folder_source(folder)
    if folder.exists():
        raise InputError(f"--data {data} is not a folder")
    if is_published(data):
        return _folder_source(kept.enter_context(published_folder(data)))
    if "/" in data and is_hub_id(data):
        return Source(MMLU, partial(read_hub, data))
    raise InputError(f"--data {data}: no such folder (nor is it `demo` or a hub id like cais/mmlu)")


def _folder_source(folder: Path) -> Source:
    try:
        next(folder.iterdir(), None)  # a folder that may not be listed looks empty to glob
    except OSError as error:
        raise InputError(f"cannot read --data {folder}: {error.strerror}") from None
    family, separate = parquet_family(folder), _csv_source(folder)
    if family is not None and separate is not None:
        raise InputError(
            f"--data {folder} holds questions twice, in CSV and in parquet files: move one of them away"
        )
    if family is not None:
        return Source(family, partial(read_parquet, folder, family))
    if separate is not None:
        return separate
    raise InputError(
        f"--data {folder} has neither test/<subject>_test.csv (Hendrycks' layout), test/<subject>.csv "
        "(CMMLU's) nor val/<subject>_val.csv (C-Eval's), nor all/test-*.parquet, <subject>/test-*.parquet or "
        "data/test-*.parquet (the hub's)"
    )


def _csv_source(folder: Path) -> Source | None:
    if is_ceval(folder):
        return _lettered_source(folder, CEVAL)
    if is_cmmlu(folder):
        return _lettered_source(folder, CMMLU)
    if has_csv(folder):
        return Source(MMLU, partial(read_csv, folder), partial(dev_file, folder))
    return None


def _lettered_source(folder: Path, family: Family) -> Source:
    shots_file = partial(lettered_file, folder, family, family.shots)
    return Source(family, partial(read_lettered_csv, folder, family), shots_file)


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
