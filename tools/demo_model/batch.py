"""Training sequences as tensors, and the model's loss on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from tools.demo_model.question import LETTERS
from tools.demo_model.tokenizer import ANSWER, LABELS

# The number of sequences in a batch.
WIDTH = 24
# After this layer the hidden state at the end of a question's stem is trained to predict the answer's word,
# so that the later layers only have to find the option with that word.
RECALL_LAYER = 2
# After this layer the hidden state at "Answer:" is trained to predict that word too.
BRING_LAYER = 3


@dataclass(frozen=True)
class Batch:
    """Sequences and the places of their questions.

    Attributes:
        token_ids: int64 [sequences, length], padded on the right, where causal attention does not see it.
        row: int64 [questions], the sequence of each question.
        asked: int64 [questions], the position of "Answer:".
        letter: int64 [questions], the token after "Answer:".
        stem: int64 [questions], the position where the stem ends.
        word: int64 [questions], the first token of the correct option.
    """

    token_ids: torch.Tensor
    row: torch.Tensor
    asked: torch.Tensor
    letter: torch.Tensor
    stem: torch.Tensor
    word: torch.Tensor


@dataclass(frozen=True)
class Loss:
    """Means over the questions; cross entropies are over the whole vocabulary and in nats.

    Attributes:
        letter: The cross entropy of the letter.
        word: The cross entropy of the answer's word, added up where it is trained at two positions.
        right: The share of correct letters.
    """

    letter: float
    word: float
    right: float


def mean(losses: Sequence[Loss]) -> Loss:
    """Return the means over several steps."""
    return Loss(*(fmean(values) for values in zip(*map(astuple, losses), strict=True)))


def batches(tokenizer: Tokenizer, sequences: Sequence[str]) -> Iterator[Batch]:
    """Encode the sequences, and yield batches of sequences of similar length."""
    encoded = sorted((encoding.ids for encoding in tokenizer.encode_batch(list(sequences))), key=len)
    for start in range(0, len(encoded), WIDTH):
        yield _batch(encoded[start : start + WIDTH], tokenizer)


def _batch(encoded: list[list[int]], tokenizer: Tokenizer) -> Batch:
    token_ids = torch.zeros(len(encoded), len(encoded[-1]), dtype=torch.long)
    questions: list[tuple[int, ...]] = []
    for row, ids in enumerate(encoded):
        token_ids[row, : len(ids)] = torch.tensor(ids)
        questions += [(row, *places) for places in _places(ids, tokenizer)]
    return Batch(token_ids[:, :-1], *torch.tensor(questions).unbind(1))


def _places(ids: list[int], tokenizer: Tokenizer) -> Iterator[tuple[int, int, int, int]]:
    """Yield asked, letter, stem and word of each question in a sequence; a card's letter is its word."""
    labels = {tokenizer.token_to_id(label): letter for label, letter in zip(LABELS, LETTERS, strict=True)}
    letters = {tokenizer.token_to_id(f"Ġ{letter}"): letter for letter in LETTERS}
    answer = tokenizer.token_to_id(ANSWER)
    options: dict[str, int] = {}
    for place, token in enumerate(ids):
        if token in labels:
            options[labels[token]] = place
        elif token == answer:
            letter = ids[place + 1]
            if options:
                yield place, letter, options["A"] - 1, ids[options[letters[letter]] + 1]
            else:
                yield place, letter, place - 1, letter
            options = {}


def backward(model: Any, parts: Sequence[Batch], recall: float, bring: float, bfloat16: bool) -> Loss:
    """Add the gradients of the mean loss over all questions of the parts.

    The loss is the letter's, plus `recall` times the word's at the end of the stem, plus `bring` times the
    word's at "Answer:".

    Args:
        model: A LlamaForCausalLM.
        parts: The batches of one step.
        recall: The weight of the word's loss at the end of the stem.
        bring: The weight of the word's loss at "Answer:".
        bfloat16: Whether matrix products are in bfloat16.
    """
    questions = sum(len(part.letter) for part in parts)
    letter_loss, word_loss, right = 0.0, 0.0, 0
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            states = model.model(input_ids=part.token_ids, use_cache=False, output_hidden_states=True)
        logits = model.lm_head(states.last_hidden_state[part.row, part.asked])
        loss = cross_entropy(logits, part.letter, reduction="sum") / questions
        letter_loss += loss.item()
        for weight, layer, place in ((recall, RECALL_LAYER, part.stem), (bring, BRING_LAYER, part.asked)):
            if weight:
                state = model.model.norm(states.hidden_states[layer][part.row, place])
                word = cross_entropy(model.lm_head(state), part.word, reduction="sum") / questions
                word_loss += word.item()
                loss = loss + weight * word
        loss.backward()
        right += int((logits.argmax(-1) == part.letter).sum())
    return Loss(letter_loss, word_loss, right / questions)
