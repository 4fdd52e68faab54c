"""What each port asks of its callers, as the settings say."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from trt_common.access.loopback import are_loopback, is_loopback_host

from trt_server.access.certificates import Certificates
from trt_server.access.tokens import Tokens
from trt_server.settings import Settings


@dataclass(frozen=True)
class Access:
    """What a port asks of its callers.

    Attributes:
        tokens: One of them is asked for; None: none is.
        certificates: TLS is spoken with them; None: it is not spoken.
    """

    tokens: Tokens | None = None
    certificates: Certificates | None = None


@dataclass(frozen=True)
class PortsAccess:
    """What the server's ports ask of their callers.

    Attributes:
        service: gRPC and OpenAI's completions.
        metrics: Prometheus.
    """

    service: Access
    metrics: Access


def read_access(settings: Settings) -> PortsAccess:
    """Read the files that the settings name.

    Raises:
        StartError: One of them cannot be used.
    """
    tokens = None if settings.token_file is None else Tokens(settings.token_file)
    certificates = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return PortsAccess(
        Access(tokens, certificates),
        Access(
            tokens if settings.metrics_token else None,
            certificates if settings.metrics_tls else None,
        ),
    )


def access_warning(settings: Settings) -> str | None:
    """Return in one line what is missing where other machines may reach the server; None: nothing."""
    if _is_this_machine(settings.host):
        return None
    if settings.token_file is None and settings.tls_client_ca is None:
        return (
            f"whoever reaches {settings.host} may use this server: give --token-file or --tls-client-ca, or "
            "leave --host away"
        )
    if settings.tls_cert is None:
        return (
            "tokens and prompts cross the network as plain text: give --tls-cert and --tls-key, unless "
            "something in front of this server speaks TLS"
        )
    return None


def _is_this_machine(host: str) -> bool:
    """Return whether only this machine comes in at an address, or at those of a name."""
    if (told := is_loopback_host(host)) is not None:
        return told
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        # Listening there says what is wrong.
        return True
    return are_loopback(str(entry[4][0]) for entry in found)
