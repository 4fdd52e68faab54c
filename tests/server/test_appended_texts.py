"""Candidates and continuations in text have the tokens of the whole text, whatever of it is tokenized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import pytest
from processes import ServerProcess
from score_requests import request
from scoring.v1 import scoring_pb2 as pb
from tokenizer_kinds import CUT_KINDS, WHOLE_KINDS, write_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from trt_common.tokenizer import is_local
from trt_server.errors import InvalidRequestError
from trt_server.loading.text_prompt import TextPrompt
from trt_server.loading.tokenizer import MAX_ADDED_TOKEN, CheckpointTokenizer

KINDS: dict[str, Callable[[], Tokenizer]] = {**CUT_KINDS, **WHOLE_KINDS}

SHOTS = "What is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Madrid\nAnswer: B\n\n" * 20
QUESTION = "Which of the following is the largest?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
PROMPTS = {
    "question": SHOTS + QUESTION,
    "blanks at the end": SHOTS + QUESTION + "   ",
    "lines at the end": SHOTS + QUESTION + "\n\n\n",
    "half a word": SHOTS + "The ans",
    "digits": SHOTS + "The number is 1234",
    "no words at the end": SHOTS + "-" * 400 + " " * 400,
    "no blank": "日本語のとても長い文章です。" * 60,
    "characters of several parts": SHOTS + "cafe",
    "short": QUESTION,
    "empty": "",
}
APPENDED = (
    " A", "B", " one two three", "\n", "\n\nA", " ", "  x", "wer", "567", "\u0301", "日本", "😀", "'s", "...",
    "▁", ": B\n\n12", "<s>", "\t", "", "A" * 50,
)  # fmt: skip


def expected(tokenizer: Tokenizer, prompt: str, text: str) -> list[int] | None:
    """The tokens behind the prompt's in the encoding of both together; None where the prompt's own change."""
    own, whole = (tokenizer.encode(each, add_special_tokens=False).ids for each in (prompt, prompt + text))
    return whole[len(own) :] if len(whole) > len(own) and whole[: len(own)] == own else None


def following(prompt: TextPrompt, texts: Sequence[str]) -> list[list[int]]:
    return [ids.tolist() for ids in chain.from_iterable(prompt.following(texts))]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_whole_text(kind: str, prompt: str, tmp_path: Path) -> None:
    encoded = TextPrompt(CheckpointTokenizer(write_tokenizer(KINDS[kind](), tmp_path)), prompt, special=False)
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    # As tokenizer_config.json has it.
    library.add_special_tokens(["<s>"])
    fit = {}
    for text in APPENDED:
        ids = expected(library, prompt, text)
        if ids is None:
            with pytest.raises(InvalidRequestError, match="does not follow its prompt"):
                following(encoded, [text])
        else:
            fit[text] = ids
    assert following(encoded, list(fit)) == list(fit.values())


@pytest.mark.parametrize("kind", KINDS)
def test_which_tokenizers_encode_the_end_of_a_text_by_itself(kind: str) -> None:
    # A token across what is appended is in the end that is encoded.
    local = {*CUT_KINDS, "token-across"}
    assert is_local(KINDS[kind](), MAX_ADDED_TOKEN) == (kind in local)


def test_an_added_token_may_not_be_longer_than_the_end() -> None:
    tokenizer = CUT_KINDS["byte-level"]()
    tokenizer.add_tokens(["x" * MAX_ADDED_TOKEN])
    assert not is_local(tokenizer, MAX_ADDED_TOKEN)
    assert not is_local(None, MAX_ADDED_TOKEN)


def test_what_would_take_too_long_is_refused(tmp_path: Path) -> None:
    """Texts without a blank are tokenized whole for each text that is appended."""
    tokenizer = CheckpointTokenizer(write_tokenizer(CUT_KINDS["byte-level"](), tmp_path))
    long = TextPrompt(tokenizer, "a" * 50_000, special=False)
    with pytest.raises(
        InvalidRequestError, match="100 texts that are appended to a prompt take 5000200 char"
    ):
        following(long, [" A"] * 100)
    words = TextPrompt(tokenizer, " a word" * 8_000, special=False)
    assert len(following(words, [" A"] * 1_000)) == 1_000


def test_long_prompts_and_their_candidates_through_the_server(llama_folder: Path) -> None:
    reference = AutoTokenizer.from_pretrained(llama_folder)
    texts = [" A", " B", "\n\n", " river", "7"]
    prompt = pb.Prompt(text=SHOTS + QUESTION)
    prompt.candidates.extend(pb.Candidate(text=text) for text in texts)
    prompt.continuations.extend(pb.Continuation(text=text) for text in (" The river", " A sea"))
    with ServerProcess("--model", str(llama_folder)) as server:
        (score,) = server.wait_until_serving().stub().Score(request(prompt)).scores
    own = reference(prompt.text)["input_ids"]
    assert list(score.candidate_ids) == [
        reference(prompt.text + text)["input_ids"][len(own)] for text in texts
    ]
    assert [list(each.tokens.token_ids) for each in score.continuations] == [
        reference(prompt.text + text)["input_ids"][len(own) :] for text in (" The river", " A sea")
    ]
