"""Question → prompt: token ids, candidate ids, shared prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmlu_client.errors import InputError
from mmlu_client.prompt_format import PromptFormat
from mmlu_client.question import LETTERS, Question
from mmlu_client.tokenizer import TokenIds

Candidates = tuple[int, int, int, int]


class Encoder(Protocol):
    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> list[TokenIds]: ...


@dataclass(frozen=True)
class Prompt:
    """What is sent for one question.

    candidate_ids: of " A" to " D" after this prompt. shared_prefix_tokens: how many of the first tokens are
    those of the subject's header and shots. shots: how many were kept.
    """

    question: Question
    token_ids: TokenIds
    candidate_ids: Candidates
    shared_prefix_tokens: int
    shots: int


@dataclass(frozen=True)
class Unaskable:
    """A question whose prompt cannot be made to fit the model."""

    question: Question
    reason: str


class PromptBuilder:
    """Builds the prompts of one run. Not for several threads at once.

    Candidate ids: for BPE, ids are the encoding of a text if and only if every two neighbours among them are
    the encoding of theirs, so the last token of a prompt decides what may follow it; Unigram and WordPiece
    models decide within a word, and " A" begins one. The definition (encode the prompt with " A" appended,
    take what comes after the prompt's own ids) is therefore carried out in full for every subject and every
    last token met in it, and its outcome holds for the subject's other prompts with that last token.
    """

    def __init__(
        self,
        encoder: Encoder,
        style: PromptFormat,
        shots: Mapping[str, Sequence[Question]],
        max_tokens: int,
        vocabulary_size: int,
    ) -> None:
        """shots: those of each subject. max_tokens: the longest prompt the server takes."""
        self._encoder = encoder
        self._style = style
        self._shots = shots
        self._max_tokens = max_tokens
        self._vocabulary_size = vocabulary_size
        self._heads: dict[tuple[str, tuple[int, ...]], tuple[str, TokenIds]] = {}
        self._candidates: dict[tuple[str, int], Candidates] = {}

    def build(self, questions: Sequence[Question]) -> list[Prompt | Unaskable]:
        """One prompt a question, in order. Raises InputError where the tokenizer does not fit the model."""
        texts = [self._text(question, self._shots[question.subject]) for question in questions]
        encodings = self._encoder.encode(texts)
        return [
            self._prompt(question, text, ids)
            for question, text, ids in zip(questions, texts, encodings, strict=True)
        ]

    def _prompt(self, question: Question, text: str, ids: TokenIds) -> Prompt | Unaskable:
        shots = self._shots[question.subject]
        if len(ids) > self._max_tokens and self._style.too_long != "cut-left":
            text, ids, shots = self._shorten(question, text, ids, shots)
            if len(ids) > self._max_tokens:
                return Unaskable(
                    question,
                    f"{len(ids)} tokens without any shot: the model takes {self._max_tokens}",
                )
        self._check_vocabulary(max(ids, default=0))
        candidates = self._candidate_ids(question.subject, text, ids)
        if len(ids) > self._max_tokens:
            # Cut where the model's limit falls, BOS and header gone: nothing is shared any more.
            return Prompt(question, ids[-self._max_tokens :], candidates, 0, len(shots))
        shared = common_prefix(ids, self._head(question.subject, shots)[1])
        return Prompt(question, ids, candidates, min(shared, len(ids) - 1), len(shots))

    def _shorten(
        self, question: Question, text: str, ids: TokenIds, shots: Sequence[Question]
    ) -> tuple[str, TokenIds, Sequence[Question]]:
        while len(ids) > self._max_tokens and shots:
            shots = self._style.fewer(shots)
            text = self._text(question, shots)
            ids = self._encode(text)
        return text, ids, shots

    def _text(self, question: Question, shots: Sequence[Question]) -> str:
        return self._head(question.subject, shots)[0] + self._style.body(question)

    def _head(self, subject: str, shots: Sequence[Question]) -> tuple[str, TokenIds]:
        """Header and shots as text and as ids."""
        key = (subject, tuple(shot.index for shot in shots))
        if key not in self._heads:
            text = self._style.head(subject, shots)
            self._heads[key] = (text, self._encode(text))
        return self._heads[key]

    def _candidate_ids(self, subject: str, text: str, ids: TokenIds) -> Candidates:
        key = (subject, ids[-1])
        if key not in self._candidates:
            self._candidates[key] = self._encode_candidates(text, ids)
        return self._candidates[key]

    def _encode_candidates(self, text: str, ids: TokenIds) -> Candidates:
        longer = self._encoder.encode([f"{text} {letter}" for letter in LETTERS])
        followers = [encoding[len(ids) :] for encoding in longer if encoding[: len(ids)] == ids]
        if [len(follower) for follower in followers] != [1, 1, 1, 1] or len({f[0] for f in followers}) != 4:
            raise InputError(
                f"{self._encoder.name} does not make one token of each of ' A' to ' D' after a prompt "
                f"(after {text[-12:]!r}: {[encoding[len(ids) - 1 :] for encoding in longer]}): "
                "its model cannot be measured this way"
            )
        a, b, c, d = (follower[0] for follower in followers)
        self._check_vocabulary(max(a, b, c, d))
        return a, b, c, d

    def _check_vocabulary(self, largest: int) -> None:
        if largest >= self._vocabulary_size:
            raise InputError(
                f"{self._encoder.name} gives token id {largest}, the model's vocabulary has "
                f"{self._vocabulary_size}: it is not this model's tokenizer"
            )

    def _encode(self, text: str) -> TokenIds:
        return self._encoder.encode([text])[0]


def common_prefix(left: TokenIds, right: TokenIds) -> int:
    """How many leading ids both have in common."""
    length = min(len(left), len(right))
    # Where head and question meet, at most the last few tokens differ: from the end it takes a step or two.
    while length and left[:length] != right[:length]:
        length -= 1
    return length
