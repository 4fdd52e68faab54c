"""The build hook that generates the protobuf modules; everything else is in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GeneratedProtos(BuildHookInterface):
    """Runs protos/generate.py before the files of a wheel or a source distribution are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Generate the modules; hatchling calls it.

        Raises:
            CalledProcessError: protoc refused the contract.
        """
        subprocess.run([sys.executable, Path(self.root, "protos", "generate.py")], check=True)
