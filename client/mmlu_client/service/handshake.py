"""Why a server that is there cannot be spoken to: TLS on one side alone, or certificates that do not fit."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar

from mmlu_client.service.access import Access
from mmlu_client.service.address import Address

SECONDS = 3.0

Result = TypeVar("Result")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def tls_trouble(address: Address, access: Access) -> str | None:
    """Find out whether one side alone speaks TLS, or one does not take the certificate of the other.

    Returns:
        One line that says so and what to do; None where nothing is wrong, or nobody is there.
    """
    if address.tls:
        return await _refused(address, access)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await _connect(address, context)
    except (OSError, asyncio.TimeoutError):
        return None
    await _close(writer)
    return f"the server at {address.target} speaks TLS: use --url grpcs://{address.target}"


async def _refused(address: Address, access: Access) -> str | None:
    try:
        # Twice, because a server that is just being stopped ends a connection, too.
        if await _is_kept(address, access) or await _is_kept(address, access):
            return None
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {address.target} is not trusted ({error.verify_message}): "
            "give its authority with --tls-ca FILE, and the host by its name in the certificate"
        )
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError:
        return f"the server at {address.target} does not speak TLS: use --url grpc://{address.target}"
    except (OSError, asyncio.TimeoutError):
        return None
    if access.certificate is None:
        return (
            f"the server at {address.target} ends the connection after the handshake of TLS: where it asks "
            "for a client's certificate, give --tls-cert and --tls-key"
        )
    return (
        f"the server at {address.target} does not take the certificate in {access.certificate}: its "
        "authority has to be in the server's --tls-client-ca, and it must not have expired"
    )


async def _is_kept(address: Address, access: Access) -> bool:
    """Return whether the server goes on after the handshake: a client's certificate is looked at after it."""
    reader, writer = await _connect(address, access.tls_context())
    try:
        return bool(await _in_time(reader.read(1)))
    except asyncio.TimeoutError:
        return True
    except OSError:
        return False
    finally:
        await _close(writer)


async def _connect(address: Address, context: ssl.SSLContext) -> Streams:
    context.set_alpn_protocols(["h2"])
    opening = asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname=address.certified_name
    )
    return await _in_time(opening)


async def _close(writer: asyncio.StreamWriter) -> None:
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
