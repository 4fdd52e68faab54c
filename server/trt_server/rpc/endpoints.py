"""The ports that the server always listens on: gRPC for the service, HTTP for Prometheus."""

from __future__ import annotations

import errno
import socket
import ssl
from wsgiref.simple_server import WSGIServer

import grpc
from grpc import aio
from trt_common.one_line import cannot_read, one_line

from trt_server.errors import StartError
from trt_server.observe.prometheus import CollectorRegistry, start_http_server
from trt_server.settings import Settings

MAX_REQUEST_BYTES = 64 * 1024 * 1024

GRPC_OPTIONS = (
    # Else a second server on the same port would take half the requests and nobody would notice.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # A client may ask this often whether its connection still works; gRPC's own limit is five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


def bind_grpc(server: aio.Server, settings: Settings) -> int:
    """Listen on the gRPC port.

    Returns:
        The port, which the system has chosen where the settings say 0.

    Raises:
        StartError: It cannot listen there, or the certificate and its key cannot be used.
    """
    address = f"{_bracketed(settings.host)}:{settings.grpc_port}"
    credentials = _credentials(settings)
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        reason = _why_not(settings.host, settings.grpc_port) or str(error)
        raise StartError(
            f"cannot listen on {address}: {reason}; choose another --host or --grpc-port"
        ) from None


def serve_metrics(registry: CollectorRegistry, settings: Settings) -> int:
    """Serve /metrics in threads of their own.

    Returns:
        The port, which the system has chosen where the settings say 0.

    Raises:
        StartError: It cannot listen there.
    """
    try:
        http: WSGIServer
        http, _ = start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise cannot_listen(settings.host, settings.metrics_port, "--metrics-port", error) from None
    return http.server_port


def cannot_listen(host: str, port: int, flag: str, error: OSError) -> StartError:
    """Return the error of a server that cannot listen on the port that this flag chose."""
    return StartError(f"cannot listen on {host}:{port}: {_reason(error)}; choose another --host or {flag}")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how TLS is spoken over HTTP; None where it is not.

    Raises:
        StartError: The certificate and its key cannot be used.
    """
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # ssl does not say which of them it cannot read.
        for path in (key, certificate):
            path.read_bytes()
        # No password: nobody is there to be asked for one.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise StartError(
            f"--tls-cert {certificate} and --tls-key {key} are not a certificate and its key, in PEM and "
            f"without a password: {error.reason or one_line(error)}"
        ) from None
    except OSError as error:
        raise StartError(f"{cannot_read(error)}; check --tls-cert and --tls-key") from None
    return context


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    certificate, key = settings.tls_cert, settings.tls_key
    # gRPC would say no more than that it cannot listen.
    if certificate is None or key is None or tls_context(settings) is None:
        return None
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _why_not(host: str, port: int) -> str | None:
    """Return why the operating system refuses to listen there, or None where it does not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    return error.strerror or str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
