"""What a run asks and records one by one: a question of a benchmark, or a document of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

# What names an item: its subject or task, and its row in it.
Key = tuple[str, int]


class Item(Protocol):
    """What a run asks for one line of records.jsonl."""

    @property
    def subject(self) -> str:
        """The name of the subject or the task."""
        ...

    @property
    def index(self) -> int:
        """The row in the subject's or the task's data, from 0."""
        ...

    @property
    def key(self) -> Key:
        """The subject and the row, which name the item in records."""
        ...


def subject_counts(items: Iterable[Item]) -> dict[str, int]:
    """Count the items of each subject; subjects are in alphabetical order."""
    return dict(sorted(Counter(item.subject for item in items).items()))
