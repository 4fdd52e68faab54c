"""The checkpoint folder on this machine that `--model` names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_common import demo as demo_checkpoint
from trt_common.model.geometry import Geometry
from trt_common.one_line import one_line

from trt_server.cache.folder import check_disk
from trt_server.errors import StartError
from trt_server.model import dummy
from trt_server.model.checkpoint import open_configuration
from trt_server.model.tensor_file import ITEM_SIZES
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)

_DUMMY_PREFIX = "dummy:"
_CONFIG = "config.json"
_HUB_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")


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
        precision: "fp32" or "fp16", the type of random weights.
        check: Called with the model's sizes before weights are downloaded or made; it raises StartError where
            they would be of no use.

    Raises:
        StartError: There is no such checkpoint, or it cannot be downloaded or used; the message is one line.
    """
    if name == demo_checkpoint.NAME:
        check(open_configuration(demo_checkpoint.FOLDER)[1])
        return ModelSource(name, demo_checkpoint.FOLDER, _read_notice(demo_checkpoint.FOLDER))
    if name.startswith(_DUMMY_PREFIX):
        shape = name[len(_DUMMY_PREFIX) :]
        check(dummy.dummy_geometry(shape))
        return ModelSource(name, dummy.dummy_folder(shape, precision), dummy.NOTICE)
    folder = Path(name).expanduser()
    if folder.exists():
        check(open_configuration(folder.resolve())[1])
        return ModelSource(folder.resolve().name, folder.resolve(), "")
    if _is_hub_id(name):
        config, geometry = open_configuration(snapshot := _download(name, (_CONFIG,)))
        check(geometry)
        _check_disk(name, snapshot, geometry.total_parameters * _stored_item_size(config))
        return ModelSource(name, _download(name, _HUB_FILES), "")
    raise StartError(
        f"--model {name}: there is no such folder; give a checkpoint folder, a hub id (owner/name), "
        f"{demo_checkpoint.NAME}, or {_DUMMY_PREFIX}<geometry>"
    )


def _is_hub_id(name: str) -> bool:
    """Return whether the name is owner/name as the hub allows it, and not a path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _stored_item_size(config: Mapping[str, Any]) -> int:
    """Return the bytes of a weight in the checkpoint's files; 0 where its configuration does not tell."""
    return ITEM_SIZES.get(str(config.get("dtype") or config.get("torch_dtype")), 0)


def _check_disk(hub_id: str, snapshot: Path, size: int) -> None:
    """Check that the hub's cache has room for what is missing of `size` bytes of weights.

    Raises:
        StartError: It has not.
    """
    folder = snapshot.parents[1]
    missing = size - sum(file.stat().st_size for file in folder.glob("blobs/*"))
    # Headers and other files are in the folder too, so that this may be below 0.
    if missing <= 0:
        return
    check_disk(f"--model {hub_id}", missing, folder, "make room there, or set HF_HOME to another folder")
    log.info("downloading %s to %s, about %s", hub_id, folder, readable_bytes(missing))


def _download(hub_id: str, files: Sequence[str]) -> Path:
    """Return the hub's snapshot in the hub's cache; files that are not there yet are downloaded.

    Without a network the files that are there have to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(files)))
    except GatedRepoError as error:
        raise StartError(
            f"--model {hub_id} is gated: accept its terms on its hub page, then log in with 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise StartError(
            f"--model {hub_id}: there is neither such a folder nor such a model on the hub; "
            "check the spelling, and log in with 'hf auth login' if it is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise StartError(
            f"--model {hub_id}: there is no such folder, and the hub cannot be reached to download it; "
            "check the network, or give a folder"
        ) from error
    except Exception as error:
        raise StartError(f"--model {hub_id} cannot be downloaded: {one_line(error)}") from error


def _read_notice(folder: Path) -> str:
    notice = folder / "notice.txt"
    return notice.read_text(encoding="utf-8").strip() if notice.is_file() else ""
