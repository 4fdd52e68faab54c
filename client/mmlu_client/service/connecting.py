"""An address → the connection to it, by the protocol and the kind of server behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmlu_client.service.access import Access
from mmlu_client.service.address import Address
from mmlu_client.service.connection import Connection
from mmlu_client.service.model_config import ModelConfig
from mmlu_client.service.proxy import proxy_to
from mmlu_client.service.server_connection import ServerConnection
from mmlu_client.service.server_kind import ServerKind


@dataclass(frozen=True)
class Connecting:
    """Makes connections.

    Attributes:
        kind: of the servers.
        access: what every server is shown, and whose certificates are trusted.
        say: prints a line for the person.
        model_name: of the model that is asked over HTTP, of several.
        model_config: of the model that is served over HTTP.
        peak_flops: of all devices of one such server together, in FLOP/s.
        request_timeout: how long an answer over HTTP may take before the load begins, in seconds.
    """

    kind: ServerKind
    access: Access
    say: Callable[[str], None]
    model_name: str | None = None
    model_config: ModelConfig | None = None
    peak_flops: float | None = None
    request_timeout: float | None = None

    async def connection(self, address: Address) -> ServerConnection:
        """Prepare the connection to a server; nothing is sent to it yet.

        Raises:
            InputError: the file of certificates cannot be used.
        """
        if address.http:
            return self._over_http(address)
        return Connection(address, self.access, self.say, await proxy_to(address))

    def _over_http(self, address: Address) -> ServerConnection:
        # aiohttp takes a while to import, and servers over gRPC do without.
        from mmlu_client.service.http.choice import dialect_of
        from mmlu_client.service.http.connection import Given, HttpConnection
        from mmlu_client.service.http.endpoint import HttpEndpoint

        endpoint = HttpEndpoint(address, self.access)
        flops_of = self.model_config.flops if self.model_config is not None else None
        return HttpConnection(
            endpoint,
            lambda: dialect_of(self.kind, endpoint, self.model_name, flops_of),
            Given(self.model_config, self.peak_flops, self.request_timeout),
            self.say,
        )
