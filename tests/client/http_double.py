"""A server over HTTP that answers in the published forms of vLLM, SGLang and llama.cpp, and fails on command.

Its log-probabilities follow from the prompt's token ids, so that a test knows each of them. vLLM itself
is asked in test_vllm.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import numpy as np
from aiohttp import web
from numpy.typing import NDArray
from tokenizers import Tokenizer

Kind = Literal["vllm", "sglang", "llama.cpp"]
VOCABULARY = 480
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llamacpp"}
CONTEXT = 2048
# What is done with the n-th completion that is asked for, from 0: it is answered where it says None, refused
# with an HTTP status, its connection cut, held for good, or answered with what stands under `answer`.
Verdict = int | Literal["cut", "hold"] | dict[str, Any] | None


def logprobs_after(ids: Sequence[int]) -> NDArray[np.float64]:
    """The log-probability of each token after these, [VOCABULARY]."""
    seed = sum((place + 1) * token for place, token in enumerate(ids)) % 2**32
    logits = 3 * np.random.default_rng(seed).standard_normal(VOCABULARY)
    found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum())
    return found


class HttpDouble:
    """Use as a context manager; `url` is where it listens. `asked` holds each body as it came."""

    def __init__(
        self,
        kind: Kind,
        tokenizer: Tokenizer,
        decide: Callable[[int], Verdict] = lambda _: None,
        *,
        key: str | None = None,
        lists_to_all: bool = False,
        cached: int = 0,
        noise: float = 0.0,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
        max_logprobs: int = 20,
        knows_chosen: bool = True,
        tells_cached: bool = False,
        port: int = 0,
    ) -> None:
        """key: that it has to be shown. cached: tokens of each prompt that it says it did not compute.

        lists_to_all: whether its list of models is shown without the key.
        noise: how far the log-probabilities of a prompt that is asked in a list are off.
        change: what is done to an answer of OpenAI's form before it goes out.
        max_logprobs: of vLLM: more of the most likely tokens are refused.
        knows_chosen: whether it takes notice of logprob_token_ids.
        tells_cached: whether vLLM's replies say what was cached, which they do not by default.
        """
        self._kind = kind
        self._tokenizer = tokenizer
        self._decide = decide
        self._key = key
        self._lists_to_all = lists_to_all
        self._cached = cached
        self._noise = noise
        self._change = change
        self._max_logprobs = max_logprobs
        self._knows_chosen = knows_chosen
        self._tells_cached = tells_cached
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.asked: list[dict[str, Any]] = []
        self.connections: set[int] = set()
        self.holds = threading.Event()
        # What is held is let go at the end.
        self.over = asyncio.Event()
        # Of prompts that somebody else asked, as its metrics count them.
        self.others_tokens: float = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def measured(self) -> list[dict[str, Any]]:
        """What was asked after the prompts that every server is asked at the start."""
        return [body for body in self.asked if not _is_known_prompt(body)]

    def __enter__(self) -> HttpDouble:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self.over.set)
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _start(self) -> None:
        application = web.Application(middlewares=[self._guarded])
        application.add_routes(
            [
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.post("/tokenize", self._tokenize),
                *self._own_routes(),
            ]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    def _own_routes(self) -> list[web.RouteDef]:
        if self._kind == "sglang":
            return [
                web.get("/model_info", self._model_info),
                web.get("/server_info", self._server_info),
                web.post("/generate", self._generate),
            ]
        completions = web.post("/v1/completions", self._completions)
        if self._kind == "vllm":
            return [completions, web.get("/version", self._version)]
        return [completions, web.get("/props", self._props)]

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.connections.add(id(request.transport))
        is_open = self._key is None or (self._lists_to_all and request.path == "/v1/models")
        if not is_open and request.headers.get("Authorization") != f"Bearer {self._key}":
            return _error(401, "Unauthorized")
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        """As they are scraped: counters of each engine, of prompts that were answered."""
        prefix = {"vllm": "vllm", "sglang": "sglang"}.get(self._kind, "llamacpp")
        cached = {"vllm": "vllm:prefix_cache_hits_total"}.get(self._kind, f"{prefix}:cached_tokens_total")
        queue = {"vllm": "vllm:request_queue_time_seconds"}.get(self._kind, f"{prefix}:queue_time_seconds")
        prompts = [ids for body in self.asked for ids in prompts_of(body)]
        lines = [
            f"# TYPE {prefix}:prompt_tokens_total counter",
            f'{prefix}:prompt_tokens_total{{engine="0"}} {sum(map(len, prompts)) + self.others_tokens}',
            f"# TYPE {cached} counter",
            f'{cached}{{engine="0"}} {len(prompts) * self._cached}',
            f"# TYPE {queue} histogram",
            f'{queue}_sum{{engine="0"}} {len(prompts) * 0.25}',
            f'{queue}_count{{engine="0"}} {len(prompts)}',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def _props(self, _: web.Request) -> web.Response:
        return web.json_response({"default_generation_settings": {"n_ctx": CONTEXT}})

    async def _model_info(self, _: web.Request) -> web.Response:
        return web.json_response({"model_path": "/models/double", "is_generation": True})

    async def _server_info(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "version": "0.5.9",
                "dtype": "bfloat16",
                "context_length": CONTEXT,
                "served_model_name": "double",
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        card: dict[str, Any] = {"id": "double", "object": "model", "owned_by": OWNERS[self._kind]}
        if self._kind != "llama.cpp":
            card |= {"root": "/models/double", "max_model_len": CONTEXT}
        return web.json_response({"object": "list", "data": [card]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        fields = await request.json()
        text = fields.get("content" if self._kind == "llama.cpp" else "prompt")
        ids = self._tokenizer.encode(text).ids if text is not None else []
        return web.json_response({"tokens": ids, "count": len(ids)})

    async def _answered(self, request: web.Request, answer: Callable[[dict[str, Any]], Any]) -> web.Response:
        body = await request.json()
        number = len(self.measured)
        self.asked.append(body)
        verdict = None if _is_known_prompt(body) else self._decide(number)
        try:
            if verdict == "hold":
                self.holds.set()
                await self.over.wait()
            if verdict == "cut":
                assert request.transport is not None
                request.transport.close()
            elif isinstance(verdict, int):
                return _error(verdict, f"status {verdict} was asked for", retry_after=0)
            found = verdict["answer"] if isinstance(verdict, dict) else answer(body)
            return web.json_response(found)
        except _RefusedError as refused:
            return _error(400, str(refused))

    async def _completions(self, request: web.Request) -> web.Response:
        return await self._answered(request, self._completion)

    def _completion(self, body: dict[str, Any]) -> Any:
        prompts = prompts_of(body)
        if self._kind == "llama.cpp":
            # It takes no notice of what it does not know, and gives an array for several prompts.
            found = [self._llama_cpp(ids, body) for ids in prompts]
            for each in found:
                self._change(each)
            return found[0] if len(found) == 1 else found
        asked = body.get("logprobs")
        if asked is not None and asked > self._max_logprobs:
            raise _RefusedError(
                f"Requested sample logprobs of {asked}, which is greater than {self._max_logprobs}"
            )
        choices = [
            {"index": place, "text": "x", "finish_reason": "length", **self._vllm(ids, body, len(prompts))}
            for place, ids in enumerate(prompts)
        ]
        answer = {
            "object": "text_completion",
            "choices": choices,
            "usage": {
                "prompt_tokens": sum(map(len, prompts)),
                "prompt_tokens_details": {"cached_tokens": self._cached} if self._tells_cached else None,
            },
        }
        self._change(answer)
        return answer

    def _vllm(self, ids: list[int], body: Mapping[str, Any], prompts: int) -> dict[str, Any]:
        after = logprobs_after(ids) - (self._noise if prompts > 1 else 0.0)
        new = int(after.argmax())
        rows: list[tuple[int, NDArray[np.float64] | None]] = [(new, after)]
        if body.get("echo"):
            own = [(token, logprobs_after(ids[:place]) if place else None) for place, token in enumerate(ids)]
            rows = [*own, *rows]
        places = [self._place(token, found, body) for token, found in rows]
        return {
            "logprobs": {
                "tokens": [name for name, _, _ in places],
                "token_logprobs": [logprob for _, logprob, _ in places],
                "top_logprobs": [top for _, _, top in places],
                "text_offset": [0] * len(places),
            },
            "token_ids": [new],
        }

    def _place(
        self, token: int, found: NDArray[np.float64] | None, body: Mapping[str, Any]
    ) -> tuple[str, float | None, dict[str, float] | None]:
        if found is None:
            return f"token_id:{token}", None, None
        chosen = body.get("logprob_token_ids") if self._knows_chosen else None
        told = [token, *(chosen or np.argsort(-found)[: body["logprobs"]].tolist())]
        return (
            f"token_id:{token}",
            float(found[token]),
            {f"token_id:{each}": float(found[each]) for each in told},
        )

    def _llama_cpp(self, ids: list[int], body: Mapping[str, Any]) -> dict[str, Any]:
        after = logprobs_after(ids)
        told = [_with_id(token, after) for token in np.argsort(-after)[: body["logprobs"]].tolist()]
        return {
            "object": "text_completion",
            "choices": [
                {
                    "index": 0,
                    "text": "x",
                    "logprobs": {"content": [{**told[0], "top_logprobs": told}]},
                    "finish_reason": "length",
                }
            ],
            "timings": {"cache_n": self._cached, "prompt_n": len(ids) - self._cached, "prompt_ms": 1.0},
        }

    async def _generate(self, request: web.Request) -> web.Response:
        return await self._answered(request, self._generated)

    def _generated(self, body: dict[str, Any]) -> Any:
        answers = []
        for place, ids in enumerate(body["input_ids"]):
            after = logprobs_after(ids)
            wanted = body["token_ids_logprob"][place] or []
            new = int(after.argmax())
            meta: dict[str, Any] = {
                "prompt_tokens": len(ids),
                "cached_tokens": self._cached,
                "output_token_logprobs": [[float(after[new]), new, None]],
                "output_top_logprobs": [[[float(after[new]), new, None]]],
                "output_token_ids_logprobs": [[[float(after[token]), token, None] for token in wanted]],
            }
            start = body["logprob_start_len"][place]
            if start >= 0:
                own = [(token, logprobs_after(ids[:at]) if at else None) for at, token in enumerate(ids)][
                    start:
                ]
                meta["input_token_logprobs"] = [
                    [None if found is None else float(found[token]), token, None] for token, found in own
                ]
                meta["input_top_logprobs"] = [
                    None if found is None else [[float(found.max()), int(found.argmax()), None]]
                    for _, found in own
                ]
            answers.append({"text": "x", "output_ids": [new], "meta_info": meta})
        return answers


class _RefusedError(Exception):
    """What is asked for is refused with status 400."""


def _with_id(token: int, after: NDArray[np.float64]) -> dict[str, Any]:
    return {"id": token, "token": "x", "bytes": [120], "logprob": float(after[token])}


def prompts_of(body: Mapping[str, Any]) -> list[list[int]]:
    """The prompts of a body, as token ids."""
    found = body.get("input_ids") or body["prompt"]
    return list(found) if isinstance(found[0], list) else [found]


def _is_known_prompt(body: Mapping[str, Any]) -> bool:
    """Whether it is asked to find out what the server gives: its prompts are ids one after the other."""
    first = prompts_of(body)[0]
    return first == list(range(first[0], first[0] + len(first)))


def _error(status: int, message: str, retry_after: int | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "error", "param": None, "code": status}}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(body, status=status, headers=headers)
