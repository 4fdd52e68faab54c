"""The kinds of servers, and the protocol that each speaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mmlu_client.errors import InputError
from mmlu_client.service.address import Address

ServerKind = Literal["auto", "trt-server", "openai", "sglang"]
AUTO: ServerKind = "auto"
TRT_SERVER: ServerKind = "trt-server"
KINDS: tuple[ServerKind, ...] = (AUTO, TRT_SERVER, "openai", "sglang")


def spoken_to(address: Address, kind: ServerKind) -> Address:
    """Return an address with the protocol that a kind of server speaks.

    Raises:
        InputError: the address names another protocol.
    """
    if kind == AUTO or address.http is (kind != TRT_SERVER):
        return address
    if address.has_scheme:
        speaks = "gRPC: write grpc://" if kind == TRT_SERVER else "HTTP: write http://"
        raise InputError(
            f"--server-kind {kind}: such a server speaks {speaks}{address.target}, not {address}"
        )
    if address.all_of_name:
        raise InputError(
            f"--server-kind {kind}: dns:/// is of servers that speak gRPC: name one server over HTTP"
        )
    return replace(address, http=True)
