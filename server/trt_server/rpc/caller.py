"""Whose request it is: callers share an engine fairly, and what one asks for does not delay the others."""

from __future__ import annotations

from google.protobuf.message import Message
from grpc import aio


def caller_key(peer: str) -> str:
    """Return what is equal for the requests of one caller.

    Args:
        peer: The other end of the connection, as `ipv4:127.0.0.1:50312`.
    """
    return peer


def caller_of(context: aio.ServicerContext[Message, Message]) -> str:
    """Return whose call it is."""
    return caller_key(context.peer())
