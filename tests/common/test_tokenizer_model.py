"""tokenizer.model alone: sentencepiece's own ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece_files import TEXTS, write_sentencepiece
from trt_common.tokenizer import SAMPLE_TEXT, TokenizerError, load_tokenizer


def processor(folder: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_ids_are_those_of_sentencepiece(tmp_path: Path, kind: str) -> None:
    folder = write_sentencepiece(tmp_path, kind)
    texts = [*TEXTS, SAMPLE_TEXT, "", " x", "about  algebra", "a </s> b", "<mark>within<mark>"]
    own = processor(folder)
    encoder = load_tokenizer(folder)
    assert encoder.encode(texts) == [[own.bos_id(), *own.encode(text)] for text in texts]
    assert encoder.encode_rest(texts) == [own.encode(text) for text in texts]
    assert own.piece_to_id("<mark>") in encoder.encode(texts)[-1]


@pytest.mark.parametrize(
    ("fields", "first", "note"),
    [
        ({}, (1,), "Llama's tokenizers do so"),
        ({"add_bos_token": True}, (1,), None),
        ({"add_bos_token": False}, (), None),
        ({"add_bos_token": True, "bos_token": "<mark>"}, (3,), None),
        ({"add_bos_token": True, "add_eos_token": True}, (1,), "no EOS is put behind a text"),
    ],
)
def test_special_tokens_are_those_of_the_configuration(
    tmp_path: Path, fields: dict[str, Any], first: tuple[int, ...], note: str | None
) -> None:
    folder = write_sentencepiece(tmp_path, **fields)
    encoder = load_tokenizer(folder)
    assert encoder.encode([SAMPLE_TEXT]) == [[*first, *processor(folder).encode(SAMPLE_TEXT)]]
    assert len(encoder.notes) == (note is not None)
    assert (note or "") in "".join(encoder.notes)


def test_a_bos_that_is_not_a_piece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"the BOS '<begin>' .* is not in the vocabulary"):
        load_tokenizer(write_sentencepiece(tmp_path, bos_token="<begin>"))


def test_a_token_that_was_added_later_is_refused_in_a_text(tmp_path: Path) -> None:
    """What stands around it would not be sentencepiece's own any more."""
    folder = write_sentencepiece(tmp_path)
    (folder / "added_tokens.json").write_text(json.dumps({"<turn>": processor(folder).get_piece_size()}))
    encoder = load_tokenizer(folder)
    assert encoder.encode([SAMPLE_TEXT]) == [[1, *processor(folder).encode(SAMPLE_TEXT)]]
    with pytest.raises(TokenizerError, match="a text holds the added token '<turn>'"):
        encoder.encode([SAMPLE_TEXT, "one<turn>two"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Llama 3's own release has tiktoken's words under this name."""
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(TokenizerError, match=r"tokenizer.model is no SentencePiece model"):
        load_tokenizer(tmp_path)
    assert not capfd.readouterr().err
