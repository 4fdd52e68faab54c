"""tokenizer.json: its ids are those of the library it is written for, and of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer_kinds import CUT_KINDS, KINDS, TEXTS, WHOLE_KINDS, byte_level, write_tokenizer
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoTokenizer
from trt_common.tokenizer import SAMPLE_TEXT, TokenizerError, load_tokenizer

LONG = [*TEXTS, SAMPLE_TEXT, "", " two  blanks", "a <s> within"]


def settings(folder: Path, **fields: Any) -> Path:
    """Set fields of tokenizer_config.json; None takes a field out."""
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))
    return folder


ALL_KINDS = KINDS | CUT_KINDS | WHOLE_KINDS


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_ids_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = write_tokenizer(ALL_KINDS[kind](), tmp_path)
    encoder, reference = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert encoder.encode(LONG) == [reference.encode(text) for text in LONG]
    assert encoder.encode_rest(LONG) == [reference.encode(text, add_special_tokens=False) for text in LONG]


def without_template() -> Tokenizer:
    """As DeepSeek's: nothing in tokenizer.json puts a BOS."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


LLAMA, PLAIN = "LlamaTokenizerFast", "PreTrainedTokenizerFast"
FIRST = "is put first: "


@pytest.mark.parametrize(
    ("template", "fields", "has_bos", "note"),
    [
        # DeepSeek's; transformers 4.57 puts it, 5 does not.
        (False, {"tokenizer_class": LLAMA, "add_bos_token": True}, True, "BOS <s> (id 0) " + FIRST),
        (False, {"tokenizer_class": LLAMA}, True, "Llama's tokenizers do so"),
        (False, {"tokenizer_class": "LlamaTokenizer"}, True, "Llama's tokenizers do so"),
        (False, {"tokenizer_class": PLAIN, "add_bos_token": True}, True, "BOS <s> (id 0) " + FIRST),
        # Yi's: no BOS, whatever a template says.
        (True, {"tokenizer_class": LLAMA, "add_bos_token": False}, False, "no BOS " + FIRST),
        (False, {"tokenizer_class": LLAMA, "add_bos_token": False}, False, None),
        # Llama 3's, and Llama 2's.
        (True, {"tokenizer_class": PLAIN}, True, None),
        (True, {"tokenizer_class": LLAMA, "add_bos_token": True}, True, None),
        # Qwen's.
        (
            False,
            {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "bos_token": None},
            False,
            None,
        ),
        # What transformers 5 saves: tokenizer.json says all of it.
        (True, {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}, True, None),
        (False, {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}, False, None),
        (False, {"tokenizer_class": "LlamaTokenizer", "backend": "tokenizers"}, False, None),
        # Nothing said at all.
        (False, {"tokenizer_class": None, "bos_token": None}, False, None),
        (
            False,
            {"tokenizer_class": PLAIN, "add_bos_token": True, "bos_token": None},
            False,
            "names no bos_token",
        ),
    ],
)
def test_the_files_decide_about_a_bos(
    tmp_path: Path, template: bool, fields: dict[str, Any], has_bos: bool, note: str | None
) -> None:
    tokenizer = byte_level() if template else without_template()
    folder = settings(write_tokenizer(tokenizer, tmp_path), **fields)
    encoder = load_tokenizer(folder)
    plain = tokenizer.encode(SAMPLE_TEXT, add_special_tokens=False).ids
    assert encoder.encode([SAMPLE_TEXT]) == [[*([0] if has_bos else []), *plain]]
    assert encoder.first == ((0,) if has_bos else ())
    assert len(encoder.notes) == (note is not None)
    assert (note or "") in "".join(encoder.notes)


def test_a_bos_may_be_named_in_the_older_file(tmp_path: Path) -> None:
    folder = settings(write_tokenizer(without_template(), tmp_path), add_bos_token=True, bos_token=None)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "<s>", "lstrip": False}})
    )
    assert load_tokenizer(folder).first == (0,)


@pytest.mark.parametrize("tokenizer", [byte_level, without_template])
def test_a_bos_that_is_not_in_the_vocabulary_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    folder = settings(write_tokenizer(tokenizer(), tmp_path), add_bos_token=True, bos_token="<begin>")
    with pytest.raises(
        TokenizerError, match="the BOS '<begin>' that is to be put before every text is not in the voc"
    ):
        load_tokenizer(folder)


def test_no_eos_is_put_behind_a_prompt(tmp_path: Path) -> None:
    """By a template, and by add_eos_token: what follows the text is scored."""
    tokenizer = byte_level()
    (plain,) = load_tokenizer(write_tokenizer(tokenizer, tmp_path / "plain")).encode([SAMPLE_TEXT])
    asked = settings(write_tokenizer(tokenizer, tmp_path / "asked"), add_eos_token=True, eos_token="<s>")
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A <s>", special_tokens=[bos])
    for folder in (asked, write_tokenizer(tokenizer, tmp_path / "template")):
        encoder = load_tokenizer(folder)
        assert encoder.encode([SAMPLE_TEXT]) == [plain]
        assert "no EOS is put behind a text" in "".join(encoder.notes)


def test_what_a_file_asks_for_in_training_is_not_done(tmp_path: Path) -> None:
    tokenizer = byte_level()
    expected = [tokenizer.encode(text).ids for text in TEXTS]
    tokenizer.model.dropout = 0.5
    tokenizer.enable_truncation(10)
    tokenizer.enable_padding()
    encoder = load_tokenizer(write_tokenizer(tokenizer, tmp_path))
    assert encoder.encode(TEXTS) == expected


def added(content: str, **flags: bool) -> dict[str, Any]:
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **whole, **flags}


def test_tokens_that_only_the_configuration_adds(tmp_path: Path) -> None:
    """Under the ids that it gives, with the flags that it gives, as transformers takes them."""
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    decoder = {
        str(size): added("<turn>"),
        str(size + 1): added("<pad>", lstrip=True),
        "0": added("<s>", rstrip=True),
    }
    folder = settings(write_tokenizer(tokenizer, tmp_path), added_tokens_decoder=decoder)
    text = "one<turn>two  <pad> three <s>  four"
    encoder = load_tokenizer(folder)
    assert encoder.encode([text]) == [AutoTokenizer.from_pretrained(folder).encode(text)]
    assert {size, size + 1} < set(encoder.encode([text])[0])


def test_a_special_token_that_is_only_named_is_found_in_a_text(tmp_path: Path) -> None:
    """It is in the vocabulary, and tokenizer.json does not list it as added."""
    folder = write_tokenizer(byte_level(), tmp_path)
    saved = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**saved, "added_tokens": []}))
    settings(folder, pad_token="<nowhere>")
    text = "one<s>two"
    ids = load_tokenizer(folder).encode([text])
    assert ids == [AutoTokenizer.from_pretrained(folder).encode(text)]
    assert ids[0].count(0) == 2


def test_added_tokens_in_the_older_file(tmp_path: Path) -> None:
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    folder = write_tokenizer(tokenizer, tmp_path)
    (folder / "added_tokens.json").write_text(json.dumps({"<turn>": size}))
    assert size in load_tokenizer(folder).encode(["one<turn>two"])[0]


def test_an_added_token_with_two_ids_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<turn>", special=True)])
    folder = settings(write_tokenizer(tokenizer, tmp_path), added_tokens_decoder={"7": added("<turn>")})
    with pytest.raises(
        TokenizerError, match=f"'<turn>' has the id 7 in .* and {tokenizer.token_to_id('<turn>')} by"
    ):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json does not load: "),
        ("tokenizer_config.json", "{", "tokenizer_config.json is no JSON: "),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is no JSON object"),
        (
            "tokenizer_config.json",
            '{"add_bos_token": "yes"}',
            "add_bos_token is 'yes', neither true nor false",
        ),
        ("tokenizer_config.json", '{"bos_token": 1}', "bos_token in tokenizer_config.json or .* is no token"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "added_tokens_decoder is no object"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"x": "y"}}',
            "an added token's id .* is no number",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (write_tokenizer(byte_level(), tmp_path) / name).write_text(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)
