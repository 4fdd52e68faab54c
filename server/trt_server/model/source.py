"""What `--model` names → a checkpoint folder on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import demo_checkpoint

from trt_server.errors import StartError
from trt_server.model import dummy
from trt_server.one_line import one_line

_DUMMY_PREFIX = "dummy:"
_HUB_FILES = ("*.safetensors", "*.json", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class ModelSource:
    """notice: what a reader of this model's accuracy has to know; empty: nothing."""

    model_id: str
    folder: Path
    notice: str


def resolve_model(name: str, precision: str) -> ModelSource:
    """Find, download or make the checkpoint that `name` stands for.

    name: `demo`, `dummy:<geometry>`, a folder, or a hub id. precision: "fp32" or "fp16", what random weights
    are made in. Raises StartError, in one line.
    """
    if name == demo_checkpoint.NAME:
        return ModelSource(name, demo_checkpoint.FOLDER, _read_notice(demo_checkpoint.FOLDER))
    if name.startswith(_DUMMY_PREFIX):
        return ModelSource(name, dummy.dummy_folder(name[len(_DUMMY_PREFIX) :], precision), dummy.NOTICE)
    folder = Path(name).expanduser()
    if folder.exists():
        return ModelSource(folder.resolve().name, folder.resolve(), "")
    if _is_hub_id(name):
        return ModelSource(name, _download(name), "")
    raise StartError(
        f"--model {name}: there is no such folder; give a checkpoint folder, a hub id (owner/name), "
        f"{demo_checkpoint.NAME}, or {_DUMMY_PREFIX}<geometry>"
    )


def _is_hub_id(name: str) -> bool:
    """owner/name, as the hub allows them: no path that begins with a dot or ends with a slash is one."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _download(hub_id: str) -> Path:
    """The hub's snapshot in the hub's cache, downloaded on first use; without a network, what is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_HUB_FILES)))
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
