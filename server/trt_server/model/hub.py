"""Models on the Hugging Face hub, and the hub's cache on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trt_common.model.geometry import Geometry
from trt_common.one_line import one_line

from trt_server.cache.folder import check_disk
from trt_server.errors import StartError
from trt_server.model.files.tensor_file import ITEM_SIZES

log = logging.getLogger(__name__)

# Patterns of a model's files: its sizes; the same with the indexes of its shards; all that a start reads.
CONFIGURATION = ("config.json",)
INDEXES = ("config.json", "*.index.json")
FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")


def is_hub_id(name: str) -> bool:
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


def check_room(hub_id: str, snapshot: Path, config: Mapping[str, Any], geometry: Geometry) -> int:
    """Check that the hub's cache has room for the weights that are missing there.

    Args:
        hub_id: The model's.
        snapshot: Its folder in the hub's cache.
        config: The content of its config.json.
        geometry: Its sizes.

    Returns:
        About how many bytes are missing.

    Raises:
        StartError: It has not.
    """
    folder = snapshot.parents[1]
    size = geometry.total_parameters * _stored_item_size(config)
    # Headers and other files are in the folder too.
    missing = max(0, size - sum(file.stat().st_size for file in folder.glob("blobs/*")))
    if missing:
        check_disk(f"--model {hub_id}", missing, folder, "make room there, or set HF_HOME to another folder")
    return missing


def download(hub_id: str, files: Sequence[str]) -> Path:
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


def hide_progress() -> None:
    """Show no progress of downloads in this process, for those that are a few kB."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()


def listed_files(hub_id: str) -> list[str] | None:
    """Return the names of all files of a model on the hub; None where the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(hub_id).siblings or []
    except Exception as error:
        log.info("the files of %s on the hub are not known: %s", hub_id, one_line(error))
        return None
    return [file.rfilename for file in files]


def files_to_download(snapshot: Path, listed: Sequence[str]) -> list[str]:
    """Return those files of a model that a start reads and that are not in the hub's cache yet.

    Args:
        snapshot: The model's folder in the hub's cache.
        listed: The names of all its files on the hub.
    """
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    read = filter_repo_objects(listed, allow_patterns=list(FILES))
    return [name for name in read if not (snapshot / name).exists()]
