"""One question of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Letter = Literal["A", "B", "C", "D"]
LETTERS: tuple[Letter, ...] = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Question:
    """index: the row in its subject's file, from 0. Text and options: the file's, byte for byte."""

    subject: str
    index: int
    text: str
    options: tuple[str, str, str, str]
    answer: Letter
