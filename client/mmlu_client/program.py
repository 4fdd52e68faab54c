"""The entry of mmlu-client, which imports next to nothing itself, so that Ctrl-C is without a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run mmlu-client and end the process with its status."""
    try:
        from trt_common.program import run

        run("mmlu-client", _load)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def _load() -> Callable[[], None]:
    from mmlu_client.cli import main

    return main
