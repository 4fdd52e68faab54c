"""The folder of a model that a flag names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_common import demo as demo_checkpoint

from mmlu_client.data.hub import download, is_hub_id
from mmlu_client.errors import InputError


def model_folder(source: str, flag: str, files: Sequence[str]) -> Path:
    """Return the folder that a flag names: `demo`, a folder, or a hub id, downloaded on first use.

    Args:
        source: what the person gave.
        flag: which flag it was given to, for messages.
        files: what is downloaded of a hub id.

    Raises:
        InputError: there is none.
    """
    name = f"{flag} {source}"
    if source == demo_checkpoint.NAME:
        return demo_checkpoint.FOLDER
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{name} is not a folder: name the one that its files are in")
    if is_hub_id(source):
        return download(source, files, name)
    raise InputError(f"{name}: no such folder (nor is it a hub id like org/name)")
