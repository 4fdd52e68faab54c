"""Mutated messages at every method and at the HTTP port: each gets a status, and the metrics are true."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from mutation import VOCABULARY, largest_requests, mutated, mutated_body, mutated_request
from outcome import SECONDS, Outcome, hold_the_rest, memory_mib, reference_answer
from processes import ServerProcess
from scoring.v1 import scoring_pb2 as pb

SCORE = "/scoring.v1.Scoring/Score"
STREAM = "/scoring.v1.Scoring/StreamScore"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OTHERS = (HEALTH, REFLECTION, "/scoring.v1.Scoring/GetTokenizer", "/scoring.v1.Scoring/GetModel")

# What a request can be answered with. Of other methods also that a service is not known.
ALLOWED = {"OK", "INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}
ALLOWED_OF_OTHERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
ALLOWED_HTTP = {200, 400, 404, 405, 413, 429}

MAX_ID_BYTES = 256
CALLERS, AT_ONCE, A_STREAM = 4, 8, 10
# After so many, and after the largest ones, which seldom come by chance, a server has what it keeps for
# good: its memory is looked at for the first time.
WARM = 1000
# A campaign whose messages are refused at the door tells nothing of the engine behind it.
LEAST_ANSWERED = 0.4
# Of stored prefixes, so that they make way for others, and their memory is not taken for what grows.
PREFIX_BYTES = "8MiB"
# Between them memory and metrics are looked at: what grows and does not stop shows.
PARTS = 10
# A process that was asked hundreds of thousands of things keeps some of what it had, and no more than this.
MOST_GROWTH_MIB = 100


def send_mutated(model: Path, count: int, seed: int, until: float = math.inf) -> Outcome:
    """Send mutated messages to a server of this checkpoint.

    Args:
        model: The checkpoint, with a tokenizer.
        count: How many messages: nine of ten by gRPC, the others over HTTP.
        seed: What they follow from.
        until: When no more are sent, on the clock of time.monotonic.

    Returns:
        How many had which status, and what did not hold.
    """
    outcome = Outcome("mutated messages")
    arguments = ("--max-batch-size", "8", "--http-port", "0", "--prefix-cache-bytes", PREFIX_BYTES)
    with ServerProcess("--model", str(model), *arguments) as server:
        expected = reference_answer(server.wait_until_serving())
        warm = min(WARM, count // 10)
        campaign = _Campaign(server, seed, outcome, until)
        campaign.run(0, warm)
        for content in largest_requests():
            server.stub().Score(pb.ScoreRequest.FromString(content), timeout=SECONDS)
        before = memory_mib(server)
        after_each = []
        for part in range(PARTS):
            start, end = (warm + (count - warm) * place // PARTS for place in (part, part + 1))
            if time.monotonic() < until:
                campaign.run(start, end)
            after_each.append(memory_mib(server))
        hold_the_rest(outcome, server, expected)
        after = memory_mib(server)
        outcome.hold(
            after - before < MOST_GROWTH_MIB,
            f"memory grew from {before} to {after} MiB over {count} messages",
        )
        outcome.hold(server.stop() == 0, "the server did not end with status 0")
        outcome.hold(
            campaign.share_answered > LEAST_ANSWERED,
            f"{campaign.share_answered:.0%} of the messages were answered: they ask too little of the engine",
        )
    outcome.tell("messages", sum(campaign.sent.values()))
    if sum(campaign.sent.values()) < count:
        outcome.tell("messages that there was no time for", count - sum(campaign.sent.values()))
    outcome.tell("answered with OK", f"{campaign.share_answered:.1%}")
    for kind, number in sorted(campaign.sent.items()):
        outcome.tell(f"of them {kind}", number)
    for kind, statuses in (("Score", campaign.scored), ("others", campaign.others), ("HTTP", campaign.http)):
        outcome.tell(f"statuses, {kind}", ", ".join(f"{name} {n:,}" for name, n in statuses.most_common()))
    outcome.tell("memory before and after", f"{before} and {after} MiB")
    outcome.tell("memory after each tenth", f"{', '.join(map(str, after_each))} MiB")
    return outcome


class _Campaign:
    """Sends messages by their numbers, and counts what came back."""

    def __init__(self, server: ServerProcess, seed: int, outcome: Outcome, until: float) -> None:
        self._server = server
        self._until = until
        self._seed = seed
        self._outcome = outcome
        self.sent: Counter[str] = Counter()
        self.scored: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.http: Counter[str] = Counter()

    @property
    def share_answered(self) -> float:
        """Of all messages so far, those that were answered as they asked for."""
        answered = self.scored["OK"] + self.others["OK"] + self.http["200"]
        return answered / max(1, sum(self.sent.values()))

    def run(self, start: int, end: int) -> None:
        """Messages of the numbers from start to before end, as far as there is time."""
        before, counted = dict(self.scored), _counted(self._server)
        http_from = end - (end - start) // 10
        asyncio.run(self._by_grpc(iter(range(start, http_from))))
        told = _counted(self._server) - counted
        here = self.scored - Counter(before)
        self._outcome.hold(
            told == here, f"messages {start} to {end}: callers were told {here}, and the metrics have {told}"
        )
        asyncio.run(self._over_http(iter(range(http_from, end))))

    async def _by_grpc(self, numbers: object) -> None:
        async def work(channel: aio.Channel) -> None:
            for number in numbers:  # type: ignore[attr-defined]
                if self._is_over():
                    return
                await self._in_time(number, self._send(channel, number))

        channels = [aio.insecure_channel(self._server.url) for _ in range(CALLERS)]
        await asyncio.gather(*(work(channels[place % CALLERS]) for place in range(CALLERS * AT_ONCE)))
        for channel in channels:
            await channel.close()

    async def _over_http(self, numbers: object) -> None:
        async def work(session: aiohttp.ClientSession) -> None:
            for number in numbers:  # type: ignore[attr-defined]
                if self._is_over():
                    return
                await self._in_time(number, self._post(session, number))

        async with aiohttp.ClientSession(self._server.http) as session:
            await asyncio.gather(*(work(session) for _ in range(AT_ONCE)))

    def _is_over(self) -> bool:
        return self._server.process.poll() is not None or time.monotonic() > self._until

    async def _in_time(self, number: int, sending: object) -> None:
        try:
            await asyncio.wait_for(sending, SECONDS)  # type: ignore[arg-type]
        except asyncio.TimeoutError:
            self._broken(number, "was not answered")
        except aiohttp.ClientError as error:
            self._broken(number, f"ended its connection: {error!r}")

    def _broken(self, number: int, how: str) -> None:
        self._outcome.hold(False, f"seed {self._seed}, message {number} {how}")

    async def _send(self, channel: aio.Channel, number: int) -> None:
        kind = Random(f"{self._seed} kind {number}").random()
        if kind < 0.85:
            await self._score(channel, number)
        elif kind < 0.95:
            await self._stream(channel, number)
        else:
            await self._other(channel, number)

    async def _score(self, channel: aio.Channel, number: int) -> None:
        content = mutated_request(self._seed, number)
        self.sent["Score"] += 1
        try:
            reply = await _unary(channel, SCORE)(content)
        except aio.AioRpcError as error:
            self.scored[error.code().name] += 1
            if error.code().name not in ALLOWED or not error.details():
                self._broken(number, f"got {error.code().name}: {error.details()}")
            return
        self.scored["OK"] += 1
        self._hold_reply(number, pb.ScoreRequest.FromString(content), pb.ScoreResponse.FromString(reply))

    def _hold_reply(self, number: int, request: pb.ScoreRequest, reply: pb.ScoreResponse) -> None:
        """It is whole, and its numbers are log-probabilities."""
        if reply.id != request.id or len(reply.scores) != len(request.prompts):
            self._broken(number, "got a reply to something else")
        for prompt, score in zip(request.prompts, reply.scores, strict=False):
            if len(score.candidate_logprobs) != len(prompt.candidates):
                self._broken(number, "got a score without all candidates")
            if len(score.continuations) != len(prompt.continuations):
                self._broken(number, "got a score without all continuations")
            if len(score.top_token_ids) != min(prompt.top_tokens, VOCABULARY):
                self._broken(number, "got a score without all of the most likely tokens")
            if prompt.WhichOneof("content") != "text" and len(score.own_tokens.token_ids) != _own(prompt):
                self._broken(number, "got a score without all of the prompt's own tokens")
            if not all(math.isfinite(value) and value <= 1e-4 for value in score.candidate_logprobs):
                self._broken(number, f"got {list(score.candidate_logprobs)} as log-probabilities")

    async def _stream(self, channel: aio.Channel, number: int) -> None:
        """Several messages on one stream: each before the first that cannot be decoded is answered once."""
        contents = [mutated_request(self._seed, number * A_STREAM + place) for place in range(A_STREAM)]
        whole = _before_the_first_that_is_none(contents)
        contents = contents[: len(whole) + 1]
        self.sent["StreamScore"] += len(contents)
        replies: list[pb.StreamScoreResponse] = []
        has_ended = asyncio.Event()

        async def outgoing() -> AsyncIterator[bytes]:
            for content in contents:
                yield content
            # Where the server has ended a stream, gRPC's client takes it for a fault of its own to write on.
            if len(whole) < len(contents):
                await has_ended.wait()

        try:
            async for reply in _stream(channel, STREAM)(outgoing()):
                replies += [pb.StreamScoreResponse.FromString(reply)]
        except aio.AioRpcError as error:
            self.scored[error.code().name] += 1
            if error.code() is not StatusCode.INVALID_ARGUMENT or len(whole) == A_STREAM:
                self._broken(number, f"ended its stream with {error.code().name}: {error.details()}")
        finally:
            has_ended.set()
        for each in replies:
            code = "OK" if each.HasField("response") else _name(each.error.code)
            self.scored[code] += 1
            if code not in ALLOWED:
                self._broken(number, f"got {code} on a stream: {each.error.message}")
        if Counter(each.id for each in replies) != Counter(_returned(each.id) for each in whole):
            self._broken(number, f"sent {len(whole)} requests on a stream, and {len(replies)} were answered")

    async def _other(self, channel: aio.Channel, number: int) -> None:
        rng = Random(f"{self._seed} other {number}")
        path = rng.choice(OTHERS)
        base = {
            HEALTH: health_pb2.HealthCheckRequest(service="scoring.v1.Scoring"),
            REFLECTION: reflection_pb2.ServerReflectionRequest(file_containing_symbol="scoring.v1.Scoring"),
        }.get(path, pb.ScoreRequest(id="r"))
        content = mutated(rng, base.SerializeToString())
        self.sent["other methods"] += 1
        try:
            if path == REFLECTION:
                async for _ in _stream(channel, path)(iter([content])):
                    pass
            else:
                await _unary(channel, path)(content)
            code = "OK"
        except aio.AioRpcError as error:
            code = error.code().name
            if code not in ALLOWED_OF_OTHERS:
                self._broken(number, f"to {path} got {code}: {error.details()}")
        self.others[code] += 1

    async def _post(self, session: aiohttp.ClientSession, number: int) -> None:
        path, content = mutated_body(self._seed, number)
        self.sent["over HTTP"] += 1
        headers = {"Content-Type": "application/json"}
        async with session.post(path, data=content, headers=headers) as reply:
            text = await reply.text()
        self.http[str(reply.status)] += 1
        if reply.status not in ALLOWED_HTTP:
            self._broken(number, f"to {path} got {reply.status}: {text[:300]}")


def _own(prompt: pb.Prompt) -> int:
    """How many of its own tokens a prompt of token ids asks for."""
    return len(prompt.token_ids.ids) - 1 if prompt.all_tokens else prompt.last_tokens


def _before_the_first_that_is_none(contents: list[bytes]) -> list[pb.ScoreRequest]:
    decoded = takewhile(lambda each: each is not None, map(_decoded, contents))
    return [each for each in decoded if each is not None]


def _decoded(content: bytes) -> pb.ScoreRequest | None:
    try:
        return pb.ScoreRequest.FromString(content)
    except DecodeError:
        return None


def _unary(channel: aio.Channel, path: str) -> Any:
    """A method that takes and gives bytes."""
    return channel.unary_unary(path)


def _stream(channel: aio.Channel, path: str) -> Any:
    return channel.stream_stream(path)


def _returned(id: str) -> str:
    """An id as a reply has it: one that is too long is returned as far as an id may go."""
    return id.encode()[:MAX_ID_BYTES].decode(errors="ignore")


def _name(code: int) -> str:
    return next(each.name for each in StatusCode if each.value[0] == code)


def _counted(server: ServerProcess) -> Counter[str]:
    """What the server's metrics say that requests were answered with."""
    found = server.metrics().items()
    total = "trt_server_requests_total{"
    return Counter({name[len(total) : -1]: int(n) for name, n in found if name.startswith(total)})
