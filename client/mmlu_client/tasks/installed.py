"""Whether lm-eval is installed. The modules that import it are imported through here alone."""

from __future__ import annotations

import importlib
import logging
import os
from importlib import metadata, util
from types import ModuleType

from mmlu_client.errors import InputError

PACKAGE = "lm_eval"


def lm_eval_module(name: str, needed_by: str) -> ModuleType:
    """Import a module of this folder that needs lm-eval, with lm-eval's own output switched off.

    Args:
        name: of the module, without its package.
        needed_by: what needs it, for the message.

    Raises:
        InputError: lm-eval is not installed.
    """
    if util.find_spec(PACKAGE) is None:
        raise InputError(
            f"{needed_by} needs lm-eval, which is not installed: pip install 'trt-server[lm-eval]'"
        )
    # Bars, and lines for its developers; what a person has to know is told by this program.
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger(PACKAGE).setLevel(logging.CRITICAL)
    return importlib.import_module(f"mmlu_client.tasks.{name}")


def lm_eval_version() -> str:
    """Return the version of the lm-eval that is installed."""
    return metadata.version(PACKAGE)
