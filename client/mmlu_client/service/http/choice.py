"""Which kind of server is asked over HTTP: the named one, or what its list of models tells."""

from __future__ import annotations

from mmlu_client.errors import RunError
from mmlu_client.service.http.completions import Completions
from mmlu_client.service.http.dialect import Described, Dialect, Learnt
from mmlu_client.service.http.endpoint import HttpEndpoint
from mmlu_client.service.http.generate import Generate
from mmlu_client.service.http.models import model_cards
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model_config import FlopsOf

SGLANG, OPENAI = "sglang", "openai"


def dialect_of(
    kind: str, endpoint: HttpEndpoint, model_name: str | None, flops_of: FlopsOf | None
) -> Dialect:
    """Return what a server is asked in.

    Args:
        kind: of the server, or `auto`.
        endpoint: of the server.
        model_name: the model that is asked, of several.
        flops_of: computes a row's floating-point operations; None where the model's sizes are not known.
    """
    completions, generate = Completions(endpoint, model_name, flops_of), Generate(endpoint, flops_of)
    if kind == SGLANG:
        return generate
    return completions if kind == OPENAI else _Told(endpoint, completions, generate)


class _Told:
    """Asks in what the server's list of models tells. See `Dialect`."""

    def __init__(self, endpoint: HttpEndpoint, completions: Completions, generate: Generate) -> None:
        self._endpoint = endpoint
        self._chosen: Dialect = completions
        self._generate = generate

    async def describe(self, seconds: float) -> Described:
        """Choose, and ask what the server holds. See `Dialect`."""
        cards = await model_cards(self._endpoint, seconds)
        if any(card.get("owned_by") == SGLANG for card in cards):
            try:
                described = await self._generate.describe(seconds)
            except RunError:  # a gateway before several servers has OpenAI's endpoints alone
                return await self._chosen.describe(seconds)
            self._chosen = self._generate
            return described
        return await self._chosen.describe(seconds)

    async def learn(self, seconds: float) -> Learnt:
        """Find out what the server gives. See `Dialect`."""
        return await self._chosen.learn(seconds)

    async def score(self, request: Request) -> Reply | Refusal:
        """Ask a request. See `Dialect`."""
        return await self._chosen.score(request)

    async def token_ids(self, text: str, seconds: float) -> list[int] | None:
        """Ask for a text's token ids. See `Dialect`."""
        return await self._chosen.token_ids(text, seconds)
