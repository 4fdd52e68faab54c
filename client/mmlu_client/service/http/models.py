"""`/v1/models`: which model a server holds, who serves it, and how long its prompts may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from mmlu_client.errors import InputError, RunError, StreamLostError
from mmlu_client.service.http.dialect import Described
from mmlu_client.service.http.endpoint import HttpEndpoint
from mmlu_client.service.http.refusal import raise_if_refused
from mmlu_client.service.server_connection import AwayError
from mmlu_client.text import shown

PATH = "/v1/models"
# What `owned_by` says → the name of the engine, where that is another word.
ENGINES = {"llamacpp": "llama.cpp", "tensorrt_llm": "tensorrt-llm"}
# The tokens that are generated after a prompt, which some servers count with it; trt-server does not.
GENERATED = 1


async def served_model(endpoint: HttpEndpoint, name: str | None, seconds: float) -> Described:
    """Ask a server what it holds.

    Args:
        endpoint: of the server.
        name: of the model that is asked, of several.
        seconds: how long to wait at most.

    Raises:
        StreamLostError: it does not answer.
        AwayError: it is there and not ready.
        InputError: it has several models, or not the named one.
        RunError: it has no list of models.
    """
    card = _chosen(await model_cards(endpoint, seconds), name, endpoint)
    owner = card.get("owned_by")
    engine = ENGINES.get(owner, owner) if isinstance(owner, str) and owner else "openai"
    longest = card.get("max_model_len")
    if not isinstance(longest, int) and engine == "llama.cpp":
        longest = await _context_of_llama_cpp(endpoint, seconds)
    if isinstance(longest, int) and engine != "trt-server":
        longest -= GENERATED
    root = card.get("root")
    return Described(
        engine=engine,
        version=await _version(endpoint, seconds),
        model=str(card["id"]),
        root=root if isinstance(root, str) else "",
        max_prompt_tokens=longest if isinstance(longest, int) else None,
    )


async def model_cards(endpoint: HttpEndpoint, seconds: float) -> Sequence[Mapping[str, Any]]:
    """Return what a server's list of models has.

    Raises:
        StreamLostError: it does not answer.
        AwayError: it is there and not ready.
        RunError: it has no such list, or refuses the client.
    """
    answer = await endpoint.get(PATH, seconds)
    if answer.status in (
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.TOO_MANY_REQUESTS,
    ):
        raise AwayError(f"it is there and not ready: {answer.message}")
    raise_if_refused(answer, endpoint.address)
    cards = answer.content.get("data") if isinstance(answer.content, Mapping) else None
    if not answer.is_good or not isinstance(cards, list) or not cards:
        raise RunError(
            f"{endpoint.address} has no list of models "
            f"({answer.message if not answer.is_good else 'it is empty'}): "
            "it is no server of OpenAI's completions"
        )
    return [card for card in cards if isinstance(card, Mapping) and isinstance(card.get("id"), str)]


def _chosen(
    cards: Sequence[Mapping[str, Any]], name: str | None, endpoint: HttpEndpoint
) -> Mapping[str, Any]:
    names = [card["id"] for card in cards]
    if name is not None:
        for card in cards:
            if card["id"] == name:
                return card
        raise InputError(f"--model-name {name}: {endpoint.address} has {shown(names)}")
    if len(cards) != 1:
        raise InputError(f"{endpoint.address} has {shown(names) or 'no model'}: choose one with --model-name")
    return cards[0]


async def _version(endpoint: HttpEndpoint, seconds: float) -> str:
    """Return the server's version; empty where it does not tell."""
    try:
        answer = await endpoint.get("/version", seconds)
    except StreamLostError:
        return ""
    found = answer.content.get("version") if isinstance(answer.content, Mapping) else None
    return found if answer.is_good and isinstance(found, str) else ""


async def _context_of_llama_cpp(endpoint: HttpEndpoint, seconds: float) -> int | None:
    """Return the tokens of a slot's context; None where llama.cpp does not tell."""
    try:
        answer = await endpoint.get("/props", seconds)
    except StreamLostError:
        return None
    settings = (
        answer.content.get("default_generation_settings") if isinstance(answer.content, Mapping) else None
    )
    found = settings.get("n_ctx") if isinstance(settings, Mapping) else None
    return found if isinstance(found, int) else None
