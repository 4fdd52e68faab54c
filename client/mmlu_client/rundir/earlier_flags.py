"""The flags of an earlier start of the client, which a run that is resumed takes from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmlu_client.rundir.folder import holds_sweep
from mmlu_client.rundir.manifest import read_manifest
from mmlu_client.rundir.sweep_manifest import sweep_flags


def flags_of(folder: Path) -> dict[str, Any]:
    """Return the flags that the run, or the sweep, in this folder was started with.

    Raises:
        InputError: the folder holds neither.
    """
    return sweep_flags(folder) if holds_sweep(folder) else read_manifest(folder).flags
