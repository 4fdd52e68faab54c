"""Adapters (LoRA and the like), which are refused until they are merged into their model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trt_common.one_line import one_line

from trt_server.errors import StartError
from trt_server.model.files.json_file import read_json_object

CONFIG = "adapter_config.json"
_FILES = (CONFIG, "adapter_model.safetensors", "adapter_model.bin")
_MERGE = "merge it into its model with peft's merge_and_unload and write that with save_pretrained"


def refuse_adapter_files(folder: Path, is_model: bool) -> None:
    """Refuse a folder with an adapter in it.

    transformers applies an adapter beside a model where peft is installed, and ignores it elsewhere. Neither
    may happen without the user knowing.

    Args:
        folder: The checkpoint folder.
        is_model: Whether the folder also holds a model.

    Raises:
        StartError: The folder holds an adapter.
    """
    found = next((name for name in _FILES if (folder / name).exists()), None)
    if found is None:
        return
    if is_model:
        raise StartError(
            f"{folder} holds an adapter ({found}) beside the model, and adapters are not supported: "
            f"{_MERGE}, or move its files away to score the model without it"
        )
    raise StartError(
        f"{folder} holds an adapter ({found}){_base_model(folder)} and no model of its own: {_MERGE}, "
        "then name the folder that was written"
    )


def refuse_adapter_tensors(folder: Path, names: Iterable[str]) -> None:
    """Refuse a checkpoint whose weight files hold an adapter's tensors.

    Raises:
        StartError: One of the names is that of an adapter's tensor.
    """
    adapter = next((name for name in names if ".lora_" in name), None)
    if adapter is not None:
        raise StartError(f"{folder} holds {adapter}, part of an adapter, which is not supported: {_MERGE}")


def _base_model(folder: Path) -> str:
    try:
        name = read_json_object(folder / CONFIG).get("base_model_name_or_path")
    except (OSError, StartError):
        return ""
    return f" to {one_line(name)}" if isinstance(name, str) and name else ""
