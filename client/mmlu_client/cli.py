"""mmlu-client: the command line is read, and what it asks for is done."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trt_common.command_line.command import split_command
from trt_common.command_line.streams import take_any_text
from trt_common.one_line import printable

from mmlu_client.config.command_line import (
    CAMPAIGN,
    COMMANDS,
    COMPARE,
    PROGRAM,
    REPORT,
    compare_parser,
    report_parser,
    run_parser,
)
from mmlu_client.config.reading import settings_from
from mmlu_client.config.settings import Settings
from mmlu_client.errors import ClientError, StoppedError
from mmlu_client.process_start import process_started
from mmlu_client.standard_error import outlive_standard_error


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run mmlu-client and exit: 0, 2 for a bad argument, 1 for a run that failed, 128 + n for signal n.

    Args:
        arguments: the words behind the program's name; by default those of this process.
    """
    take_any_text()
    # Called from another program, a run is not as old as the process.
    started = process_started() if arguments is None else time.monotonic()
    words = list(sys.argv[1:] if arguments is None else arguments)
    outlive_standard_error()
    try:
        command, rest = split_command(run_parser(), COMMANDS, words)
        if command == REPORT:
            _report(rest)
        elif command == COMPARE:
            _compare(rest)
        elif command == CAMPAIGN:
            _campaign(rest)
        else:
            program = sys.argv[0] if arguments is None else PROGRAM
            _run(settings_from(rest, command), [program, *words], started)
    except ClientError as error:
        fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        fail("stopped by SIGINT", StoppedError(signal.SIGINT).exit_status)
    sys.exit(0)


# What a command needs besides its flags is imported by it: --help need not wait for that.
def _run(settings: Settings, command_line: Sequence[str], started: float) -> None:
    from mmlu_client.run.run import run
    from mmlu_client.run.sweep import sweep

    (sweep if settings.sweep else run)(settings, command_line, started)


def _report(arguments: Sequence[str]) -> None:
    chosen = report_parser().parse_args(arguments)
    from mmlu_client.commands.report import report

    report(Path(chosen.run).expanduser(), chosen.format, is_whole=chosen.verbose)


def _compare(arguments: Sequence[str]) -> None:
    chosen = compare_parser().parse_args(arguments)
    from mmlu_client.commands.compare import compare

    output = Path(chosen.output).expanduser() if chosen.output else None
    compare([Path(run).expanduser() for run in chosen.runs], chosen.format, output)


def _campaign(arguments: Sequence[str]) -> None:
    from mmlu_client.commands.campaign import campaign

    campaign(arguments)


def fail(message: str, status: int) -> NoReturn:
    """Print an error in one line and end the process with this exit status."""
    print(f"{PROGRAM}: error: {printable(message)}", file=sys.stderr, flush=True)
    sys.exit(status)
