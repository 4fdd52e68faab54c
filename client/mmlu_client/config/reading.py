"""The command line of a run → its settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trt_common.access.key_pair import half_of_pair
from trt_common.command_line.option import read_options
from trt_common.command_line.parser import FlagParser, RefusedArgumentError

from mmlu_client.config.command_line import PROGRAM, refusing_parser, run_parser
from mmlu_client.config.earlier_words import words_of
from mmlu_client.config.settings import Settings
from mmlu_client.errors import InputError
from mmlu_client.service.server_kind import spoken_to

# A resumed run takes these from its own command line only.
NOT_RESUMED = frozenset({"config", "resume", "output"})
# Flags that say how MMLU's questions are chosen and asked.
NOT_OF_TASKS = ("data", "subjects", "prompt_format", "reuse_prefix", "validate")
OF_TLS = ("tls_ca", "tls_cert", "tls_key")
# Flags of servers that are asked over HTTP.
OF_HTTP = ("model_name", "api_key_file", "model_config", "peak_flops", "server_metrics")
# Flags that say how many requests come, or when.
LOADS = ("sweep", "concurrency", "request_rate", "offline")


def settings_from(
    arguments: Sequence[str], command: str | None = None, parser: FlagParser | None = None
) -> Settings:
    """Return what a run is to do.

    Exits with status 2 and one line where an argument is wrong.

    Args:
        arguments: the flags.
        command: `run`, where the command line names it.
        parser: reads the flags; by default the one that ends the process where an argument is wrong.

    Raises:
        InputError: two flags do not go together, or what one names is wrong.
    """
    parser = parser or run_parser(command)
    chosen = own = parser.parse_args(arguments)
    for line in parser.unknown_variables():
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
    if chosen.resume is not None:
        from mmlu_client.rundir.earlier_flags import flags_of

        flags = _checked(chosen.resume, flags_of(Path(chosen.resume).expanduser()))
        chosen = _resumed(parser, arguments, chosen, flags)
    settings = read_options(Settings, chosen, given=_given(chosen))
    addresses = tuple(spoken_to(address, settings.server_kind) for address in settings.addresses)
    settings = replace(settings, addresses=addresses)
    _check_none_is_idle(own, settings)
    return settings


def _checked(folder: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of the run that is resumed, as the parser gives them that reads them again.

    Args:
        folder: the run's.
        flags: as its manifest has them.

    Raises:
        InputError: a value is none that its flag takes.
    """
    parser = refusing_parser()
    known = {name: value for name, value in flags.items() if f"--{name.replace('_', '-')}" in parser.flags}
    try:
        read = vars(parser.parse_args(words_of(known)))
    except RefusedArgumentError as error:
        raise InputError(
            f"--resume {folder}: the flags in its manifest cannot be read: {error}; put back a copy of it, "
            "or run it again"
        ) from None
    return {name: read[name] for name in known}


def _resumed(
    parser: FlagParser, arguments: Sequence[str], chosen: argparse.Namespace, flags: dict[str, Any]
) -> argparse.Namespace:
    """Return the flags of the run that is resumed, with those of this command line put over them.

    Args:
        parser: of a run.
        arguments: this command line.
        chosen: what it says, with the defaults where it says nothing.
        flags: those of the run that is resumed, as a parser of them gave them.

    Raises:
        InputError: a flag is given that a resumed run takes from its folder.
    """
    if chosen.output is not None:
        raise InputError("--resume goes on in its own folder: leave --output away")
    is_sweep = bool(flags.get("sweep"))
    loads = [name for name in LOADS if getattr(chosen, name) and (is_sweep or name == "sweep")]
    if loads:
        what = "a sweep, which has its loads" if is_sweep else "one run"
        raise InputError(
            f"--resume {chosen.resume} goes on with {what}: leave --{loads[0].replace('_', '-')} away"
        )
    parser.set_defaults(**flags)
    again: argparse.Namespace = parser.parse_args(arguments)
    return again


def _check_none_is_idle(own: argparse.Namespace, settings: Settings) -> None:
    """Refuse a flag that would do nothing.

    Args:
        own: the flags of this start.
        settings: with those of the run that it resumes, of which any may be idle.

    Raises:
        InputError: one of `own` would do nothing.
    """
    is_open_loop = any(plan.mode == "open" for plan in settings.sweep or [settings.load])
    if own.arrival_pattern is not None and not is_open_loop:
        raise InputError("--arrival-pattern is of an open loop: give --request-rate too, or leave it away")
    if settings.tasks is not None:
        _check_with_task(own)
    elif own.include_path:
        raise InputError("--include-path is of tasks: give --task too, or leave it away")
    _check_tls(own, settings)
    _check_over_http(own, settings)
    if own.metrics_host and settings.metrics_port is None:
        raise InputError("--metrics-host is of metrics: give --metrics-port too, or leave it away")


def _check_tls(own: argparse.Namespace, settings: Settings) -> None:
    """Refuse flags of TLS that would do nothing.

    Raises:
        InputError: one of `own` would.
    """
    if (wrong := half_of_pair(settings.tls_cert, settings.tls_key)) is not None:
        raise InputError(wrong)
    given = [name for name in OF_TLS if getattr(own, name)]
    if given and not any(address.tls for address in settings.addresses):
        raise InputError(
            f"--{given[0].replace('_', '-')} is of servers that speak TLS: write grpcs://host:port, or "
            "https://host:port, in --url, or leave it away"
        )


def _check_over_http(own: argparse.Namespace, settings: Settings) -> None:
    """Refuse flags that mean nothing for servers over HTTP, or for others.

    Raises:
        InputError: one of `own` does nothing, or servers of several protocols are named.
    """
    over_http = {address.http for address in settings.addresses}
    if len(over_http) > 1:
        raise InputError("--url names servers over gRPC and over HTTP: one run asks servers of one kind")
    is_over_http = over_http.pop()
    if own.validate and is_over_http:
        raise InputError("--validate asks a trt-server's reference engine, over gRPC: leave it away")
    if own.token_file and own.api_key_file:
        raise InputError("--token-file and --api-key-file name the same thing: give one of them")
    idle = [name for name in OF_HTTP if getattr(own, name)]
    if idle and not is_over_http:
        raise InputError(
            f"--{idle[0].replace('_', '-')} is of servers that are asked over HTTP: write http://host:port "
            "in --url, or leave it away"
        )


def _check_with_task(own: argparse.Namespace) -> None:
    """Refuse a flag that means nothing beside --task.

    Raises:
        InputError: one of `own` does.
    """
    idle = [name for name in NOT_OF_TASKS if getattr(own, name)]
    if idle:
        raise InputError(
            f"--{idle[0].replace('_', '-')} is of MMLU's questions, and --task asks tasks of lm-eval: leave "
            "one of them away"
        )


def _given(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that a run which resumes this one starts from, as JSON holds them."""
    flags = {name: value for name, value in vars(chosen).items() if name not in NOT_RESUMED}
    if chosen.goodput:
        flags["goodput"] = [str(each) for each in chosen.goodput]
    return flags
