"""The gRPC port: how it listens, and what it takes of one caller."""

from __future__ import annotations

from grpc import aio

from trt_server.access.certificates import Certificates
from trt_server.connections.listening import HANDSHAKE_SECONDS, address_of, cannot_listen, why_not
from trt_server.settings import Settings

# What an option of gRPC's core may be; as a time it means never.
LARGEST_OPTION = 2**31 - 1
MAX_UNREAD_SECONDS = 3600

# Callers may ask so often whether the server is there.
LEAST_SECONDS_BETWEEN_PINGS = 10


def grpc_options(settings: Settings, max_connections: int) -> list[tuple[str, int]]:
    """Return the options of gRPC's core.

    Args:
        settings: The server's.
        max_connections: Further ones are closed at once.
    """
    return [
        # Else a second server on the same port would take half the requests and nobody would notice.
        ("grpc.so_reuseport", 0),
        # Of a compressed message also what it is uncompressed.
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        # Else the window of a fast connection grows to megabytes, and as much of every call's message is held
        # before the call has a place for it. A message that has one gets a window of its own size.
        ("grpc.http2.bdp_probe", 0),
        # Calls wait until they are read, and are refused with a reason then: gRPC would end some with
        # CANCELLED.
        ("grpc.server.max_pending_requests", LARGEST_OPTION),
        ("grpc.server.max_pending_requests_hard_limit", LARGEST_OPTION),
        ("grpc.server_max_unrequested_time_in_server", MAX_UNREAD_SECONDS),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.idle_timeout)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(HANDSHAKE_SECONDS)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        # What counts of the two: gRPC's core 1.85 waits for a ping as long as this says, a minute by default.
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_SECONDS_BETWEEN_PINGS * 1000),
    ]


def bind_grpc(server: aio.Server, settings: Settings, certificates: Certificates | None) -> int:
    """Listen on the gRPC port.

    Args:
        server: What answers.
        settings: For the address.
        certificates: TLS is spoken with them; None: it is not spoken.

    Returns:
        The port, which the system has chosen where the settings say 0.

    Raises:
        StartError: It cannot listen there.
    """
    host, port = settings.host, settings.grpc_port
    address = address_of(host, port)
    try:
        if certificates is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, certificates.grpc_credentials()))
    except RuntimeError as error:
        raise cannot_listen(host, port, "--grpc-port", why_not(host, port) or str(error)) from None


def _milliseconds(seconds: float) -> int:
    return min(LARGEST_OPTION, max(1, round(seconds * 1000)))
