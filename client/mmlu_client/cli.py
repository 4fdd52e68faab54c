"""The command line of mmlu-client: flags, config file and environment become Settings."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from trt_common.command_line.streams import take_any_text

from mmlu_client.config.flag_values import goal
from mmlu_client.config.flags import ARRIVAL_PATTERN, CONCURRENCY, METRICS_HOST, PROGRAM, run_parser
from mmlu_client.config.settings import LoadPlan, Settings
from mmlu_client.errors import ClientError, InputError, StoppedError
from mmlu_client.process_start import process_started
from mmlu_client.service.address import Address, parse_addresses
from mmlu_client.standard_error import outlive_standard_error

# A resumed run takes these from its own command line only.
NOT_RESUMED = frozenset({"config", "resume", "output"})
# Flags that say how many requests come, or when.
LOADS = ("sweep", "concurrency", "request_rate", "offline")


def settings_from(arguments: Sequence[str] | None) -> Settings:
    """Exits with status 2 and one line where an argument is wrong. Raises InputError."""
    parser = run_parser()
    chosen = own = parser.parse_args(arguments)
    for line in parser.unknown_variables():
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
    if chosen.resume is not None:
        from mmlu_client.run.resume import flags_of

        chosen = _resumed(parser, arguments, chosen, flags_of(Path(chosen.resume).expanduser()))
    load, addresses = _load_plan(chosen), parse_addresses(chosen.url)
    _check_none_is_idle(own, chosen, addresses)
    return Settings(
        addresses=addresses,
        tls_ca=_path(chosen.tls_ca),
        batch_size=chosen.bs,
        data=chosen.data,
        subjects=_subjects(chosen.subjects),
        limit=chosen.limit,
        few_shots=chosen.few_shots,
        prompt_format=chosen.prompt_format,
        max_prompt_tokens=chosen.max_prompt_tokens,
        tokenizer=chosen.tokenizer,
        output=_path(chosen.output),
        server_timeout=chosen.server_timeout,
        metrics_host=chosen.metrics_host or METRICS_HOST,
        metrics_port=chosen.metrics_port,
        validate=chosen.validate,
        reuse_prefix=chosen.reuse_prefix,
        load=load,
        sweep=_sweep(chosen, load),
        goals=tuple(chosen.goodput or ()),
        seed=chosen.random_seed,
        early_stop=chosen.early_stop,
        resume=_path(chosen.resume),
        format=chosen.format,
        verbose=chosen.verbose,
        given=_given(chosen),
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run mmlu-client and exit: 0, 2 for a bad argument, 1 for a run that failed, 128 + n for signal n."""
    take_any_text()
    # Called from another program, a run is not as old as the process.
    started = process_started() if arguments is None else time.monotonic()
    words = list(sys.argv[1:] if arguments is None else arguments)
    outlive_standard_error()
    try:
        if words[:1] in (["compare"], ["report"]):
            from mmlu_client.report.after import after  # what works on finished runs

            after(words)
        else:
            _measure(settings_from(words), [sys.argv[0] if arguments is None else PROGRAM, *words], started)
    except ClientError as error:
        fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        fail("stopped by SIGINT", StoppedError(signal.SIGINT).exit_status)
    sys.exit(0)


def _measure(settings: Settings, command_line: Sequence[str], started: float) -> None:
    # gRPC and numpy: --help need not wait for them.
    from mmlu_client.run.run import run
    from mmlu_client.run.sweep import sweep

    (sweep if settings.sweep else run)(settings, command_line, started)


def fail(message: str, status: int) -> NoReturn:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


def _resumed(
    parser: Any, arguments: Sequence[str] | None, chosen: argparse.Namespace, flags: dict[str, Any]
) -> argparse.Namespace:
    """The flags of the run that is resumed, with what this command line says put over them."""
    if chosen.output is not None:
        raise InputError("--resume goes on in its own folder: leave --output away")
    is_sweep = bool(flags.get("sweep"))
    loads = [name for name in LOADS if getattr(chosen, name) and (is_sweep or name == "sweep")]
    if loads:
        what = "a sweep, which has its loads" if is_sweep else "one run"
        raise InputError(
            f"--resume {chosen.resume} goes on with {what}: leave --{loads[0].replace('_', '-')} away"
        )
    goals = flags.get("goodput")
    parser.set_defaults(**{**flags, "goodput": [goal(text) for text in goals] if goals else None})
    again: argparse.Namespace = parser.parse_args(arguments)
    return again


def _check_none_is_idle(
    own: argparse.Namespace, chosen: argparse.Namespace, addresses: Sequence[Address]
) -> None:
    """Raises InputError where a flag would do nothing.

    own: the flags of this start. chosen: with those of the run that it resumes, of which any may be idle.
    """
    is_open_loop = chosen.request_rate or (chosen.sweep and chosen.sweep[0] == "request-rate")
    if own.arrival_pattern is not None and not is_open_loop:
        raise InputError("--arrival-pattern is of an open loop: give --request-rate too, or leave it away")
    if own.tls_ca and not any(address.tls for address in addresses):
        raise InputError(
            "--tls-ca is of servers that speak TLS: write grpcs://host:port in --url, or leave it away"
        )
    if own.metrics_host and chosen.metrics_port is None:
        raise InputError("--metrics-host is of metrics: give --metrics-port too, or leave it away")


def _given(chosen: argparse.Namespace) -> dict[str, Any]:
    flags = {name: value for name, value in vars(chosen).items() if name not in NOT_RESUMED}
    if chosen.goodput:
        flags["goodput"] = [str(each) for each in chosen.goodput]
    return flags


def _load_plan(chosen: argparse.Namespace) -> LoadPlan:
    return LoadPlan(
        mode="open" if chosen.request_rate else "offline" if chosen.offline else "closed",
        concurrency=chosen.concurrency or CONCURRENCY,
        rate=chosen.request_rate or 0.0,
        pattern=chosen.arrival_pattern or ARRIVAL_PATTERN,
        warmup_requests=chosen.warmup_request_count,
        duration=chosen.benchmark_duration,
        request_count=chosen.request_count,
    )


def _sweep(chosen: argparse.Namespace, load: LoadPlan) -> tuple[LoadPlan, ...]:
    if chosen.sweep is None:
        return ()
    name, values = chosen.sweep
    if name == "concurrency":
        return tuple(replace(load, concurrency=int(value)) for value in values)
    return tuple(replace(load, mode="open", rate=value) for value in values)


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _subjects(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """None: all. Raises InputError where it is given and empty."""
    if values is None:
        return None
    names = tuple(name for value in values for name in value.replace(",", " ").split())
    if not names:
        raise InputError("--subjects names none: leave it away to ask all")
    return names
