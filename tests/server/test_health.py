"""What health says once the server takes no work any more."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2
from trt_server.observe.metrics import Metrics
from trt_server.rpc.health import Health


@pytest.mark.parametrize("how", ["drained", "lost"])
def test_a_server_that_is_over_serves_no_more(how: str) -> None:
    """Whatever is said after it, as when an engine is lost while the server begins to serve."""
    metrics = Metrics()

    async def told() -> list[tuple[bool, object, float | None]]:
        health = Health(metrics.model)
        found = []
        await health.set(serving=True)
        found.append(await seen(health))
        if how == "drained":
            await health.end()
        else:
            health.lose()
        await health.set(serving=True)
        found.append(await seen(health))
        return found

    async def seen(health: Health) -> tuple[bool, object, float | None]:
        answer = await health.servicer.Check(health_pb2.HealthCheckRequest(), None)
        return health.serving, answer.status, metrics.registry.get_sample_value("trt_server_serving")

    status = health_pb2.HealthCheckResponse
    assert asyncio.run(told()) == [(True, status.SERVING, 1), (False, status.NOT_SERVING, 0)]
