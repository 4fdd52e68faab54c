"""What a sweep was started with, in its folder, so that it can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError
from mmlu_client.rundir.folder import SWEEP_MANIFEST, write_text
from mmlu_client.rundir.manifest import MANIFEST_VERSION, json_text, now, read_versioned


def write_sweep_manifest(
    folder: Path, flags: Mapping[str, Any], loads: Sequence[str], command_line: Sequence[str]
) -> None:
    """Write the sweep's manifest into its folder.

    Args:
        folder: the sweep's folder.
        flags: what the sweep was started with, as JSON holds them.
        loads: the folders of the runs that it is to make, in their order.
        command_line: the command that started it.

    Raises:
        RunError: the manifest cannot be written.
    """
    content = {
        "manifest_version": MANIFEST_VERSION,
        "started": asdict(now()),
        "command_line": list(command_line),
        "loads": list(loads),
        "flags": dict(flags),
    }
    write_text(folder / SWEEP_MANIFEST, json_text(content))


def sweep_flags(folder: Path) -> dict[str, Any]:
    """Read the flags that the sweep in this folder was started with.

    Raises:
        InputError: the folder holds no sweep.
    """
    path = folder / SWEEP_MANIFEST
    try:
        return dict(read_versioned(path, "sweep", "loads")["flags"])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
