"""What a server's own Prometheus endpoint counts: vLLM's and SGLang's names for the same things."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from mmlu_client.errors import ClientError, InputError, RunError, StreamLostError
from mmlu_client.rundir.counter_log import CounterReading, append_reading
from mmlu_client.service.counters import Counters
from mmlu_client.service.http.endpoint import HttpEndpoint
from mmlu_client.service.plausible import can_be_counted
from mmlu_client.watch.prometheus import text_string_to_metric_families

# Field of Counters → its sample, in each server's words.
NAMES: Mapping[str, Mapping[str, str]] = {
    "vLLM": {
        "prompt_tokens": "vllm:prompt_tokens_total",
        "cached_tokens": "vllm:prefix_cache_hits_total",
        "queue_seconds": "vllm:request_queue_time_seconds_sum",
        "queued": "vllm:request_queue_time_seconds_count",
    },
    "SGLang": {
        "prompt_tokens": "sglang:prompt_tokens_total",
        "cached_tokens": "sglang:cached_tokens_total",
        "queue_seconds": "sglang:queue_time_seconds_sum",
        "queued": "sglang:queue_time_seconds_count",
    },
}
# The one that says whose metrics they are; of the others a server may have none before its first prompt.
SIGN = "prompt_tokens"
CALL_SECONDS = 5.0
# A server may count a prompt a moment after it answered: counters are read until they stand still.
STILL_SECONDS, MOST_READINGS = 0.25, 12


class CounterWatch:
    """Reads the servers' counters before and after a phase, as an async context manager."""

    def __init__(
        self,
        path: Path,
        endpoints: Sequence[HttpEndpoint],
        phase: str,
        session: int,
        say: Callable[[str], None],
    ) -> None:
        self._path = path
        self._endpoints = endpoints
        self._phase = phase
        self._session = session
        self._say = say

    async def __aenter__(self) -> CounterWatch:
        """Read once.

        Raises:
            InputError: a server's metrics are not known.
            RunError: a server does not answer.
        """
        for endpoint in self._endpoints:
            self._append(endpoint, await read_counters(endpoint, CALL_SECONDS))
        return self

    async def __aexit__(self, *_: object) -> None:
        for endpoint in self._endpoints:
            await self._read_at_the_end(endpoint)

    async def _read_at_the_end(self, endpoint: HttpEndpoint) -> None:
        try:
            self._append(endpoint, await _still(endpoint))
        except ClientError as error:
            self._say(f"what the servers counted is not known: {error}")

    def _append(self, endpoint: HttpEndpoint, counters: Counters) -> None:
        reading = CounterReading(self._phase, self._session, str(endpoint.address), counters)
        try:
            append_reading(self._path, reading)
        except OSError as error:
            self._say(f"what the servers counted is lost: cannot write {self._path}: {error.strerror}")


async def _still(endpoint: HttpEndpoint) -> Counters:
    found = await read_counters(endpoint, CALL_SECONDS)
    for _ in range(MOST_READINGS):
        await asyncio.sleep(STILL_SECONDS)
        before, found = found, await read_counters(endpoint, CALL_SECONDS)
        if found == before:
            break
    return found


async def read_counters(endpoint: HttpEndpoint, seconds: float) -> Counters:
    """Read the counters of a server.

    Args:
        endpoint: of its metrics.
        seconds: how long to wait at most.

    Raises:
        InputError: what is there are not the metrics of a known server, or cannot be.
        RunError: there is no answer.
    """
    name = f"--server-metrics {endpoint.address}"
    try:
        answer = await endpoint.get("", seconds)
    except StreamLostError as loss:
        raise RunError(f"{name}: {loss}") from None
    if not answer.is_good:
        raise InputError(f"{name}: {answer.message}")
    try:
        samples = _samples(answer.body.decode())
    except ValueError as error:
        raise InputError(f"{name} is not in Prometheus' form: {error}") from None
    for names in NAMES.values():
        if names[SIGN] in samples:
            found = {each.name: samples.get(names[each.name], 0.0) for each in fields(Counters)}
            for field, value in found.items():
                if not can_be_counted(value):
                    raise InputError(f"{name} counts what cannot be: {names[field]} is {value:g}")
            return Counters(**found)
    known = " nor ".join(f"{server}'s {names[SIGN]}" for server, names in NAMES.items())
    raise InputError(f"{name} has neither {known}: only these servers' metrics are known")


def _samples(text: str) -> dict[str, float]:
    """Return the sum of each sample over its labels: engines, or where tokens were cached."""
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found
