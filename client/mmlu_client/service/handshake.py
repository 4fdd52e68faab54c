"""Why a server that is there cannot be spoken to: TLS where plaintext was expected, and the reverse."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from mmlu_client.service.address import Address

SECONDS = 3.0

Result = TypeVar("Result")


async def tls_trouble(address: Address, ca_file: Path | None) -> str | None:
    """Find out whether the server speaks TLS where the address says no TLS, or the reverse.

    Returns:
        One line that says so and what to do; None where nothing is wrong, or nobody is there.
    """
    if address.tls:
        return await _refused(address, ca_file)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        await _connect(address, context)
    except (OSError, asyncio.TimeoutError):
        return None
    return f"the server at {address.target} speaks TLS: use --url grpcs://{address.target}"


async def _refused(address: Address, ca_file: Path | None) -> str | None:
    try:
        await _connect(address, ssl.create_default_context(cafile=ca_file))
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {address.target} is not trusted ({error.verify_message}): "
            "give its authority with --tls-ca FILE, and the host by its name in the certificate"
        )
    except ssl.SSLError:
        return f"the server at {address.target} does not speak TLS: use --url grpc://{address.target}"
    except (OSError, asyncio.TimeoutError):
        return None
    return None


async def _connect(address: Address, context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["h2"])
    opening = asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname=address.certified_name
    )
    _, writer = await _in_time(opening)
    writer.close()
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await _in_time(writer.wait_closed())


async def _in_time(waiting: Coroutine[Any, Any, Result]) -> Result:
    """Wait for a coroutine, SECONDS at most.

    asyncio.wait_for before Python 3.12 may swallow a cancellation that comes together with the result:
    whoever waits for a server would go on, though the run is over.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.create_task(waiting)
    try:
        done, _ = await asyncio.wait({task}, timeout=SECONDS)
    finally:
        task.cancel()
    if not done:
        raise asyncio.TimeoutError
    return task.result()
