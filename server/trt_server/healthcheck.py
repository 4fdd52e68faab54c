"""`python -m trt_server.healthcheck`: exit status 0 while a server says SERVING, for containers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import trt_common.quiet_grpc  # noqa: F401

# isort: split
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trt_common.command_line.environment import set_variables
from trt_common.command_line.streams import take_any_text
from trt_common.one_line import cannot_read

# The answer of a proxy would say nothing of the server's health.
OPTIONS = (("grpc.enable_http_proxy", 0),)
SERVING = health_pb2.HealthCheckResponse.SERVING


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask a server for its health; the process exits with status 1 and one line where it is not SERVING.

    Args:
        arguments: Of the command line; None: those of the process.
    """
    take_any_text()
    parse = argparse.ArgumentParser(prog="trt_server.healthcheck", description=__doc__)
    port = set_variables().get("TRT_SERVER_GRPC_PORT", "8001")
    parse.add_argument(
        "--url",
        default=f"localhost:{port}",
        metavar="HOST:PORT",
        help="default: %(default)s; no proxy is asked",
    )
    parse.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM roots of a server that speaks TLS")
    parse.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="default: %(default)g")
    asked = parse.parse_args(arguments)
    try:
        status = _ask(asked.url, asked.tls_ca, asked.timeout)
    except OSError as error:
        sys.exit(f"{cannot_read(error)}; check --tls-ca")
    except grpc.RpcError as error:
        sys.exit(f"{asked.url}: {error.code().name}: {error.details()}")
    if status != SERVING:
        sys.exit(f"{asked.url}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")


def _ask(url: str, tls_ca: Path | None, timeout: float) -> int:
    """Return the health that a server tells.

    Raises:
        grpc.RpcError: It does not answer.
        OSError: `tls_ca` cannot be read.
    """
    if tls_ca is None:
        channel = grpc.insecure_channel(url, OPTIONS)
    else:
        channel = grpc.secure_channel(url, grpc.ssl_channel_credentials(tls_ca.read_bytes()), OPTIONS)
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout).status)


if __name__ == "__main__":
    main()
