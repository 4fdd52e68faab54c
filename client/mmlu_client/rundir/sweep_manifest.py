"""What a sweep was started with, in its folder, so that it can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.rundir.folder import MANIFEST_VERSION, SWEEP_MANIFEST, write_text
from mmlu_client.rundir.manifest import now


def write_sweep_manifest(
    folder: Path, settings: Settings, loads: Sequence[str], command_line: Sequence[str]
) -> None:
    """loads: the folders of the runs it is to make, in their order. Raises RunError."""
    content = {
        "manifest_version": MANIFEST_VERSION,
        "started": now(),
        "command_line": list(command_line),
        "loads": list(loads),
        "flags": settings.given,
    }
    write_text(folder / SWEEP_MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
