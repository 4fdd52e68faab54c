"""trt-server: the command line is read, and what it asks for is done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence

import trt_common.quiet_grpc  # noqa: F401
from trt_common.command_line.command import split_command
from trt_common.command_line.output import put_out
from trt_common.command_line.streams import take_any_text
from trt_common.one_line import one_line, printable, shortened

from trt_server.cache.folder import VARIABLE
from trt_server.command_line import (
    BUILD,
    CACHE,
    CHECK,
    COMMANDS,
    PROGRAM,
    REMOVE,
    cache_parser,
    parse_cache,
    parse_settings,
    parser,
)
from trt_server.errors import StartError
from trt_server.observe import log
from trt_server.settings import Settings

# Of the line that a start ends with, which may name what is in a file.
MOST_ERROR_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Run trt-server to its end, or exit: 2 for a bad argument, 1 for a start that failed.

    A server that has started ends the process with a status of its own (`exit_status.py`).

    Args:
        arguments: the words behind the program's name; by default those of this process.
    """
    take_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = split_command(parser(), COMMANDS, words)
    try:
        if command == CACHE:
            _cache(rest)
        elif command == CHECK:
            _check(parse_settings(rest, command))
        else:
            _start(parse_settings(rest, command), command)
    except StartError as error:
        with contextlib.suppress(OSError):
            print(f"{PROGRAM}: error: {shortened(one_line(error), MOST_ERROR_BYTES)}", file=sys.stderr)
        sys.exit(1)


def _cache(arguments: Sequence[str]) -> None:
    from trt_server.cache.command import NoSuchEntryError, list_cache, remove_from_cache

    asked = parse_cache(arguments)
    for line in _unknown_variables():
        print(f"{PROGRAM}: {line}", file=sys.stderr)
    if asked.command != REMOVE:
        put_out(PROGRAM, printable(list_cache()))
        return
    try:
        remove_from_cache(asked.names, asked.older_than)
    except NoSuchEntryError as error:
        cache_parser().error(str(error))


def _check(settings: Settings) -> None:
    for line in _unknown_variables():
        print(f"{PROGRAM}: {line}", file=sys.stderr)
    # Warnings tell what a start would tell; the rest would be about what is not done here.
    log.set_up_logging("text", max(settings.log_level, "warning", key=log.LEVELS.index))
    from trt_server.loading.check import check

    put_out(PROGRAM, one_line(check(settings)))


def _start(settings: Settings, command: str | None) -> None:
    log.set_up_logging(settings.log_format, settings.log_level)
    for line in _unknown_variables():
        logging.getLogger(__name__).warning(line)
    from trt_server.loading.building import build
    from trt_server.server import serve

    if command == BUILD:
        put_out(PROGRAM, one_line(build(settings)))
    else:
        asyncio.run(serve(settings))


def _unknown_variables() -> list[str]:
    return parser().unknown_variables(VARIABLE)
