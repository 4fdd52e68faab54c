"""Messages that no caller would write: legal but odd ones, hostile ones, and bytes changed at random.

Each follows from a seed and its number alone, so that one that broke something can be had again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from scoring.v1 import scoring_pb2 as pb

T = TypeVar("T")

VOCABULARY = 512
LARGEST = 2**32 - 1
# Of long ones there are few: a campaign is to send many messages, not to wait for the engine.
LENGTHS = (1, 1, 2, 3, 3, 5, 8, 17, 17, 40, 40, 64, 300)
TEXTS = (
    "", " ", "\n", "A", " A", "Answer: A", "\0", "\x1b[2J", "é", "e\u0301", "\U0001f642", "\u202e", "\ufeff",
    "<s>", "</s>", "<|endoftext|>", "%s%n", "../../etc/passwd", "x" * 400, " " * 300, "a b " * 60, "\u2028",
)  # fmt: skip
PLACES = (0, 0, 0, 1, 2, 5, LARGEST)
PATHS = ("/v1/completions", "/v1/completions", "/v1/completions", "/tokenize", "/detokenize", "/v1/models")
# Of all messages: so many are legal, and an engine computes them; the bytes of so many are changed.
LEGAL, CHANGED = 0.4, 0.35
MOST_PROMPTS, MOST_TOP_TOKENS, MOST_CONTINUATIONS, MOST_CONTINUED, MOST_PIECES = 8, 20, 20, 9, 4
# Fields that this contract does not have, and an empty id: a later one of a kind counts.
UNKNOWN_FIELDS = (b"", b"", b"\x98\x06\x01", b"\x9a\x06\x03abc", b"\x9d\x06\0\0\0\0")


def mutated_request(seed: int, number: int) -> bytes:
    """A ScoreRequest, or what was one before its bytes were changed."""
    rng = random.Random(f"{seed} message {number}")
    kind = rng.random()
    if kind < LEGAL:
        content: bytes = odd_request(rng).SerializeToString()
        return content + rng.choice(UNKNOWN_FIELDS)
    content = hostile_request(rng).SerializeToString()
    return mutated(rng, content) if kind < LEGAL + CHANGED else content


def mutated_body(seed: int, number: int) -> tuple[str, bytes]:
    """A path of the HTTP port, and a body that is JSON or was some."""
    rng = random.Random(f"{seed} body {number}")
    kind = rng.random()
    if kind < LEGAL:
        return odd_body(rng)
    path = rng.choice(PATHS)
    fields: dict[str, Any] = {"tokens" if path == "/detokenize" else "prompt": _json_prompt(rng)}
    if path == "/v1/completions":
        fields["max_tokens"] = _mostly(rng, 1, (0, 2, -1, 2**70))
        fields["temperature"] = _mostly(rng, 0, (1, -1, float("nan")))
        fields["logprobs"] = _mostly(rng, 1, (0, 20, 21, 2**70))
    if rng.random() < 0.1:
        fields[rng.choice(TEXTS)] = rng.choice((None, [], {}, [[[[]]]], "x"))
    content = json.dumps(fields).encode()
    return path, mutated(rng, content) if kind < LEGAL + CHANGED else content


def odd_request(rng: random.Random) -> pb.ScoreRequest:
    """A request that is to be answered, as far from the usual ones as the contract allows."""
    return pb.ScoreRequest(
        id=_mostly(
            rng, "r", ("", "x" * 256, "\u00e9" * 128, "\0", "\x1b[2J", "\u202e", "../..", "\U0001f642" * 64)
        ),
        prompts=[_odd_prompt(rng) for _ in range(_mostly(rng, 1, (2, 3, MOST_PROMPTS)))],
        allow_prefix_reuse=rng.random() < 0.3,
    )


def largest_requests() -> list[bytes]:
    """Requests that take as much of an engine's memory as any that are to be answered."""
    rng = random.Random("largest")
    whole = pb.Prompt(
        text="A" + MOST_PIECES * max(TEXTS, key=len), all_tokens=True, top_tokens=MOST_TOP_TOKENS
    )
    start = _any_ids(rng, max(LENGTHS))
    continued = pb.Prompt(
        token_ids=pb.TokenIds(ids=start),
        continuations=[
            pb.Continuation(token_ids=pb.TokenIds(ids=_any_ids(rng, MOST_CONTINUED)))
            for _ in range(MOST_CONTINUATIONS)
        ],
        top_tokens=MOST_TOP_TOKENS,
        shared_prefix_tokens=len(start),
    )
    kinds = ((whole, False), (continued, False), (continued, True))
    return [
        pb.ScoreRequest(id="r", prompts=[prompt] * MOST_PROMPTS, allow_prefix_reuse=reuse).SerializeToString()
        for prompt, reuse in kinds
    ]


def odd_body(rng: random.Random) -> tuple[str, bytes]:
    """A path of the HTTP port, and a body that is to be answered."""
    path = rng.choice(("/v1/completions", "/v1/completions", "/tokenize", "/detokenize"))
    if path == "/detokenize":
        fields: dict[str, Any] = {"tokens": _odd_ids(rng)}
    elif path == "/tokenize":
        fields = {"prompt": _odd_text(rng)}
    else:
        prompts = (_odd_text(rng), _odd_ids(rng), [_odd_ids(rng), _odd_ids(rng)], [_odd_text(rng), "A"])
        fields = {"max_tokens": 1, "temperature": 0, "logprobs": _mostly(rng, 1, (0, 2, 5))}
        fields["prompt"] = rng.choice(prompts)
    return path, json.dumps(fields, ensure_ascii=rng.random() < 0.5).encode()


def hostile_request(rng: random.Random) -> pb.ScoreRequest:
    """A request that can be decoded; most have something that is to be refused."""
    engine: Any = _mostly(rng, 0, (1, 2, 7))
    return pb.ScoreRequest(
        id=_mostly(rng, "r", ("", "x" * 256, "x" * 257, "é" * 200, rng.choice(TEXTS))),
        prompts=[_prompt(rng) for _ in range(_mostly(rng, 1, (0, 2, 3, 8, 33)))],
        engine=engine,
        allow_prefix_reuse=rng.random() < 0.3,
    )


def mutated(rng: random.Random, content: bytes) -> bytes:
    """The same bytes, after one to four changes."""
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(CHANGES)(rng, content)
    return content


def _mostly(rng: random.Random, usual: T, others: Sequence[T]) -> T:
    return usual if rng.random() < 0.8 else rng.choice(others)


def _prompt(rng: random.Random) -> pb.Prompt:
    prompt = pb.Prompt(
        candidates=[_candidate(rng) for _ in range(_mostly(rng, 4, (0, 1, 40)))],
        continuations=[_continuation(rng) for _ in range(_mostly(rng, 0, (1, 3)))],
        shared_prefix_tokens=_mostly(rng, 0, PLACES),
        top_tokens=_mostly(rng, 0, (1, 20, 21, LARGEST)),
        omit_special_tokens=rng.random() < 0.2,
    )
    if rng.random() < 0.7:
        prompt.token_ids.ids.extend(_ids(rng))
    elif rng.random() < 0.95:
        prompt.text = _text(rng)
    own = rng.random()
    if own < 0.1:
        prompt.last_tokens = rng.choice(PLACES)
    elif own < 0.2:
        prompt.all_tokens = rng.random() < 0.9
    return prompt


def _odd_prompt(rng: random.Random) -> pb.Prompt:
    prompt = pb.Prompt(
        candidates=[
            pb.Candidate(token_id=token) for token in _odd_ids(rng, _mostly(rng, 4, (1, 2, 40, 300)))
        ],
        top_tokens=_mostly(rng, 0, (1, 2, MOST_TOP_TOKENS)),
        omit_special_tokens=rng.random() < 0.2,
    )
    if rng.random() < 0.2:
        prompt.text = _odd_text(rng)
        if rng.random() < 0.3:
            prompt.all_tokens = rng.random() < 0.9
        return prompt
    ids = _odd_ids(rng)
    prompt.token_ids.ids.extend(ids)
    prompt.shared_prefix_tokens = _mostly(rng, 0, (len(ids), rng.randint(0, len(ids))))
    for _ in range(_mostly(rng, 0, (1, 3, MOST_CONTINUATIONS))):
        ids = _odd_ids(rng, rng.randint(1, MOST_CONTINUED))
        prompt.continuations.add(token_ids=pb.TokenIds(ids=ids))
    own = rng.random()
    if own < 0.1:
        prompt.last_tokens = rng.randrange(len(ids))
    elif own < 0.2:
        prompt.all_tokens = rng.random() < 0.9
    # Nothing of candidates, where something else is asked for.
    if rng.random() < 0.1 and (prompt.continuations or prompt.top_tokens):
        del prompt.candidates[:]
    return prompt


def _odd_ids(rng: random.Random, count: int = 0) -> list[int]:
    """All the same, the least and the largest, or any."""
    count = count or rng.choice(LENGTHS)
    kind = rng.random()
    if kind < 0.1:
        return [rng.choice((0, VOCABULARY - 1))] * count
    if kind < 0.2:
        return [rng.choice((0, VOCABULARY - 1)) for _ in range(count)]
    return _any_ids(rng, count)


def _any_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(VOCABULARY) for _ in range(count)]


def _odd_text(rng: random.Random) -> str:
    return "A" + _text(rng)


def _ids(rng: random.Random) -> list[int]:
    ids = _any_ids(rng, rng.choice(LENGTHS))
    if rng.random() < 0.05:
        ids[rng.randrange(len(ids))] = rng.choice((VOCABULARY, 2**31, LARGEST))
    return ids if rng.random() < 0.97 else []


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(TEXTS) for _ in range(rng.randint(1, MOST_PIECES)))


def _candidate(rng: random.Random) -> pb.Candidate:
    if rng.random() < 0.97:
        return pb.Candidate(token_id=_mostly(rng, 10, (11, VOCABULARY - 1, rng.randrange(VOCABULARY + 2))))
    return pb.Candidate(text=_text(rng)) if rng.random() < 0.9 else pb.Candidate()


def _continuation(rng: random.Random) -> pb.Continuation:
    if rng.random() < 0.7:
        return pb.Continuation(token_ids=pb.TokenIds(ids=_ids(rng)))
    return pb.Continuation(text=_text(rng)) if rng.random() < 0.9 else pb.Continuation()


def _json_prompt(rng: random.Random) -> Any:
    return rng.choice((
        _text(rng), _ids(rng), [_ids(rng), _ids(rng)], [_text(rng), _text(rng)],
        [], [[]], None, {}, [1.5], [-1], [2**70], [True], ["\ud800"], _text(rng) * 50,
    ))  # fmt: skip


def _flip(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + content[end:]


def _truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randint(0, len(content))]


def _insert(rng: random.Random, content: bytes) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + rng.randbytes(rng.choice((1, 2, 5, 50))) + content[place:]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:end] + content[start:end] * rng.choice((1, 2, 10)) + content[end:]


def _another_number(rng: random.Random, content: bytes) -> bytes:
    """A length, a field's number or a value of its own, where something else was."""
    number: bytes = _VarintBytes(rng.choice((0, 1, 127, 128, 2**31 - 1, 2**31, LARGEST, 2**63, 2**64 - 1)))
    place = rng.randint(0, len(content))
    return content[:place] + number + content[place + rng.choice((0, 1, 2)) :]


def _nest(rng: random.Random, content: bytes) -> bytes:
    """As the content of a field, several times over: messages within messages."""
    for _ in range(rng.choice((1, 2, 30, 120))):
        content = bytes([rng.choice((0x0A, 0x12, 0x1A, 0x2A, 0x0B))]) + _VarintBytes(len(content)) + content
    return content


def _two(rng: random.Random, content: bytes) -> bytes:
    """Two requests as one, which is what a parser adds up."""
    return content + hostile_request(rng).SerializeToString()


def _span(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + rng.choice((1, 2, 8, 64)))


Change = Callable[[random.Random, bytes], bytes]
CHANGES: Sequence[Change] = (_flip, _flip, _cut, _truncate, _insert, _repeat, _another_number, _nest, _two)
