"""/v1/completions over plain HTTP: every field of its reply against transformers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import EOS, reference_model, write_checkpoint
from http_client import ask, choice, complete
from processes import ServerProcess
from transformers import AutoTokenizer

TEXT = "The river's beach – naïve 你好 😀 is"
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(llama_folder)


def logprobs_of(folder: Path, ids: Sequence[int]) -> torch.Tensor:
    """float32 [tokens, vocabulary]: what transformers says of the token after each."""
    return reference_model(folder)(torch.tensor([list(ids)])).logits[0].log_softmax(-1)


def ids_of(length: int, seed: int = 0) -> list[int]:
    return [(7 * seed + 3 * place + place * place) % 500 for place in range(length)]


def test_an_echoed_text_has_the_log_probability_of_each_token(
    http_server: ServerProcess, llama_folder: Path, tokenizer: Any
) -> None:
    ids = tokenizer(TEXT).input_ids
    reference = logprobs_of(llama_folder, ids)
    next_token = int(reference[-1].argmax())
    found = choice(http_server, prompt=TEXT, echo=True, logprobs=3, return_tokens_as_token_ids=True)
    told = found["logprobs"]
    assert told["tokens"] == [f"token_id:{token_id}" for token_id in [*ids, next_token]]
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    expected = [float(reference[place, token]) for place, token in enumerate([*ids[1:], next_token])]
    assert told["token_logprobs"][1:] == pytest.approx(expected, abs=TOLERANCE)
    for place, token in enumerate([*ids[1:], next_token]):
        likeliest = reference[place].topk(3)
        by_id = dict(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
        by_id[token] = float(reference[place, token])
        top = told["top_logprobs"][place + 1]
        assert top == pytest.approx({f"token_id:{key}": value for key, value in by_id.items()}, abs=TOLERANCE)
        # A reader compares them for equality to see whether the token was the likeliest.
        assert top[f"token_id:{token}"] == told["token_logprobs"][place + 1]
    assert found["finish_reason"] == "length"
    assert found["index"] == 0


def test_texts_of_tokens_are_the_text_and_offsets_point_into_it(
    http_server: ServerProcess, tokenizer: Any
) -> None:
    ids = tokenizer(TEXT).input_ids
    found = choice(http_server, prompt=TEXT, echo=True, logprobs=1)
    told = found["logprobs"]
    assert found["text"].startswith(TEXT)
    assert told["tokens"][0] == "<s>"
    assert "".join(told["tokens"][1:]) == found["text"]
    assert len(told["tokens"]) == len(told["text_offset"]) == len(ids) + 1
    for token, offset in zip(told["tokens"][1:], told["text_offset"][1:], strict=True):
        assert found["text"][offset:].startswith(token)
    # The bytes of this character are tokens of their own.
    assert "😀" in told["tokens"]
    assert "" in told["tokens"]
    for token, top in zip(told["tokens"][1:], told["top_logprobs"][1:], strict=True):
        assert token in top


def test_ids_are_scored_as_they_are(http_server: ServerProcess, llama_folder: Path, tokenizer: Any) -> None:
    ids = [0, *ids_of(20)]
    found = choice(http_server, prompt=ids, max_tokens=0, echo=True, logprobs=0, return_token_ids=True)
    assert found["text"] == tokenizer.decode(ids) == "".join(found["logprobs"]["tokens"])
    assert found["text"].startswith("<s>")
    assert found["prompt_token_ids"] == ids
    assert found["token_ids"] == []
    reference = logprobs_of(llama_folder, ids)
    expected = [float(reference[place, token]) for place, token in enumerate(ids[1:])]
    assert found["logprobs"]["token_logprobs"][1:] == pytest.approx(expected, abs=TOLERANCE)
    assert [len(top) for top in found["logprobs"]["top_logprobs"][1:]] == [1] * 20


def test_the_next_token_alone(http_server: ServerProcess, llama_folder: Path, tokenizer: Any) -> None:
    ids = ids_of(9)
    reference = logprobs_of(llama_folder, ids)[-1]
    likeliest = reference.topk(20)
    found = choice(http_server, prompt=ids, logprobs=20, return_token_ids=True)
    assert found["token_ids"] == [int(likeliest.indices[0])]
    assert found["text"] == tokenizer.decode(found["token_ids"])
    assert found["logprobs"]["tokens"] == [found["text"]]
    assert found["logprobs"]["text_offset"] == [0]
    (top,) = found["logprobs"]["top_logprobs"]
    expected: dict[str, float] = {}
    for token, value in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True):
        text = tokenizer.decode([token])
        text = "" if text.endswith("\ufffd") else text
        expected.setdefault(text, value)
    assert top == pytest.approx(expected, abs=TOLERANCE)
    assert choice(http_server, prompt=ids)["logprobs"] is None


def test_chosen_tokens_have_their_log_probabilities(http_server: ServerProcess, llama_folder: Path) -> None:
    ids, chosen = ids_of(30), [3, 77, 3, 511]
    reference = logprobs_of(llama_folder, ids)[-1]
    options = {"logprobs": 0, "logprob_token_ids": chosen, "return_tokens_as_token_ids": True}
    (top,) = choice(http_server, prompt=ids, **options)["logprobs"]["top_logprobs"]
    expected = {f"token_id:{token}": float(reference[token]) for token in [int(reference.argmax()), *chosen]}
    assert top == pytest.approx(expected, abs=TOLERANCE)
    echoed = choice(http_server, prompt=ids, echo=True, **options | {"logprobs": 2})["logprobs"]
    assert echoed["top_logprobs"][-1] == pytest.approx(expected, abs=TOLERANCE)
    assert {len(each) for each in echoed["top_logprobs"][1:-1]} <= {2, 3}


def test_prompt_logprobs_are_by_id_with_their_ranks(
    http_server: ServerProcess, llama_folder: Path, tokenizer: Any
) -> None:
    ids = ids_of(12)
    reference = logprobs_of(llama_folder, ids)
    found = choice(http_server, prompt=ids, prompt_logprobs=2, logprobs=1)
    assert len(found["logprobs"]["tokens"]) == 1
    first, *rest = found["prompt_logprobs"]
    assert first is None
    for place, told in enumerate(rest):
        token, order = ids[place + 1], reference[place].argsort(descending=True).tolist()
        assert told.keys() == {str(token), *map(str, order[:2])}
        for key, each in told.items():
            rank = order.index(int(key)) + 1
            assert each["logprob"] == pytest.approx(float(reference[place, int(key)]), abs=TOLERANCE)
            assert each["rank"] == (rank if rank <= 2 else None)
            if not (text := tokenizer.decode([int(key)])).endswith("\ufffd"):
                assert each["decoded_token"] == text


def test_a_list_has_a_choice_for_each_prompt(
    http_server: ServerProcess, llama_folder: Path, tokenizer: Any
) -> None:
    """More of them than go into a batch of this server."""
    prompts = [ids_of(5 + seed, seed) for seed in range(10)]
    reply = complete(http_server, prompt=prompts, logprobs=1, return_tokens_as_token_ids=True)
    assert [each["index"] for each in reply["choices"]] == list(range(10))
    for prompt, each in zip(prompts, reply["choices"], strict=True):
        reference = logprobs_of(llama_folder, prompt)[-1]
        assert each["logprobs"]["tokens"] == [f"token_id:{int(reference.argmax())}"]
        assert each["logprobs"]["token_logprobs"] == pytest.approx([float(reference.max())], abs=TOLERANCE)
    tokens = sum(map(len, prompts))
    assert reply["usage"] == {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": tokens + 10}
    assert [each["prompts"] for each in reply["timings"]] == [4, 4, 2]
    texts = complete(http_server, prompt=["a", TEXT], max_tokens=0, echo=True)
    assert [each["text"] for each in texts["choices"]] == ["a", TEXT]
    assert texts["usage"]["prompt_tokens"] == sum(map(len, tokenizer(["a", TEXT]).input_ids))
    assert texts["usage"]["completion_tokens"] == 0


def test_a_text_may_go_without_its_bos(http_server: ServerProcess, tokenizer: Any) -> None:
    with_bos, without = (
        choice(http_server, prompt=TEXT, add_special_tokens=special, return_token_ids=True)
        for special in (True, False)
    )
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    assert without["prompt_token_ids"] == ids
    assert with_bos["prompt_token_ids"] == [0, *ids]
    echoed = choice(http_server, prompt=TEXT, add_special_tokens=False, echo=True, logprobs=0)
    assert "".join(echoed["logprobs"]["tokens"]) == echoed["text"]


def test_the_reply_names_itself_and_tells_its_times(http_server: ServerProcess) -> None:
    reply = complete(http_server, prompt=ids_of(40), request_id="mine", seed=1, top_p=0.5, user="x")
    assert (reply["id"], reply["object"]) == ("cmpl-mine", "text_completion")
    assert reply["model"] == ask(http_server, "/v1/models").content["data"][0]["id"]
    (timings,) = reply["timings"]
    assert timings["prompts"] == timings["scored_positions"] == 1
    assert timings["computed_tokens"] == 40
    stages = ("tokenize_ns", "queue_ns", "assemble_ns", "copy_in_ns", "core_ns", "copy_out_ns")
    assert 0 < timings["core_ns"] < sum(timings[name] for name in stages) <= timings["total_ns"]
    assert timings["flops"] > 0


def test_many_callers_at_once_get_their_own(http_server: ServerProcess, llama_folder: Path) -> None:
    prompts = [ids_of(3 + seed % 17, seed) for seed in range(48)]

    def scored(prompt: list[int]) -> list[float]:
        found = choice(http_server, prompt=prompt, max_tokens=0, echo=True, logprobs=0)
        return list(found["logprobs"]["token_logprobs"][1:])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(scored, prompts))
    for prompt, answer in zip(prompts, answers, strict=True):
        reference = logprobs_of(llama_folder, prompt)
        expected = [float(reference[place, token]) for place, token in enumerate(prompt[1:])]
        assert answer == pytest.approx(expected, abs=TOLERANCE)


def test_requests_are_counted_with_those_of_grpc(http_server: ServerProcess) -> None:
    before = http_server.metrics()
    complete(http_server, prompt=[ids_of(6)] * 3)
    ask(http_server, "/v1/completions", {"prompt": [600], "max_tokens": 1, "temperature": 0})
    after = http_server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("trt_server_requests_total{OK}") == 1
    assert grown("trt_server_requests_total{INVALID_ARGUMENT}") == 1


def test_the_end_of_a_text_is_told_and_not_shown(tmp_path: Path) -> None:
    """A checkpoint whose likeliest token is always the end."""
    folder = write_checkpoint(tmp_path, "qwen2", tie_word_embeddings=False)
    model = reference_model(folder)
    ids = ids_of(8)
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        weight[1] = 10 * hidden / hidden.norm()
    model.save_pretrained(folder)
    with ServerProcess("--model", str(folder), "--http-port", "0") as server:
        server.wait_until_serving()
        hidden_end = choice(server, prompt=ids, logprobs=0)
        shown = choice(server, prompt=ids, logprobs=0, skip_special_tokens=False)
    assert (hidden_end["text"], hidden_end["finish_reason"]) == ("", "stop")
    assert (shown["text"], shown["finish_reason"]) == (EOS, "stop")
    assert hidden_end["logprobs"]["tokens"] == [EOS]
