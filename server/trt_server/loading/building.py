"""`trt-server build`: make what an engine keeps from one start to the next, without serving."""

from __future__ import annotations

import logging
from pathlib import Path

from trt_common.one_line import one_line

from trt_server.engines.choice import choose_engine
from trt_server.engines.chosen import EngineChoice, LayerList, Prepared
from trt_server.errors import StartError
from trt_server.loading.opened_model import open_model
from trt_server.readable import megabytes
from trt_server.settings import Settings

log = logging.getLogger(__name__)


def build(settings: Settings) -> str:
    """Make or find what the engine of these settings keeps.

    Returns:
        A line that says what it is and where.

    Raises:
        StartError: It cannot be made, or its layers cannot be written.
    """
    choice = choose_engine(settings)
    log.info("engine %s, %s: %s", choice.name, choice.precision, choice.reason)
    if settings.layers is not None and choice.layers is None:
        raise StartError(f"--layers is for a plan, and the {choice.name} engine has none: leave it off")
    opened = open_model(settings, choice)
    what = opened.checkpoint, opened.engine_limits, settings
    prepared = choice.prepare(*what)
    line = _line(choice, prepared)
    if settings.layers is not None and choice.layers is not None:
        file = _write_layers(settings.layers, choice, prepared, choice.layers(*what, prepared))
        line += f"; its layers are in {file}"
    return line


def _line(choice: EngineChoice, prepared: Prepared) -> str:
    what = f"{choice.name} {choice.precision}: {prepared.what}"
    if prepared.path is None:
        return what
    files = [path for path in (prepared.path, *prepared.path.glob("*")) if path.is_file()]
    size = megabytes(sum(path.stat().st_size for path in files))
    good_for = f", good for {prepared.good_for}" if prepared.good_for else ""
    return f"{what} {prepared.path}, {size}, {prepared.build_seconds:.1f} s to build{good_for}"


def _write_layers(folder: Path, choice: EngineChoice, prepared: Prepared, layers: LayerList) -> Path:
    """Write the layers into a file that is named after the engine, its precision and the plan's folder.

    Returns:
        The file.

    Raises:
        StartError: They are not known, or the file cannot be written.
    """
    if not layers.text or prepared.path is None:
        raise StartError(f"no layers of {prepared.path} are known: remove that folder to build it again")
    plan = prepared.path.parent.name
    file = folder / f"{choice.name}-{choice.precision}-{plan[:12]}.{layers.kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(layers.text)
    except OSError as error:
        raise StartError(f"--layers {folder} cannot be written: {one_line(error)}") from error
    return file
