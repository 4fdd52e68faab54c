"""What a kind of server over HTTP is asked in, and how its answers are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mmlu_client.service.messages import Refusal, Reply, Request


@dataclass(frozen=True)
class Described:
    """What a server says of itself and its model, as far as it does.

    Attributes:
        engine: its name, such as `vllm`.
        version: of the program; empty where it does not say.
        model: the name that requests have to give.
        root: where its weights come from; empty where it does not say.
        precision: that it computes in; empty where it does not say.
        max_prompt_tokens: the longest prompt that it takes; None where it does not say.
    """

    engine: str
    version: str
    model: str
    root: str = ""
    precision: str = ""
    max_prompt_tokens: int | None = None


@dataclass(frozen=True)
class Learnt:
    """What a server gives, as its answers to a known prompt show.

    Attributes:
        told_tokens: None: the log-probabilities of any candidate; a number: those of so many most likely
            tokens alone.
        scores_prompts: whether it tells log-probabilities of a prompt's own tokens.
        tells_stages: whether its answers have the times of its stages, as those of trt-server have.
        unrepeatable: how far the known prompt's log-probabilities were apart when it was asked again among
            others, in nats.
    """

    told_tokens: int | None
    scores_prompts: bool
    tells_stages: bool
    unrepeatable: float


class Dialect(Protocol):
    """Asks a kind of server."""

    async def describe(self, seconds: float) -> Described:
        """Ask the server what it holds.

        Raises:
            StreamLostError: it does not answer.
            AwayError: it is there and not ready.
            InputError: it has several models, and none is named.
            RunError: it is no such server.
        """
        ...

    async def learn(self, seconds: float) -> Learnt:
        """Find out, by asking a known prompt several times, what the server gives.

        Args:
            seconds: how long to wait for each answer at most.

        Raises:
            InputError: it gives no log-probabilities, or none that can be used.
            StreamLostError: it does not answer; MuteStreamError where it did not in time.
        """
        ...

    async def score(self, request: Request) -> Reply | Refusal:
        """Ask a request.

        Raises:
            StreamLostError: the server does not answer.
            RunError: it never will.
        """
        ...

    async def token_ids(self, text: str, seconds: float) -> list[int] | None:
        """Return the ids that the server makes of a text; None where it has no such endpoint.

        Args:
            text: what it tokenizes.
            seconds: how long to wait for an answer at most.

        Raises:
            StreamLostError: it does not answer.
        """
        ...
