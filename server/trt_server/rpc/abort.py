"""Errors as the end of a gRPC call: whatever was raised, the caller gets a status and its reason."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import NoReturn

import grpc
from grpc import aio

from trt_server.errors import ScoringError, failure
from trt_server.rpc.encoding import encode_error
from trt_server.rpc.types import Context
from trt_server.status import Status

log = logging.getLogger(__name__)

# These end the call, or the process, by themselves: the caller is gone, has its status, or the server stops.
PASSING = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, aio.BaseError)


def scoring_error(error: BaseException) -> ScoringError:
    """Return what an error is to the caller: itself, or a failure of the server, which is logged.

    Raises:
        BaseException: It is one that ends a call without an answer.
    """
    if isinstance(error, PASSING):
        raise error
    if not isinstance(error, ScoringError):
        log.error("a request failed in the service", exc_info=error)
    # Its frames hold the request, and the error lives until the caller has its status.
    traceback.clear_frames(error.__traceback__)
    return error if isinstance(error, ScoringError) else failure(error)


def grpc_status(status: Status) -> grpc.StatusCode:
    """Return gRPC's own status of this name."""
    return grpc.StatusCode[status.value]


async def abort(context: Context, error: ScoringError) -> NoReturn:
    """End a call with an error's status, its text, and when to ask again."""
    status = encode_error(error)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc_status(error.status), status.message, trailing_metadata=metadata)
    raise AssertionError("abort always raises")
