"""Questions → prompts: token ids, candidate ids and the length of the shared prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_common.tokenizer import TokenIds

from mmlu_client.data.question import Question
from mmlu_client.errors import InputError
from mmlu_client.prompts.format import PromptFormat
from mmlu_client.prompts.head_cut import Cut
from mmlu_client.prompts.prompt import Prompt, Unaskable
from mmlu_client.prompts.tokenizer import Tokenizer

Candidates = tuple[int, ...]


@dataclass(frozen=True)
class Head:
    """The header and shots of a subject.

    Attributes:
        text: Their text.
        ids: Their token ids.
        cut: Where a prompt that begins with them can be cut; None where it has to be encoded whole.
    """

    text: str
    ids: TokenIds
    cut: Cut | None


class PromptBuilder:
    """Builds the prompts of a run's questions. Only one thread may use it.

    A candidate's id is defined by encoding the prompt with its letter appended, " A" or what else the format
    puts there, and taking what comes after the prompt's own ids. This is done once for every subject, number
    of options and last token of a prompt, and the result is used for the subject's other prompts with these.
    That is correct for BPE, where the last token decides what can follow (trt_common.tokenizer.locality says
    why). It is correct for Unigram and WordPiece, because they encode word by word and " A" begins a word.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        style: PromptFormat,
        shots: Mapping[str, Sequence[Question]],
        max_tokens: int,
        vocabulary_size: int,
    ) -> None:
        """Prepare to build prompts.

        Args:
            tokenizer: The tokenizer of the served model.
            style: The format of prompts.
            shots: The shots of each subject.
            max_tokens: The limit on a prompt, in tokens, BOS included.
            vocabulary_size: The number of the model's token ids.
        """
        self._tokenizer = tokenizer
        self._style = style
        self._shots = shots
        self._max_tokens = max_tokens
        self._vocabulary_size = vocabulary_size
        self._heads: dict[tuple[str, tuple[int, ...]], Head] = {}
        self._candidates: dict[tuple[str, int, int], Candidates] = {}

    def build(self, questions: Sequence[Question]) -> list[Prompt | Unaskable]:
        """Return one prompt for each question, in order.

        Raises:
            InputError: The tokenizer does not fit the model.
        """
        heads = [self._head(question.subject, self._shots[question.subject]) for question in questions]
        bodies = [self._style.body(question) for question in questions]
        encodings = self._encode(list(zip(heads, bodies, strict=True)))
        return [
            self._prompt(question, head, body, ids)
            for question, head, body, ids in zip(questions, heads, bodies, encodings, strict=True)
        ]

    def _prompt(self, question: Question, head: Head, body: str, ids: TokenIds) -> Prompt | Unaskable:
        shots = self._shots[question.subject]
        while len(ids) > self._max_tokens and shots and self._style.too_long != "cut-left":
            shots = self._style.fewer(shots)
            head = self._head(question.subject, shots)
            (ids,) = self._encode([(head, body)])
        if len(ids) > self._max_tokens and self._style.too_long != "cut-left":
            return Unaskable(question, f"{len(ids)} tokens without any shot: the limit is {self._max_tokens}")
        shared = common_prefix(ids, head.ids)
        self._check_vocabulary(max(ids[shared:], default=0))
        candidates = self._candidate_ids(question, head.text + body, ids)
        if len(ids) > self._max_tokens:
            # The prompt is cut at the limit, without its BOS and header: it shares no prefix any more.
            kept = self._shots_behind(len(ids) - self._max_tokens, question.subject, ids)
            return Prompt(question, ids[-self._max_tokens :], candidates, 0, kept, truncated=True)
        truncated = len(shots) < len(self._shots[question.subject])
        return Prompt(question, ids, candidates, min(shared, len(ids) - 1), len(shots), truncated)

    def _shots_behind(self, cut: int, subject: str, ids: TokenIds) -> int:
        """Return how many shots begin at token `cut` of the prompt or later.

        A shot begins where the prompt no longer equals header and earlier shots alone. That may be a token or
        two early, where a blank line is encoded differently before a word, so that no incomplete shot is
        counted.
        """
        shots = self._shots[subject]
        heads = (self._head(subject, shots[:number]) for number in range(len(shots)))
        return sum(common_prefix(ids, head.ids) >= cut for head in heads)

    def _encode(self, texts: Sequence[tuple[Head, str]]) -> list[TokenIds]:
        """Return the token ids of each head with its body.

        Of a head only what is after its cut is encoded again.
        """
        rests = iter(self._tokenizer.encode_rest([head.cut.rest + body for head, body in texts if head.cut]))
        joined = [_joined(head.cut, next(rests)) if head.cut else None for head, _ in texts]
        missing = [head.text + body for (head, body), ids in zip(texts, joined, strict=True) if ids is None]
        wholes = iter(self._tokenizer.encode(missing) if missing else ())
        return [next(wholes) if ids is None else ids for ids in joined]

    def _head(self, subject: str, shots: Sequence[Question]) -> Head:
        key = (subject, tuple(shot.index for shot in shots))
        if key not in self._heads:
            text = self._style.head(subject, shots)
            (ids,) = self._tokenizer.encode([text])
            self._check_vocabulary(max(ids, default=0))
            self._heads[key] = Head(text, ids, self._tokenizer.cut(text))
        return self._heads[key]

    def _candidate_ids(self, question: Question, text: str, ids: TokenIds) -> Candidates:
        key = (question.subject, len(question.options), ids[-1])
        if key not in self._candidates:
            answers = [self._style.answer(letter) for letter in question.letters]
            self._candidates[key] = self._encode_candidates(answers, text, ids)
        return self._candidates[key]

    def _encode_candidates(self, answers: Sequence[str], text: str, ids: TokenIds) -> Candidates:
        longer = self._tokenizer.encode([text + answer for answer in answers])
        followers = [encoding[len(ids) :] for encoding in longer if encoding[: len(ids)] == ids]
        candidates = tuple(follower[0] for follower in followers if len(follower) == 1)
        if len(set(candidates)) != len(answers):
            found = [encoding[len(ids) - 1 :] for encoding in longer]
            raise InputError(
                f"{self._tokenizer.name} does not make one token of each of {answers[0]!r} to "
                f"{answers[-1]!r} after a prompt (after {text[-12:]!r}: {found}): "
                "its model cannot be measured this way"
            )
        self._check_vocabulary(max(candidates))
        return candidates

    def _check_vocabulary(self, largest: int) -> None:
        if largest >= self._vocabulary_size:
            raise InputError(
                f"{self._tokenizer.name} gives token id {largest}, the model's vocabulary has "
                f"{self._vocabulary_size}: it is not this model's tokenizer"
            )


def _joined(cut: Cut, rest: TokenIds) -> TokenIds | None:
    """Return the ids before and after the cut; None where the cut is not valid for this text."""
    return [*cut.ids, *rest] if rest[:1] == [cut.first] else None


def common_prefix(left: TokenIds, right: TokenIds) -> int:
    """Return the number of leading ids that both have in common."""
    length = min(len(left), len(right))
    # Only the last tokens, where head and question meet, can differ: from the end it takes a step or two.
    while length and left[:length] != right[:length]:
        length -= 1
    return length
