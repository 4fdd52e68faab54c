"""Callers share an engine: what one of them asks for in bulk delays the others by no more than a batch."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from holding_machine import (
    ENGINE_DEPTH,
    READY,
    SECONDS,
    HoldingMachine,
    ask_in_order,
    fill_ready,
    held_request,
    occupy,
    stub_of_its_own,
    wait_for_depth,
)
from http_client import ask
from instant_engine import Instant, Zeros
from processes import ServerProcess
from score_requests import ids_request
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from trt_server.engines.engine import Batch
from trt_server.errors import LateError, QueueFullError
from trt_server.rpc.caller import Callers
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.group import EngineGroup
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.request import ScoringRequest
from waiting import wait_until

# Each begins a batch of its own, which is held until the test lets it go.
TOKENS = range(100, 116)


@pytest.fixture
def machine(tmp_path: Path) -> HoldingMachine:
    return HoldingMachine.make(tmp_path, TOKENS)


def test_who_asks_for_little_waits_for_no_more_than_what_runs(
    llama_folder: Path, machine: HoldingMachine
) -> None:
    """However much waits, and however much of it is assembled: counted in batches before its own."""
    with machine.start(llama_folder) as server:
        server.wait_until_serving()
        first = occupy(machine, stub_of_its_own(server), TOKENS[0])
        bulk = ask_in_order(stub_of_its_own(server), *map(held_request, TOKENS[1:]))
        wait_for_depth(server, len(TOKENS) - 1 - READY)
        interactive = stub_of_its_own(server).Score.future(ids_request(3), timeout=SECONDS)
        wait_for_depth(server, len(TOKENS) - READY)
        # What ran when it came: one batch, and one more where the engine had taken it by then.
        for batches in range(1, ENGINE_DEPTH + 1):
            machine.wait_until_held(batches, or_else=interactive.done)
            machine.let_go(*machine.held[:batches])
        assert interactive.result(SECONDS).scores
        assert len(machine.held) <= ENGINE_DEPTH + 1
        machine.let_go(*TOKENS)
        assert first.result().scores
        assert len(list(bulk)) == len(TOKENS) - 1


def test_a_full_queue_has_room_for_a_caller_with_less(llama_folder: Path, machine: HoldingMachine) -> None:
    """The newest request of the caller with the most waiting makes room, and is told when to ask again."""
    arguments = ("--max-queue-size", "8")
    with machine.start(llama_folder, *arguments) as server:
        server.wait_until_serving()
        first = occupy(machine, stub_of_its_own(server), TOKENS[0])
        others = stub_of_its_own(server)
        assembled = fill_ready(server, others, *map(held_request, TOKENS[1 : 1 + READY]))
        full = [others.Score.future(held_request(token)) for token in TOKENS[1 + READY : 1 + READY + 8]]
        wait_for_depth(server, 8)
        interactive = stub_of_its_own(server).Score.future(ids_request(3), timeout=SECONDS)
        wait_until(lambda: any(call.done() for call in full))
        (refused,) = [call for call in full if call.done()]
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(refused)
        assert status is not None
        assert status.details[0].Is(RetryInfo.DESCRIPTOR)
        # Who has the most waiting itself gets no more.
        with pytest.raises(grpc.RpcError) as caught:
            others.Score(ids_request(3))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        machine.let_go(*TOKENS)
        assert interactive.result().scores
        assert all(call.result().scores for call in [first, *full] if call is not refused)
        assert all(reply.response.scores for reply in assembled)
        assert server.metrics()["trt_server_requests_not_computed_total{tensorrt,displaced}"] == 1


class Authorized(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends a header with each call."""

    def __init__(self, header: str) -> None:
        self._metadata = (("authorization", header),)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request_iterator)


def authorized_stub(server: ServerProcess, header: str) -> Any:
    channel = grpc.insecure_channel(server.url, options=[("grpc.use_local_subchannel_pool", 1)])
    return pb_grpc.ScoringStub(grpc.intercept_channel(channel, Authorized(header)))  # type: ignore[no-untyped-call]


def test_one_token_is_one_caller_however_it_is_written(
    llama_folder: Path, tmp_path: Path, machine: HoldingMachine
) -> None:
    """Who fills the queue gets no more places in it by writing its header in another way, on either port."""
    (tokens := tmp_path / "tokens").write_text("one\ntwo\n")
    arguments = ("--max-queue-size", "8", "--token-file", str(tokens), "--http-port", "0")
    with machine.start(llama_folder, *arguments) as server:
        server.wait_until_serving()
        one = authorized_stub(server, "Bearer one")
        first = occupy(machine, one, TOKENS[0])
        assembled = fill_ready(server, one, *map(held_request, TOKENS[1 : 1 + READY]))
        full = [one.Score.future(held_request(token)) for token in TOKENS[1 + READY : 1 + READY + 8]]
        wait_for_depth(server, 8)
        for header in ("Bearer one", "bearer one", "bEARER one", "Bearer   one"):
            with pytest.raises(grpc.RpcError) as caught:
                authorized_stub(server, header).Score(ids_request(3), timeout=SECONDS)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            body = {"prompt": [1, 2], "max_tokens": 1, "temperature": 0}
            assert ask(server, "/v1/completions", body, {"Authorization": header}).status == 429
        assert not any(call.done() for call in full)
        # Another token is another caller.
        other = authorized_stub(server, "Bearer two").Score.future(ids_request(3), timeout=SECONDS)
        wait_until(lambda: any(call.done() for call in full))
        machine.let_go(*TOKENS)
        assert first.result().scores
        assert other.result().scores
        assert len(list(assembled)) == READY


# The queue by itself.


def a_request(caller: str, tokens: int, due: float | None = None) -> ScoringRequest:
    prompt = TokenPrompt(np.zeros(tokens, np.int32), np.zeros(1, np.int32))
    return ScoringRequest([prompt], 10_000, caller=caller, due=due)


def take(queue: RequestQueue) -> ScoringRequest:
    """The next one, which is computed at once."""
    (request,) = queue.take(Batching(8, 10**6, 0.0))
    assert queue.begin([request]) == [request]
    request.is_over = True
    return request


class OneAtATime(Instant):
    """Begins a batch when it is allowed to, and remembers how long the first row of each was."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.allowed = threading.Semaphore(0)

    async def run_until(self, computed: int) -> None:
        """Until so many batches are computed and one more waits to be allowed."""
        while True:
            begun = len(self.begun)
            if begun > computed:
                return
            if begun:
                self.allowed.release()
            await asyncio.to_thread(self._wait_for_more_than, begun)

    def _wait_for_more_than(self, batches: int) -> None:
        wait_until(lambda: len(self.begun) > batches)

    def submit(self, batch: Batch) -> Zeros:
        self.begun.append(int(batch.lengths[0]))
        assert self.allowed.acquire(timeout=SECONDS)
        return super().submit(batch)


def test_beside_many_who_ask_in_bulk_the_wait_is_the_same() -> None:
    """Four callers with ten requests each, as long as one another, and one that asks three times."""

    async def test() -> None:
        engine, queue = OneAtATime(), RequestQueue(64)
        bulk = [a_request(f"bulk {number % 4}", 20) for number in range(40)]
        for request in bulk:
            queue.put(request)
        batching = Batching(1, 10**6, 0.0)
        group = EngineGroup([lambda: engine], ["none"], queue, batching, lambda _: None, lambda _: None)
        await group.start()
        for computed in (3, 11, 20):
            await engine.run_until(computed)
            interactive = a_request("interactive", 5)
            queue.put(interactive)
            running = len(engine.begun)
            engine.allowed.release(2)
            await interactive.result
            assert engine.begun[running] == 5
        engine.allowed.release(64)
        await asyncio.gather(*(request.result for request in bulk))
        queue.drain()
        await group.finish()

    asyncio.run(asyncio.wait_for(test(), SECONDS))


class Clocked(Instant):
    """Computes a batch when it is let; its clock goes on by a unit for each token, and then alone.

    Attributes:
        begun: How long the first row of each batch is that it has begun.
        ends: When it had computed each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.ends: list[int] = []
        self.allowed = threading.Semaphore(0)
        self._beginnings, self._endings = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def now(self) -> int:
        return self.ends[-1] if self.ends else 0

    def computed(self, length: int) -> int:
        """How many batches it has computed whose first row is so long."""
        return self.begun[: len(self.ends)].count(length)

    def run(self, batches: int) -> None:
        """Let it compute so many."""
        for _ in range(batches):
            assert self._beginnings.acquire(timeout=SECONDS)
            self.allowed.release()
            assert self._endings.acquire(timeout=SECONDS)

    def wait_until_begun(self) -> None:
        """Until it would compute, if it were let."""
        assert self._beginnings.acquire(timeout=SECONDS)
        self._beginnings.release()

    def submit(self, batch: Batch) -> Zeros:
        self.begun.append(int(batch.lengths[0]))
        self._beginnings.release()
        assert self.allowed.acquire(timeout=SECONDS)
        self.ends.append(self.now + int(batch.lengths[0]))
        self._endings.release()
        return super().submit(batch)


@pytest.mark.parametrize("callers", [1, 4, 16])
def test_the_99th_percentile_of_who_asks_for_little_is_bounded(callers: int) -> None:
    """At most three times what it is alone, and one batch: in an engine's time that only batches take."""
    little, much, asked, rng = 5, 40, 100, Random(callers)

    async def waits(bulk: int) -> list[int]:
        engine, queue = Clocked(), RequestQueue(4096)
        requests = [a_request(f"bulk {number % callers}", much) for number in range(bulk)]
        for request in requests:
            queue.put(request)
        batching = Batching(1, 10**6, 0.0)
        group = EngineGroup([lambda: engine], ["none"], queue, batching, lambda _: None, lambda _: None)
        await group.start()
        found = []
        for _ in range(asked):
            if bulk:
                # It comes as a batch begins, after some others: it waits for the whole of what runs.
                await asyncio.to_thread(engine.run, rng.randint(0, 3))
                await asyncio.to_thread(engine.wait_until_begun)
            start, before = engine.now, engine.computed(little)
            queue.put(a_request("interactive", little))
            while engine.computed(little) == before:
                await asyncio.to_thread(engine.run, 1)
            found.append(engine.now - start)
        engine.allowed.release(bulk + asked)
        await asyncio.gather(*(request.result for request in requests))
        queue.drain()
        await group.finish()
        return sorted(found)

    async def test() -> None:
        alone, beside = await waits(0), await waits(600)
        assert alone[98] == little
        assert beside[98] <= 3 * alone[98] + much

    asyncio.run(asyncio.wait_for(test(), SECONDS))


def test_callers_get_the_same_tokens_whatever_their_requests_are_like() -> None:
    async def taken() -> Counter[str]:
        queue = RequestQueue(1000)
        for caller, tokens in (("long", 400), ("short", 10), ("middle", 60)):
            for _ in range(6000 // tokens):
                queue.put(a_request(caller, tokens))
        tokens_of: Counter[str] = Counter()
        for _ in range(300):
            request = take(queue)
            tokens_of[request.caller] += request.tokens
            # At any time, as far as requests are whole.
            assert (
                max(tokens_of.values()) - min(tokens_of[each] for each in ("long", "short", "middle")) <= 410
            )
        return tokens_of

    assert asyncio.run(taken()).total() > 6000


def test_time_in_which_a_caller_asks_for_nothing_is_no_claim() -> None:
    """One that comes later is served next, and then shares: it gets nothing for the time before."""

    async def order() -> str:
        queue = RequestQueue(1000)
        for _ in range(60):
            queue.put(a_request("a", 10))
        for _ in range(20):
            take(queue)
        for _ in range(20):
            queue.put(a_request("b", 10))
        return "".join(take(queue).caller for _ in range(20))

    found = asyncio.run(order())
    assert found[0] == "b"
    assert found.count("b") in (10, 11)


def test_what_is_dropped_is_not_charged() -> None:
    async def test() -> None:
        queue = RequestQueue(1000)
        late = [a_request("a", 1000) for _ in range(50)]
        for request in late:
            queue.put(request)
            request.due = 0.0
        queue.put(a_request("a", 10))
        queue.put(a_request("b", 10))
        assert {take(queue).caller, take(queue).caller} == {"a", "b"}
        for request in late:
            with pytest.raises(LateError):
                await request.result
        assert queue.not_computed["dropped_late"] == 50

    asyncio.run(test())


def test_places_in_a_full_queue_are_shared() -> None:
    async def test() -> None:
        queue = RequestQueue(4)
        bulk = [a_request("a", 10) for _ in range(4)]
        for request in bulk:
            queue.put(request)
        queue.put(a_request("b", 10))
        with pytest.raises(QueueFullError):
            await bulk[-1].result
        with queue.expecting("b"):
            pass
        queue.put(a_request("b", 10))
        # Two each.
        for caller in ("a", "b"):
            with pytest.raises(QueueFullError):
                queue.put(a_request(caller, 10))
        assert queue.depth == 4
        with pytest.raises(QueueFullError):
            await bulk[-2].result

    asyncio.run(test())


def test_a_caller_is_its_token_where_tokens_are_checked() -> None:
    """Whatever its connections; where nobody checks the header, it could name any number of callers."""
    by_token, by_connection = Callers(by_token=True), Callers(by_token=False)
    here, there = "ipv4:127.0.0.1:50312", "ipv4:127.0.0.1:50313"
    assert by_token.key(here, "Bearer one") == by_token.key(there, "Bearer one")
    assert by_token.key(here, "Bearer one") != by_token.key(here, "Bearer two")
    assert "one" not in by_token.key(here, "Bearer one")
    assert by_connection.key(here, "Bearer one") == by_connection.key(here, "Bearer two")
    assert by_connection.key(here, "Bearer one") != by_connection.key(there, "Bearer one")
