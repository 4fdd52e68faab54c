"""Four endings of one context, as HellaSwag has them: what one prompt with continuations saves.

    python -m bench.continuations [--models dummy:llama-100m,dummy:llama-15m] [--questions 4] [--rounds 5]

Each round asks the same questions, of random token ids, in five ways, one after the other for each question:

- a: this server, one prompt with four continuations.
- b: this server, one prompt a choice, context and ending together, of which the last tokens are scored. The
  four prompts are one request.
- c: transformers on PyTorch, one row a choice, the four rows one batch, padded on the right, with log-softmax
  over all positions, as lm-evaluation-harness' `hf` backend computes it.
- d: this server, one plain prompt of as many tokens as `a` computed, and one candidate.
- e: the same as `d`, but the head runs on as many positions as in `a`.

Contexts are as long as HellaSwag's without shots and with ten; --shots 0 or --shots 10 takes one of both.
Whole time is the host's clock around the call, from ids in Python to log-probabilities in Python; core time
is the engine's own. PyTorch runs in this process and has no serving: its core is the forward with the
log-softmax. With --max-ratio the exit status is 1 where the median of core a / core d is larger.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import torch
from scoring.v1 import scoring_pb2, scoring_pb2_grpc
from transformers import AutoModelForCausalLM, __version__
from trt_common.command_line.streams import take_any_text
from trt_server.model.source import resolve_model

from tools.server_process import ServerProcess

WAYS = ("a", "b", "c", "d", "e")
CHOICES = 4
# Tokens, the least and the most, by the number of shots.
CONTEXTS = {0: (80, 200), 10: (900, 1100)}
ENDINGS = (10, 40)
SECONDS = 600.0


@dataclass(frozen=True)
class Question:
    """A context and its endings.

    Attributes:
        context: Token ids.
        endings: The token ids of each ending.
    """

    context: list[int]
    endings: list[list[int]]


@dataclass(frozen=True)
class Answer:
    """What one way of asking a question gave.

    Attributes:
        logprobs: Of each ending; empty for a plain prompt.
        core: Seconds of the engine's computation.
        whole: Seconds of the call.
        computed: The tokens that the engine ran, without padding.
        scored: The positions at which the head ran; 0 where it ran at all.
    """

    logprobs: list[float]
    core: float
    whole: float
    computed: int
    scored: int = 0


@dataclass(frozen=True)
class Round:
    """The sums of one round over its questions, by way.

    Attributes:
        core: Seconds of the engines' computation.
        whole: Seconds of the calls.
        computed: Tokens that the engines ran.
        differences: The largest difference of an ending's log-probability from that of `a`, in nats.
    """

    core: dict[str, float]
    whole: dict[str, float]
    computed: dict[str, int]
    differences: dict[str, float]


def main() -> None:
    """Run the rounds for each model and context, and print the figures."""
    take_any_text()
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument(
        "--models", default="dummy:llama-100m,dummy:llama-15m", help="names with commas between"
    )
    parse.add_argument("--shots", type=int, choices=sorted(CONTEXTS), help="both by default")
    parse.add_argument("--ways", default=",".join(WAYS), help="with commas between; a is always one of them")
    parse.add_argument("--questions", type=int, default=4)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--max-ratio", type=float, help="of core a / core d; 1.2 is what is promised")
    options = parse.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.platform()}, Python {platform.python_version()}, PyTorch {torch.__version__}, ", end="")
    print(
        f"transformers {__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f} at the start"
    )
    ratios = [ratio for name in options.models.split(",") for ratio in _model(options, name)]
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    if options.max_ratio is not None and max(ratios) > options.max_ratio:
        sys.exit(f"bench.continuations: core a / core d is {max(ratios):.3f}, above {options.max_ratio:g}")


def _model(options: argparse.Namespace, name: str) -> list[float]:
    """Measure one model with each kind of context, and return the ratios of core a to core d."""
    folder = resolve_model(name, "fp32").folder
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    ways = [way for way in WAYS if way == "a" or way in options.ways.split(",")]
    ratios = []
    with (
        ServerProcess("--model", name, "--threads", str(options.threads)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        asker = Asker(scoring_pb2_grpc.ScoringStub(channel), model, ways)  # type: ignore[no-untyped-call]
        for shots, lengths in CONTEXTS.items():
            if options.shots not in (None, shots):
                continue
            chance = random.Random(options.seed)
            questions = [
                _question(chance, lengths, model.config.vocab_size) for _ in range(options.questions)
            ]
            asker.round(questions[:1])  # what is made at the first call is not measured
            rounds = [asker.round(questions) for _ in range(options.rounds)]
            ratios.append(_print(name, shots, questions, rounds))
    return ratios


def _question(chance: random.Random, lengths: tuple[int, int], vocabulary: int) -> Question:
    def ids(least: int, most: int) -> list[int]:
        return [chance.randrange(3, vocabulary) for _ in range(chance.randint(least, most))]

    return Question(ids(*lengths), [ids(*ENDINGS) for _ in range(CHOICES)])


class Asker:
    """Asks questions in each of the ways."""

    def __init__(self, stub: Any, model: Any, ways: Sequence[str]) -> None:
        """Take the server's stub, the same model in PyTorch, and the ways to ask."""
        self._ways = ways
        self._stub = stub
        self._model = model

    def round(self, questions: Sequence[Question]) -> Round:
        """Ask each question in all ways, one after the other."""
        core, whole = dict.fromkeys(self._ways, 0.0), dict.fromkeys(self._ways, 0.0)
        computed = dict.fromkeys(self._ways, 0)
        differences = {way: 0.0 for way in ("b", "c") if way in self._ways}
        for question in questions:
            answers = self._ask(question)
            for way, answer in answers.items():
                core[way] += answer.core
                whole[way] += answer.whole
                computed[way] += answer.computed
            for way in differences:
                pairs = zip(answers["a"].logprobs, answers[way].logprobs, strict=True)
                differences[way] = max(differences[way], *(abs(one - other) for one, other in pairs))
        return Round(core, whole, computed, differences)

    def _ask(self, question: Question) -> dict[str, Answer]:
        shared = self._shared(question)
        others: dict[str, Callable[[], Answer]] = {
            "b": lambda: self._separate(question),
            "c": lambda: self._pytorch(question),
            "d": lambda: self._plain(question, shared.computed),
            "e": lambda: self._plain(question, shared.computed, shared.scored - 1),
        }
        return {"a": shared, **{way: ask() for way, ask in others.items() if way in self._ways}}

    def _shared(self, question: Question) -> Answer:
        prompt = scoring_pb2.Prompt(
            token_ids=scoring_pb2.TokenIds(ids=question.context),
            continuations=[
                scoring_pb2.Continuation(token_ids=scoring_pb2.TokenIds(ids=ending))
                for ending in question.endings
            ],
        )
        response, seconds = self._score([prompt])
        (score,) = response.scores
        return _answer(response, [each.logprob for each in score.continuations], seconds)

    def _separate(self, question: Question) -> Answer:
        prompts = [
            scoring_pb2.Prompt(
                token_ids=scoring_pb2.TokenIds(ids=[*question.context, *ending]), last_tokens=len(ending)
            )
            for ending in question.endings
        ]
        response, seconds = self._score(prompts)
        return _answer(response, [sum(score.own_tokens.logprobs) for score in response.scores], seconds)

    def _plain(self, question: Question, tokens: int, scored: int = 0) -> Answer:
        """Ask a prompt of so many tokens, of which so many of the last are scored."""
        joined = [*question.context, *(token for ending in question.endings for token in ending)]
        ids = [joined[place % len(joined)] for place in range(tokens)]
        prompt = scoring_pb2.Prompt(
            token_ids=scoring_pb2.TokenIds(ids=ids), candidates=[scoring_pb2.Candidate(token_id=ids[0])]
        )
        if scored:
            prompt.last_tokens = scored
        response, seconds = self._score([prompt])
        return _answer(response, [], seconds)

    def _score(self, prompts: Sequence[Any]) -> tuple[Any, float]:
        start = time.perf_counter()
        response = self._stub.Score(scoring_pb2.ScoreRequest(id="bench", prompts=prompts), timeout=SECONDS)
        return response, time.perf_counter() - start

    def _pytorch(self, question: Question) -> Answer:
        start = time.perf_counter()
        rows = [[*question.context, *ending][:-1] for ending in question.endings]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        before = time.perf_counter()
        with torch.inference_mode():
            logprobs = torch.log_softmax(self._model(ids, use_cache=False).logits, dim=-1)
        core = time.perf_counter() - before
        found = [
            float(
                logprobs[place, len(row) - len(ending) : len(row)]
                .gather(1, torch.tensor(ending)[:, None])
                .sum()
            )
            for place, (row, ending) in enumerate(zip(rows, question.endings, strict=True))
        ]
        return Answer(found, core, time.perf_counter() - start, sum(map(len, rows)))


def _answer(response: Any, logprobs: list[float], seconds: float) -> Answer:
    computed = sum(score.tokens.computed for score in response.scores)
    scored = sum(score.tokens.scored for score in response.scores)
    return Answer(logprobs, response.timing.core_ns / 1e9, seconds, computed, scored)


def _print(name: str, shots: int, questions: Sequence[Question], rounds: Sequence[Round]) -> float:
    """Print one table, and return the median ratio of core a to core d."""
    contexts = statistics.mean(len(each.context) for each in questions)
    endings = statistics.mean(len(ending) for each in questions for ending in each.endings)
    print(f"\n{name}, {shots} shots: {len(questions)} questions, contexts of {contexts:.0f} tokens, ", end="")
    print(f"endings of {endings:.0f}, median of {len(rounds)} rounds, for one question:\n")
    print("| way | tokens computed | core, ms | whole, ms | core / core a | whole / whole a |")
    print("|---|---|---|---|---|---|")
    for way in rounds[0].core:
        core, whole = _median(rounds, way, "core"), _median(rounds, way, "whole")
        print(
            f"| {way} | {rounds[0].computed[way] / len(questions):.0f} | {1e3 * core / len(questions):.1f} "
            f"| {1e3 * whole / len(questions):.1f} | {_ratio(rounds, way, 'a', 'core'):.2f} "
            f"| {_ratio(rounds, way, 'a', 'whole'):.2f} |"
        )
    print()
    for way in [way for way in ("d", "e") if way in rounds[0].core]:
        each = ", ".join(f"{one.core['a'] / one.core[way]:.3f}" for one in rounds)
        print(f"core a / core {way}: median {_ratio(rounds, 'a', way, 'core'):.3f} ({each})")
    for way in rounds[0].differences:
        worst = max(one.differences[way] for one in rounds)
        print(f"largest difference of an ending's log-probability from {way}: {worst:.1e} nats")
    sys.stdout.flush()
    return _ratio(rounds, "a", "d", "core") if "d" in rounds[0].core else 0.0


def _median(rounds: Sequence[Round], way: str, kind: str) -> float:
    return statistics.median(_seconds(one, kind)[way] for one in rounds)


def _ratio(rounds: Sequence[Round], way: str, base: str, kind: str) -> float:
    """Return the median over the rounds of one way's time over another's in the same round."""
    return statistics.median(_seconds(one, kind)[way] / _seconds(one, kind)[base] for one in rounds)


def _seconds(one: Round, kind: str) -> dict[str, float]:
    return one.core if kind == "core" else one.whole


if __name__ == "__main__":
    main()
