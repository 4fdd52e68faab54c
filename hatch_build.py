"""The build hook that generates the protobuf modules; everything else is in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GeneratedProtos(BuildHookInterface):
    """Generates the protobuf modules when the package is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Run protos/generate.py before the build."""
        subprocess.run([sys.executable, Path(self.root, "protos", "generate.py")], check=True)
