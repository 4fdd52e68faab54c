"""The tokenizer's endpoints, as vLLM has them, against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from http_client import ask
from processes import ServerProcess
from sentencepiece_files import write_sentencepiece
from transformers import AutoTokenizer

TEXTS = ["The river's beach", "  naïve\n\n你好 😀", ""]


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(llama_folder)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(
    http_server: ServerProcess, tokenizer: Any, text: str, special: bool
) -> None:
    ids = tokenizer(text, add_special_tokens=special).input_ids
    reply = ask(http_server, "/tokenize", {"prompt": text, "add_special_tokens": special}).content
    assert reply == {"count": len(ids), "max_model_len": 2048, "tokens": ids, "token_strs": None}
    assert ask(http_server, "/detokenize", {"tokens": ids}).content == {"prompt": tokenizer.decode(ids)}


def test_special_tokens_are_first_by_default_and_texts_are_told(http_server: ServerProcess) -> None:
    reply = ask(http_server, "/tokenize", {"prompt": "A", "return_token_strs": True}).content
    assert reply["token_strs"] == ["<s>", "A"]


def test_settings_are_those_of_the_checkpoint(http_server: ServerProcess, llama_folder: Path) -> None:
    settings = ask(http_server, "/tokenizer_info").content
    written = json.loads((llama_folder / "tokenizer_config.json").read_text())
    assert settings.items() >= written.items()
    assert (settings["bos_token"], settings["eos_token"]) == ("<s>", "</s>")
    assert settings["tokenizer_class"] == written["tokenizer_class"]


def test_settings_that_lie_in_other_files(tmp_path: Path) -> None:
    """Special tokens as objects, a chat's template beside them, and an end that only config.json names."""
    folder = write_checkpoint(tmp_path, "llama")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<s>", "special": True}})
    )
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with ServerProcess("--model", str(folder), "--http-port", "0") as server:
        settings = ask(server.wait_until_serving(), "/tokenizer_info").content
    assert (settings["bos_token"], settings["eos_token"]) == ("<s>", "</s>")
    assert settings["chat_template"] == "{{ messages }}"
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_special_token_by_its_text_where_sentencepiece_would_split_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "llama", tokenizer=False)
    write_sentencepiece(folder, eos_token="</s>")
    with ServerProcess("--model", str(folder), "--http-port", "0") as server:
        server.wait_until_serving()
        asked = {"prompt": "</s>", "add_special_tokens": False}
        assert ask(server, "/tokenize", asked).content["tokens"] == [2]
        ids = ask(server, "/tokenize", {"prompt": "about  algebra 😀"}).content["tokens"]
        assert ids[0] == 1
        assert ask(server, "/detokenize", {"tokens": ids[1:]}).content == {"prompt": "about  algebra 😀"}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, None),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_special": True}, "add_special"),
        ("/detokenize", {"tokens": ["a"]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ],
)
def test_a_wrong_field_is_refused(
    http_server: ServerProcess, path: str, fields: dict[str, Any], param: str | None
) -> None:
    reply = ask(http_server, path, fields)
    assert (reply.status, reply.error["param"]) == (400, param)
