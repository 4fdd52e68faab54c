"""What a program prints: where it does not come out, the program's status says so."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

from trt_common.standard_streams import drop_standard_output


def put_out(program: str, text: str) -> None:
    """Print a text and its line's end to standard output.

    Where it cannot be printed, the process exits, as `flush_output` says.

    Args:
        program: The name of the program.
        text: What it prints.
    """
    with _failing(program):
        print(text, flush=True)


def flush_output(program: str) -> None:
    """Write what was printed to standard output.

    Where it cannot be written, the process exits with status 1 and one line, or in silence and as the signal
    SIGPIPE would end it where nobody reads it any more, as with `| head`.

    Args:
        program: The name of the program.
    """
    with _failing(program):
        sys.stdout.flush()


@contextlib.contextmanager
def _failing(program: str) -> Iterator[None]:
    """End the process where standard output cannot be written."""
    try:
        yield
    except BrokenPipeError:
        drop_standard_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        drop_standard_output()
        with contextlib.suppress(OSError):
            print(f"{program}: error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        sys.exit(1)
