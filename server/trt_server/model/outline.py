"""What a start would load, as far as that is known before anything is downloaded, converted or made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trt_common import demo as demo_checkpoint
from trt_common.model.geometry import Geometry, read_geometry

from trt_server.model import dummy, hub
from trt_server.model.files.checkpoint import architecture, open_configuration, read_headers
from trt_server.model.files.weight_files import check_listed_weights
from trt_server.model.source import DUMMY_PREFIX, no_such_model
from trt_server.readable import readable_bytes


@dataclass(frozen=True)
class ModelOutline:
    """A model that was looked at and not loaded.

    Attributes:
        model_id: The name that clients would be told.
        architecture: As its configuration names it.
        geometry: The model's sizes.
        folder: Where all of its files lie; None where some are not there yet.
        missing: What a start would have to fetch or make first, in words; empty: nothing.
    """

    model_id: str
    architecture: str
    geometry: Geometry
    folder: Path | None
    missing: str = ""


def read_outline(name: str, precision: str, check: Callable[[Geometry], None]) -> ModelOutline:
    """Look at the checkpoint that `name` stands for.

    Of a model on the hub the configuration and the indexes of shards are downloaded, and no weights.

    Args:
        name: `demo`, `dummy:<geometry>`, a folder, or a hub id.
        precision: What the engine computes in, which decides the type of random weights.
        check: Called with the model's sizes; it raises StartError where they would be of no use.

    Raises:
        StartError: There is no such checkpoint, or it cannot be used; the message is one line.
    """
    if name == demo_checkpoint.NAME:
        return _in_folder(name, demo_checkpoint.FOLDER, check)
    if name.startswith(DUMMY_PREFIX):
        return _dummy(name, precision, check)
    folder = Path(name).expanduser()
    if folder.exists():
        return _in_folder(folder.resolve().name, folder.resolve(), check)
    if hub.is_hub_id(name):
        return _on_hub(name, check)
    raise no_such_model(name)


def _in_folder(model_id: str, folder: Path, check: Callable[[Geometry], None]) -> ModelOutline:
    check(open_configuration(folder)[1])
    headers = read_headers(folder)
    return ModelOutline(model_id, headers.architecture, headers.geometry, folder)


def _dummy(name: str, precision: str, check: Callable[[Geometry], None]) -> ModelOutline:
    shape = name[len(DUMMY_PREFIX) :]
    config = dummy.dummy_config(shape, precision)
    check(geometry := read_geometry(config))
    missing = "random weights are still to be made" if dummy.check_dummy_room(shape, precision) else ""
    return ModelOutline(name, architecture(config, geometry), geometry, None, missing)


def _on_hub(name: str, check: Callable[[Geometry], None]) -> ModelOutline:
    hub.hide_progress()
    config, geometry = open_configuration(snapshot := hub.download(name, hub.INDEXES))
    listed = hub.listed_files(name)
    if listed is None or not hub.files_to_download(snapshot, listed):
        return _in_folder(name, snapshot, check)
    check(geometry)
    check_listed_weights(f"{name} on the hub", listed, snapshot, config)
    size = hub.check_room(name, snapshot, config, geometry)
    missing = (
        f"about {readable_bytes(size)} are still to be downloaded"
        if size
        else "some files are still to be downloaded"
    )
    return ModelOutline(name, architecture(config, geometry), geometry, None, missing)
