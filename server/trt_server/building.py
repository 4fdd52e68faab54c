"""`trt-server build`: what an engine keeps from one start to the next, made without serving."""

from __future__ import annotations

import logging

from trt_server.engines.choice import choose_engine
from trt_server.opened_model import open_model
from trt_server.settings import Settings

log = logging.getLogger(__name__)


def build(settings: Settings) -> str:
    """Make it or find it; returns a line that says what it is. Raises StartError."""
    choice = choose_engine(settings)
    log.info("engine %s, %s: %s", choice.name, choice.precision, choice.reason)
    opened = open_model(settings, choice)
    prepared = choice.prepare(opened.checkpoint, opened.engine_limits, settings)
    what = f"{choice.name} {choice.precision}: {prepared.what}"
    if prepared.path is None:
        return what
    files = [path for path in (prepared.path, *prepared.path.glob("*")) if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return f"{what} {prepared.path}, {megabytes:,.1f} MB, {prepared.build_seconds:.1f} s to build"
