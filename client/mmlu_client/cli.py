"""The command line of mmlu-client: flags, config file and environment become Settings."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import configargparse

from mmlu_client.address import parse_address
from mmlu_client.errors import ClientError, StoppedError
from mmlu_client.prompt_format import FORMATS
from mmlu_client.settings import Settings

PROGRAM = "mmlu-client"


class OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Says what is wrong in one line, without the usage text before it."""

    def error(self, message: str) -> NoReturn:
        fail(f"{' '.join(message.split())} (see {PROGRAM} --help)", 2)


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a flag's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parser() -> configargparse.ArgumentParser:
    parse = OneLineParser(
        prog=PROGRAM,
        description="Stream MMLU through a trt-server and measure accuracy, throughput and MFU.",
        epilog="Every flag may also be set in the config file and in the environment, as MMLU_CLIENT_<FLAG>.",
        auto_env_var_prefix="MMLU_CLIENT_",
        config_file_parser_class=configargparse.YAMLConfigFileParser,
        formatter_class=_DefaultsFormatter,
        add_env_var_help=False,
        add_config_file_help=False,
        allow_abbrev=False,
    )
    add = parse.add_argument
    add(
        "--config",
        is_config_file=True,
        env_var="MMLU_CLIENT_CONFIG",
        metavar="FILE",
        help="YAML file with flags, as `flag: value`",
    )
    add("--version", action="version", version=f"{PROGRAM} {version('trt-server')}")
    server = parse.add_argument_group("server")
    server.add_argument("--url", default="localhost:8001", help="host:port, or grpcs://host:port for TLS")
    server.add_argument("--tls-ca", metavar="FILE", help="PEM certificates to trust; the system's by default")
    server.add_argument(
        "--server-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long a server may be away, at the start and in the run",
    )
    server.add_argument(
        "--concurrency",
        type=_count,
        default=4,
        metavar="N",
        help="requests in flight, at most the server's window",
    )
    benchmark = parse.add_argument_group("benchmark")
    benchmark.add_argument(
        "--data",
        default="demo",
        help="`demo`, a hub id (cais/mmlu), or a folder of CSV or parquet",
    )
    benchmark.add_argument(
        "--subjects", nargs="+", metavar="A,B", help="subjects to ask, separated by commas; all by default"
    )
    benchmark.add_argument("--limit", type=_count, metavar="N", help="questions a subject; all by default")
    benchmark.add_argument(
        "--few-shots", type=_natural, default=5, metavar="N", help="solved questions before it"
    )
    benchmark.add_argument(
        "--prompt-format", choices=sorted(FORMATS), default="hendrycks", help="whose prompts"
    )
    benchmark.add_argument(
        "--tokenizer",
        metavar="FOLDER|ID",
        help="where the server gives none; the server's by default",
    )
    benchmark.add_argument("--bs", type=_count, default=1, metavar="N", help="prompts in a request")
    benchmark.add_argument(
        "--output", metavar="DIR", help="folder for records and figures; results/<UTC time> by default"
    )
    return parse


def settings_from(arguments: Sequence[str] | None) -> Settings:
    """Exits with status 2 and one line where an argument is wrong."""
    chosen = parser().parse_args(arguments)
    return Settings(
        address=parse_address(chosen.url),
        tls_ca=_path(chosen.tls_ca),
        batch_size=chosen.bs,
        data=chosen.data,
        subjects=_names(chosen.subjects),
        limit=chosen.limit,
        few_shots=chosen.few_shots,
        prompt_format=chosen.prompt_format,
        tokenizer=chosen.tokenizer,
        output=_path(chosen.output),
        concurrency=chosen.concurrency,
        server_timeout=chosen.server_timeout,
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run mmlu-client and exit: 0, 2 for a bad argument, 1 for a run that failed, 128 + n for signal n."""
    started = time.monotonic()
    try:
        settings = settings_from(arguments)
        from mmlu_client.run import run  # gRPC and numpy: --help need not wait for them

        run(settings, sys.argv if arguments is None else [PROGRAM, *arguments], started)
    except ClientError as error:
        fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        fail("stopped by SIGINT", StoppedError(signal.SIGINT).exit_status)
    sys.exit(0)


def fail(message: str, status: int) -> NoReturn:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _names(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(name for value in values or () for name in value.replace(",", " ").split()) or None


def _natural(value: str) -> int:
    number = int(value) if value.strip().isascii() and value.strip().isdigit() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 0")
    return number


def _count(value: str) -> int:
    try:
        number = _natural(value)
    except argparse.ArgumentTypeError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 1")
    return number


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds")
    return number
