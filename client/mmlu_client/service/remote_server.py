"""One server as the client knows it: its name, its connection, the model it holds."""

from __future__ import annotations

from dataclasses import dataclass

from mmlu_client.service.model import ServedModel
from mmlu_client.service.server_connection import ServerConnection


@dataclass(frozen=True)
class RemoteServer:
    """A server that takes part in a run.

    Attributes:
        name: its address, as reports show it.
        connection: the channel to it.
        model: what it held when it joined the run, or when it was asked last.
    """

    name: str
    connection: ServerConnection
    model: ServedModel
