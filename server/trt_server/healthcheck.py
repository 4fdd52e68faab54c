"""`python -m trt_server.healthcheck`: exit status 0 while a server says SERVING, for containers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trt_common.quiet_grpc  # noqa: F401

# isort: split
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trt_common.access.key_pair import half_of_pair
from trt_common.command_line.environment import set_variables
from trt_common.command_line.streams import take_any_text
from trt_common.one_line import cannot_read, one_line

# The answer of a proxy would say nothing of the server's health.
OPTIONS = (("grpc.enable_http_proxy", 0),)
SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class _Tls:
    """How TLS is spoken.

    Attributes:
        roots: Certificates to trust, in PEM.
        pair: Key and certificate to show, in PEM; None: none is shown.
        name: The one in the server's certificate; None: that of the URL.
    """

    roots: bytes
    pair: tuple[bytes, bytes] | None
    name: str | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask a server for its health; the process exits with status 1 and one line where it is not SERVING.

    Args:
        arguments: Of the command line; None: those of the process.
    """
    take_any_text()
    variables = set_variables()
    asked = _parser(variables).parse_args(arguments)
    if (wrong := half_of_pair(asked.tls_cert, asked.tls_key)) is not None:
        sys.exit(wrong)
    try:
        tls = _tls(asked, variables)
    except OSError as error:
        sys.exit(f"{cannot_read(error)}; check --tls-ca, --tls-cert and --tls-key")
    except ValueError as error:
        sys.exit(f"{variables['TRT_SERVER_TLS_CERT']} holds no certificate in PEM: {one_line(error)}")
    try:
        status = _ask(asked.url, tls, asked.timeout)
    except grpc.RpcError as error:
        sys.exit(f"{asked.url}: {error.code().name}: {error.details()}")
    if status != SERVING:
        sys.exit(f"{asked.url}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")


def _parser(variables: Mapping[str, str]) -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(
        prog="trt_server.healthcheck",
        description=__doc__,
        epilog="Where TRT_SERVER_TLS_CERT is set, as for the server itself, TLS is spoken and that "
        "certificate trusted; where TRT_SERVER_TLS_CLIENT_CA is set too, the same certificate is shown.",
    )
    parse.add_argument(
        "--url",
        default=f"localhost:{variables.get('TRT_SERVER_GRPC_PORT', '8001')}",
        metavar="HOST:PORT",
        help="default: %(default)s; no proxy is asked",
    )
    parse.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM roots of a server that speaks TLS")
    parse.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM certificate chain to show to it")
    parse.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM private key")
    parse.add_argument(
        "--tls-name", metavar="NAME", help="name in its certificate, where it is not the URL's"
    )
    parse.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="default: %(default)g")
    return parse


def _tls(asked: argparse.Namespace, variables: Mapping[str, str]) -> _Tls | None:
    """Return how TLS is spoken; None where it is not.

    Raises:
        OSError: A file cannot be read.
        ValueError: The server's own file holds no certificate.
    """
    own, key = (variables.get(f"TRT_SERVER_TLS_{name}") for name in ("CERT", "KEY"))
    if asked.tls_ca is None and own is None:
        return None
    certificate, its_key = asked.tls_cert, asked.tls_key
    if certificate is None and own and key and "TRT_SERVER_TLS_CLIENT_CA" in variables:
        certificate, its_key = Path(own), Path(key)
    pair = (its_key.read_bytes(), certificate.read_bytes()) if certificate and its_key else None
    if asked.tls_ca is not None:
        return _Tls(asked.tls_ca.read_bytes(), pair, asked.tls_name)
    roots = Path(str(own)).read_bytes()
    return _Tls(roots, pair, asked.tls_name or _name_in(roots))


def _name_in(chain: bytes) -> str | None:
    """Return a name that the first certificate of a chain is for; None where it has none.

    Raises:
        ValueError: It is no chain in PEM.
    """
    # Here, because most servers are asked without TLS, and often.
    from cryptography import x509

    certificate = x509.load_pem_x509_certificates(chain)[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return found[0].replace("*", "health") if found else None


def _ask(url: str, tls: _Tls | None, timeout: float) -> int:
    """Return the health that a server tells.

    Raises:
        grpc.RpcError: It does not answer.
    """
    if tls is None:
        channel = grpc.insecure_channel(url, OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(tls.roots, *(tls.pair or ()))
        named = (("grpc.ssl_target_name_override", tls.name),) if tls.name else ()
        channel = grpc.secure_channel(url, credentials, (*OPTIONS, *named))
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout).status)


if __name__ == "__main__":
    main()
