"""Where two programs that scored the same questions agree: prompts, letters, answers, results files."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmlu_client.data.question import LETTERS

# The parts of a results file that must be equal; the rest are each program's settings.
PARTS = ("results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples")
GROUPS = ("mmlu", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other")

# The subject and the index of a question.
Place = tuple[str, int]
# The keys that lead to an entry.
Path = tuple[str, ...]
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """A question's prompt as the model got it, and its answer.

    Attributes:
        logprobs: The log-probabilities of the four letters.
    """

    prompt_ids: tuple[int, ...]
    truncated: bool
    candidate_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    correct: bool

    @property
    def predicted(self) -> str:
        """The most probable letter."""
        return LETTERS[self.logprobs.index(max(self.logprobs))]


@dataclass(frozen=True)
class Agreement:
    """The answers of two programs; of each pair the harness's comes first, then ours.

    Attributes:
        documents: The results files.
        tables: The tables that the harness prints of each.
    """

    pairs: Mapping[Place, tuple[Scored, Scored]]
    documents: tuple[Document, Document]
    tables: tuple[list[str], list[str]]

    def alike(self, what: Callable[[Scored], object]) -> int:
        """Return on how many questions both have the same."""
        return sum(what(theirs) == what(ours) for theirs, ours in self.pairs.values())

    def entries(self) -> dict[Path, tuple[Any, Any]]:
        """Return every entry that either file has in PARTS, by its keys; None where a file lacks it."""
        left, right = (
            dict(_entries({part: document[part] for part in PARTS})) for document in self.documents
        )
        return {path: (left.get(path), right.get(path)) for path in sorted(left.keys() | right.keys())}

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many are the same, of how many, by what is compared."""
        questions, entries = len(self.pairs), self.entries()
        return {
            "prompts, token for token": (self.alike(lambda each: each.prompt_ids), questions),
            "token ids of the four letters": (self.alike(lambda each: each.candidate_ids), questions),
            "letters chosen": (self.alike(lambda each: each.predicted), questions),
            "right or wrong": (self.alike(lambda each: each.correct), questions),
            "entries of the results file": (sum(_alike(*both) for both in entries.values()), len(entries)),
            "tables that the harness makes of it": (
                sum(one == other for one, other in zip(*self.tables, strict=True)),
                len(self.tables[0]),
            ),
        }

    def differences(self) -> dict[Place, float]:
        """Return the largest difference between two log-probabilities of a letter for each question."""
        return {
            place: max(abs(one - other) for one, other in zip(theirs.logprobs, ours.logprobs, strict=True))
            for place, (theirs, ours) in self.pairs.items()
        }


def _entries(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inner in value.items():
        yield from _entries(inner, (*path, name))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        # Sums may have been added up in another order.
        return math.isclose(one, other, rel_tol=1e-12)
    return type(one) is type(other) and bool(one == other)


def print_agreement(agreement: Agreement) -> None:
    """Print what is the same and what differs."""
    print("| the same in both | | of |\n|---|---|---|")
    for name, (same, compared) in agreement.counts().items():
        print(f"| {name} | {same} | {compared} |")
    differences = agreement.differences()
    subject, index = place = max(differences, key=lambda each: differences[each])
    print("\nlog-probabilities of the letters: largest difference ", end="")
    print(f"{differences[place]:.1e} ({subject} {index}), ", end="")
    print(f"median of the questions' largest {statistics.median(differences.values()):.1e}\n")
    print("| | the harness | ours |\n|---|---|---|")
    for group in GROUPS:
        theirs, ours = (_accuracy(document, group) for document in agreement.documents)
        print(f"| {group} | {theirs} | {ours} |")
    print()
    _print_unlike(agreement)
    missing = agreement.documents[0].keys() - agreement.documents[1].keys()
    print(f"only the harness's file has: {', '.join(sorted(missing))}")


def _print_unlike(agreement: Agreement) -> None:
    for place, both in agreement.pairs.items():
        if both[0].predicted != both[1].predicted:
            theirs, ours = (f"{each.predicted} {each.logprobs}" for each in both)
            print(f"{place}: the harness {theirs}, ours {ours}")
    for path, both in agreement.entries().items():
        if not _alike(*both):
            print(f"{'/'.join(path)}: the harness {both[0]!r}, ours {both[1]!r}")


def _accuracy(document: Document, group: str) -> str:
    figures = document["results"][group]
    error = figures["acc_stderr,none"]
    return f"{figures['acc,none']:.6f} ± " + (error if isinstance(error, str) else f"{error:.6f}")
