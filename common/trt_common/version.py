"""Which code runs: the version of both programs, with the commit that they were made from.

`python3 common/trt_common/version.py` prints that of a checkout, without an installation.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

# Of a tree without a tag; pyproject.toml's fallback_version is the same.
BASE = "0.1"
UNKNOWN = f"{BASE}+unknown"
# The checkout's root, where this file lies in one and is no installed copy.
ROOT = Path(__file__).resolve().parents[2]
GIT_SECONDS = 5.0


@cache
def version() -> str:
    """The version of the code that runs, as `0.1+g0123abcde`.

    A checkout is asked for its commit, because it may have moved on since it was installed; `.dirty` follows
    where tracked files were changed. Elsewhere the version is what was installed.

    Returns:
        `0.1+unknown` where no commit is known.
    """
    if (ROOT / ".git").exists() and (ROOT / "hatch_build.py").is_file():
        return _of_checkout()
    try:
        installed = metadata.version("trt-server")
    except metadata.PackageNotFoundError:
        return UNKNOWN
    return UNKNOWN if installed == BASE else installed


def _of_checkout() -> str:
    """UNKNOWN where git is missing, fails or takes too long: an installed version may be another commit's."""
    command = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", "--no-optional-locks", "describe"]
    command += ["--tags", "--match=v[0-9]*", "--long", "--always", "--dirty", "--abbrev=9"]
    # A hook of git sets variables that name another index or folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    found = re.fullmatch(r"(?:v(.+)-\d+-g)?([0-9a-f]+)(-dirty)?", done.stdout.strip())
    if found is None:
        return UNKNOWN
    tag, commit, dirty = found.groups()
    return f"{tag or BASE}+g{commit}{'.dirty' if dirty else ''}"


if __name__ == "__main__":
    print(version())
