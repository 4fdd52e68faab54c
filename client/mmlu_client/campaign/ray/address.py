"""Which Ray cluster is meant, and whether it is there."""

from __future__ import annotations

import os
import socket
import subprocess

from trt_common.installed_program import program

from mmlu_client.errors import InputError

ADDRESS = "RAY_ADDRESS"
AUTO = "auto"
# Ray itself tries for minutes to reach a cluster, and its check of a head's health has no limit either.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 15.0
HOW_TO_START = "start one with `ray start --head`, or name it: --on ray:HOST:PORT"


def cluster_address(named: str | None) -> str:
    """Return the address of the cluster that is meant, which something answers at.

    Args:
        named: what the command line says; None: RAY_ADDRESS, or the cluster that runs on this machine.

    Raises:
        InputError: it is no address of this kind, or nothing answers there.
    """
    variable = os.environ.get(ADDRESS) or None
    address, whose = (named, "--on ray:") if named is not None else (variable, f"{ADDRESS}=")
    if address in (None, AUTO):
        address, whose = _of_this_machine(), ""
    assert address is not None
    if "://" in address:
        raise InputError(
            f"{whose}{address}: a campaign has to run on a machine of the cluster, and not through a client "
            "of it: start it there with --on ray, or with `ray job submit`"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise InputError(f"{whose}{address} is no HOST:PORT of a Ray cluster's head")
    if (why := _why_not(host.strip("[]"), int(port))) is not None:
        raise InputError(f"no Ray cluster answers at {whose}{address}: {why}; {HOW_TO_START}")
    return address


def _of_this_machine() -> str:
    from ray._private import services

    try:
        found: str = services.canonicalize_bootstrap_address_or_die(None)
    except ConnectionError as error:
        if "multiple" in str(error):
            raise InputError("several Ray clusters run here: name one, --on ray:HOST:PORT") from None
        raise InputError(f"no Ray cluster runs here: {HOW_TO_START}") from None
    return found


def _why_not(host: str, port: int) -> str | None:
    """Return why nothing there is the head of a cluster; None: something is."""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    command = [program("ray"), "health-check", "--skip-version-check", f"--address={host}:{port}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return "something else listens there"
    except OSError as error:
        return f"cannot run {command[0]}: {error.strerror}"
    return "something else listens there" if done.returncode else None
