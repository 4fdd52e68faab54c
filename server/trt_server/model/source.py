"""The checkpoint folder on this machine that `--model` names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trt_common import demo as demo_checkpoint
from trt_common.model.geometry import Geometry

from trt_server.errors import StartError
from trt_server.model import dummy, hub
from trt_server.model.files.checkpoint import open_configuration
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)

DUMMY_PREFIX = "dummy:"


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint folder and its name.

    Attributes:
        model_id: The name that clients are told.
        folder: Where it is.
        notice: What a reader of this model's accuracy has to know; empty: nothing.
    """

    model_id: str
    folder: Path
    notice: str


def resolve_model(
    name: str, precision: str, check: Callable[[Geometry], None] = lambda _: None
) -> ModelSource:
    """Find, download or make the checkpoint that `name` stands for.

    Args:
        name: `demo`, `dummy:<geometry>`, a folder, or a hub id.
        precision: What the engine computes in, "fp32", "fp16" or "bf16", which decides the type of random
            weights.
        check: Called with the model's sizes before weights are downloaded or made; it raises StartError where
            they would be of no use.

    Raises:
        StartError: There is no such checkpoint, or it cannot be downloaded or used; the message is one line.
    """
    if name == demo_checkpoint.NAME:
        check(open_configuration(demo_checkpoint.FOLDER)[1])
        return ModelSource(name, demo_checkpoint.FOLDER, _read_notice(demo_checkpoint.FOLDER))
    if name.startswith(DUMMY_PREFIX):
        shape = name[len(DUMMY_PREFIX) :]
        check(dummy.dummy_geometry(shape))
        return ModelSource(name, dummy.dummy_folder(shape, precision), dummy.NOTICE)
    folder = Path(name).expanduser()
    if folder.exists():
        check(open_configuration(folder.resolve())[1])
        return ModelSource(folder.resolve().name, folder.resolve(), "")
    if hub.is_hub_id(name):
        config, geometry = open_configuration(snapshot := hub.download(name, hub.CONFIGURATION))
        check(geometry)
        if missing := hub.check_room(name, snapshot, config, geometry):
            log.info("downloading %s to %s, about %s", name, snapshot.parents[1], readable_bytes(missing))
        return ModelSource(name, hub.download(name, hub.FILES), "")
    raise no_such_model(name)


def no_such_model(name: str) -> StartError:
    """Return the error for a name that is none of a checkpoint."""
    return StartError(
        f"--model {name}: there is no such folder; give a checkpoint folder, a hub id (owner/name), "
        f"{demo_checkpoint.NAME}, or {DUMMY_PREFIX}<geometry>"
    )


def _read_notice(folder: Path) -> str:
    notice = folder / "notice.txt"
    return notice.read_text(encoding="utf-8").strip() if notice.is_file() else ""
