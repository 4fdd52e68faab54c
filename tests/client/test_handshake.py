"""Finding out whether a server that is away speaks TLS, while the run may end at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mmlu_client.service.access import Access
from mmlu_client.service.address import Address
from mmlu_client.service.handshake import tls_trouble


def test_a_cancellation_that_comes_with_the_result_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a client whose last answer is there waits for a dead server all of --server-timeout."""

    async def test() -> None:
        refused = asyncio.Event()

        async def refuse(*_: Any, **__: Any) -> None:
            await refused.wait()
            raise ConnectionRefusedError

        monkeypatch.setattr(asyncio, "open_connection", refuse)
        looking = asyncio.create_task(tls_trouble(Address("localhost", 1, tls=False), Access()))
        await asyncio.sleep(0.01)
        refused.set()
        await asyncio.sleep(0)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    asyncio.run(test())
