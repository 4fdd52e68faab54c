"""The command lines of trt-server: its commands, and what each takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trt_common.access.key_pair import half_of_pair
from trt_common.command_line import values
from trt_common.command_line.option import add_options, read_options
from trt_common.command_line.parser import FlagParser, OneLineParser

from trt_server.settings import LEAST_REQUEST_BYTES, REQUEST_BYTE_MEMORY, Settings

PROGRAM = "trt-server"
SERVE, BUILD, CHECK, CACHE = "serve", "build", "check", "cache"
COMMANDS = {
    SERVE: "hold a model and score prompts; done where no command is named",
    BUILD: "make what the engine keeps (plans, converted weights); serve nothing",
    CHECK: "say what would be served, or why it would not start; load nothing",
    CACHE: "list or remove what was kept",
}
DESCRIPTIONS = {
    SERVE: "Hold a language model as one compiled engine and score prompts over gRPC.",
    BUILD: "Make what the engine keeps (TensorRT's plan, converted weights), say where, and serve nothing.",
    CHECK: "Check the flags, files, engine, model, memory and disk of a start, and print in one line what "
    "would be served. Nothing is loaded, converted, built or made, no port is opened, and no weights are "
    "downloaded. Exit status 0, or as a start: 2 for a bad argument, 1 for a start that would fail.",
}
# What `trt-server cache` does.
LIST, REMOVE = "list", "remove"


def parser(command: str | None = None) -> FlagParser:
    """Return the parser of `serve`, `build` or `check`, or for None that of the program without a command."""
    parse = FlagParser(
        PROGRAM,
        "TRT_SERVER_",
        COMMANDS,
        command,
        description=DESCRIPTIONS[command or SERVE],
        epilog="Every flag may also be set in the config file and in the environment, as TRT_SERVER_<FLAG>. "
        "What is kept from one start to the next (plans, converted and random weights) lies in the folder "
        "TRT_SERVER_CACHE, ~/.cache/trt-server by default; `trt-server cache` lists it.",
    )
    add_options(parse, Settings)
    return parse


def parse_settings(arguments: Sequence[str], command: str | None = None) -> Settings:
    """Return what `serve`, `build` or `check` is to do.

    Exits with status 2 and one line where an argument is wrong.

    Args:
        arguments: the flags.
        command: `serve`, `build` or `check`, where the command line names it.
    """
    parse = parser(command)
    settings = read_options(Settings, parse.parse_args(arguments))
    if (wrong := half_of_pair(settings.tls_cert, settings.tls_key)) is not None:
        parse.error(wrong)
    if not LEAST_REQUEST_BYTES <= settings.max_request_bytes < 2**31:
        parse.error(
            f"--max-request-bytes {settings.max_request_bytes} is not from {LEAST_REQUEST_BYTES} to "
            f"{2**31 - 1}"
        )
    if settings.request_memory < (least := REQUEST_BYTE_MEMORY * settings.max_request_bytes):
        parse.error(
            f"--request-memory {settings.request_memory} is less than one request takes, {least} with "
            f"--max-request-bytes {settings.max_request_bytes}: raise the one or lower the other"
        )
    _check_access(parse, settings)
    if command != BUILD and (settings.targets or settings.layers):
        parse.error(
            f"{'--target' if settings.targets else '--layers'} is for `trt-server build`: leave it off"
        )
    return settings


def _check_access(parse: FlagParser, settings: Settings) -> None:
    """End the process with status 2 where a flag would not protect what it says."""
    has_tls, has_tokens = settings.tls_cert is not None, settings.token_file is not None
    if settings.tls_client_ca is not None and not has_tls:
        parse.error("--tls-client-ca is of TLS: give --tls-cert and --tls-key too")
    if settings.metrics_tls and not has_tls:
        parse.error("--metrics-tls is of TLS: give --tls-cert and --tls-key too")
    if settings.metrics_token and not has_tokens:
        parse.error("--metrics-token asks for a token of --token-file: give that too")


def cache_parser() -> OneLineParser:
    """Return the parser of `cache`, which finds `command`; with `remove`, `names`, `all` and `older_than`."""
    parse = OneLineParser(
        prog=f"{PROGRAM} {CACHE}",
        description="List or remove what servers keep on the disk from one start to the next: random "
        "weights, weights converted to another type, hashes of weights, plans and timings of TensorRT. It "
        "lies in TRT_SERVER_CACHE, else in trt-server under XDG_CACHE_HOME, else in ~/.cache/trt-server. A "
        "start that needs an entry which was removed makes it again.",
    )
    commands = parse.add_subparsers(dest="command", metavar="list | remove")
    commands.add_parser(LIST, help="entries, the last used first; this is what `trt-server cache` does")
    remove = commands.add_parser(
        REMOVE,
        help="remove entries",
        description="Remove entries. What a running server uses, or writes, is kept; it is an error where it "
        "was named.",
    )
    remove.add_argument("names", nargs="*", metavar="NAME", help="an entry, as the list names it")
    remove.add_argument("--all", action="store_true", help="every entry that no server uses")
    remove.add_argument(
        "--older-than",
        type=values.days,
        metavar="DAYS",
        help="entries that no start has used for so many days",
    )
    return parse


def parse_cache(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what `cache` is to do. Exits with status 2 and one line where an argument is wrong."""
    parse = cache_parser()
    asked: argparse.Namespace = parse.parse_args(arguments)
    if asked.command == REMOVE:
        ways = [bool(asked.names), asked.all, asked.older_than is not None]
        if sum(ways) != 1:
            parse.error("remove takes names of entries, or --all, or --older-than DAYS: give one of them")
    return asked
