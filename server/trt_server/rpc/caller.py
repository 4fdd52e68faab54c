"""Whose request it is: callers share an engine fairly, and what one asks for does not delay the others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from trt_common.access.token import AUTHORIZATION, token_of

from trt_server.rpc.types import Context


@dataclass(frozen=True)
class Callers:
    """Tells callers apart.

    Attributes:
        by_token: The server asks for tokens: who has the same token is one caller, whatever its connections.
            Else each connection is one, because a header that nobody checks could name any number of callers.
    """

    by_token: bool

    def key(self, peer: str, authorization: str | None) -> str:
        """Return what is equal for the requests of one caller.

        Args:
            peer: The other end of the connection, as `ipv4:127.0.0.1:50312`.
            authorization: The header, which was checked where the server asks for tokens.
        """
        # The token and not the header: that may be written in many ways for one token.
        token = token_of(authorization) if self.by_token and authorization is not None else None
        return peer if token is None else f"token:{hashlib.sha256(token.encode()).hexdigest()}"

    def of_call(self, context: Context) -> str:
        """Return whose call it is."""
        metadata = context.invocation_metadata() or ()
        header = next((str(value) for key, value in metadata if key == AUTHORIZATION), None)
        return self.key(context.peer(), header)
