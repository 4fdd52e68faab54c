"""The text of each token of a row, with every library that reads a vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_tokenizer
from sentencepiece_files import write_sentencepiece
from tokenizers import Tokenizer, decoders
from transformers import AutoTokenizer
from trt_common.tokenizer import TextEncoder, load_tokenizer

TEXTS = [
    "The river's beach is made of sand.",
    "  two blanks,\n\n\tand a tab",
    "naïve – 你好, 😀😀 e\u0301!",
    "a\ufffdb",
    "ends in \ufffd",
    "你",
]


def byte_level(folder: Path) -> Path:
    """Llama 3's and Qwen's kind."""
    write_tokenizer(folder)
    return folder


def byte_fallback(folder: Path) -> Path:
    """Llama 2's kind, as a tokenizer.json: of a word's blank, and bytes where a character is unknown."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁The",
        "▁river",
        *"abr",
    ]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": place, "content": pieces[place], "special": True, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False}
            for place in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
            "vocab": {piece: place for place, piece in enumerate(pieces)}, "merges": [],
        },
    }  # fmt: skip
    library = Tokenizer.from_str(json.dumps(tokenizer))
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "byte level": byte_level,
    "byte fallback": byte_fallback,
    "sentencepiece": write_sentencepiece,
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> TextEncoder:
    return load_tokenizer(request.param(tmp_path))


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_tokens_are_the_text_one_after_the_other(encoder: TextEncoder, text: str) -> None:
    (ids,) = encoder.encode_rest([text])
    found = encoder.decoder.texts(ids)
    assert found.text == encoder.decoder.text(ids) == text
    assert len(found.texts) == len(ids) == len(found.places) - 1


def test_a_character_is_the_text_of_its_last_token(encoder: TextEncoder) -> None:
    (ids,) = encoder.encode_rest(["a😀b"])
    assert [text for text in encoder.decoder.texts(ids).texts if text] == ["a", "😀", "b"]
    assert len(ids) >= 6


def test_special_tokens_are_shown(encoder: TextEncoder) -> None:
    (ids,) = encoder.encode(["a b"])
    assert len(encoder.first) == 1
    assert encoder.first[0] in encoder.decoder.special_ids
    assert encoder.decoder.texts(ids).texts[0] == "<s>"
    assert encoder.decoder.text(ids).removeprefix("<s>").lstrip() == "a b"


def test_bytes_that_never_become_a_character_stay_with_their_last_token(encoder: TextEncoder) -> None:
    (smile,), (letter,) = encoder.encode_rest(["😀"]), encoder.encode_rest(["bb"])
    head, b = smile[-4], letter[-1]
    assert encoder.decoder.texts([b, head, b]).texts == ["b", "\ufffd", "b"]
    assert encoder.decoder.texts([b, head, smile[-3]]).texts[:2] == ["b", ""]
    assert encoder.decoder.texts([b, smile[-1], b]).texts == ["b", "\ufffd", "b"]
    broken = encoder.decoder.texts([*[smile[-1]] * 20, b])
    assert set(broken.text) == {"\ufffd", "b"}
    assert broken.texts[-1] == "b"


def test_another_token_may_follow_where_a_character_goes_on(encoder: TextEncoder) -> None:
    decoder = encoder.decoder
    (smile,), (letter,) = encoder.encode_rest(["😀"]), encoder.encode_rest(["bb"])
    places = decoder.texts(smile).places
    assert decoder.next_text(places[-2], smile[-1]) == "😀"
    assert decoder.next_text(places[-2], letter[-1]) == "b"
    assert decoder.next_text(places[-3], smile[-2]) == ""


def test_an_id_beyond_the_vocabulary_has_no_text(encoder: TextEncoder) -> None:
    (letter,) = encoder.encode_rest(["bb"])
    assert encoder.decoder.texts([letter[-1], 5000]).texts == ["b", ""]


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_row_is_decoded_as_transformers_decodes_it(tmp_path: Path, kind: str) -> None:
    folder = KINDS[kind](tmp_path)
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    decoder = load_tokenizer(folder).decoder
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert decoder.texts(ids).text == theirs.decode(ids, clean_up_tokenization_spaces=False)


def test_a_tokenizer_that_only_transformers_reads(tmp_path: Path) -> None:
    """A tokenizer whose files are vocab.json and merges.txt."""
    bpe = json.loads((byte_level(tmp_path) / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps({**bpe["vocab"], "<|endoftext|>": len(bpe["vocab"])}))
    merges = [each if isinstance(each, str) else " ".join(each) for each in bpe["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    encoder = load_tokenizer(tmp_path)
    for text in TEXTS:
        (ids,) = encoder.encode_rest([text])
        assert encoder.decoder.texts(ids).text == text
