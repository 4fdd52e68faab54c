"""Questions on disk: of each, a run holds in memory where it lies."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from mmlu_client.data.question import Question
from mmlu_client.errors import RunError

# A question: subject and place in it.
Key = tuple[str, int]


class QuestionFile:
    """A file without a name, which is gone with the process. subjects: what was added, in that order."""

    def __init__(self) -> None:
        """Raises RunError."""
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise RunError(f"cannot make a temporary file: {error.strerror}") from None
        weakref.finalize(self, self._file.close)
        self._end = 0
        self.subjects: dict[str, SubjectQuestions] = {}

    def count(self, subject: str) -> int:
        return len(self.subjects.get(subject, ()))

    def add(self, question: Question) -> None:
        """question.index: as many as its subject has already. Raises RunError."""
        line = json.dumps((question.text, question.options, question.answer)).encode()
        try:
            self._file.write(line)
        except OSError as error:
            raise RunError(f"cannot keep the questions in a temporary file: {error.strerror}") from None
        subject = self.subjects.setdefault(question.subject, SubjectQuestions(self, question.subject))
        subject.places.append(self._end)
        subject.lengths.append(len(line))
        self._end += len(line)

    def read(self, place: int, length: int) -> bytes:
        self._file.flush()
        return os.pread(self._file.fileno(), length, place)


class SubjectQuestions(Sequence[Question]):
    """Of one subject. places, lengths: of its questions in the file, in bytes."""

    def __init__(self, file: QuestionFile, subject: str) -> None:
        self._file = file
        self._subject = subject
        self.places = array("Q")
        self.lengths = array("I")

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Question: ...

    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...

    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        text, options, answer = json.loads(self._file.read(self.places[row], self.lengths[row]))
        return Question(self._subject, row, text, tuple(options), answer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


class Selection(Sequence[Question]):
    """Some questions of some subjects, in some order."""

    def __init__(
        self, subjects: Mapping[str, Sequence[Question]], codes: ArrayLike, indices: ArrayLike
    ) -> None:
        """codes: of each question, which of the subjects; indices: which of that subject's questions."""
        self._subjects = subjects
        self._names = list(subjects)
        self._codes = np.asarray(codes, dtype=np.int32)
        self._indices = np.asarray(indices, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, index: int) -> Question: ...

    @overload
    def __getitem__(self, index: slice) -> Selection: ...

    def __getitem__(self, index: int | slice) -> Question | Selection:
        if isinstance(index, slice):
            return Selection(self._subjects, self._codes[index], self._indices[index])
        return self._subjects[self._names[self._codes[index]]][int(self._indices[index])]

    def keys(self) -> Iterator[Key]:
        """Without reading any."""
        for code, index in zip(self._codes, self._indices, strict=True):
            yield self._names[code], int(index)

    def rows(self, rows: Iterable[int]) -> Selection:
        """These of them, in this order."""
        chosen = np.fromiter(rows, dtype=np.int64)
        return Selection(self._subjects, self._codes[chosen], self._indices[chosen])

    def among(self, keys: set[Key]) -> Selection:
        return self.rows(row for row, key in enumerate(self.keys()) if key in keys)

    def without(self, keys: set[Key]) -> Selection:
        return self.rows(row for row, key in enumerate(self.keys()) if key not in keys)

    def counts(self) -> dict[str, int]:
        """How many of each subject, where there are any."""
        found = np.bincount(self._codes, minlength=len(self._names))
        return {name: int(count) for name, count in zip(self._names, found, strict=True) if count}


def selection_of(subjects: Mapping[str, Sequence[Question]], limit: int | None = None) -> Selection:
    """The first `limit` questions of each subject, None: all; subject by subject."""
    sizes = [
        len(questions) if limit is None else min(len(questions), limit) for questions in subjects.values()
    ]
    codes = np.repeat(np.arange(len(sizes)), sizes)
    indices = np.concatenate([np.arange(size) for size in sizes] or [np.array([], dtype=np.int32)])
    return Selection(subjects, codes, indices)
