"""deploy/Dockerfile as a list of instructions."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """stage: the name behind AS; empty before the first FROM."""

    stage: str
    name: str
    text: str


def instructions() -> list[Instruction]:
    """In order, comments left out, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stage, found = "", []
    for line in filter(None, joined.splitlines()):
        name, _, text = line.partition(" ")
        if name == "FROM":
            stage = text.split(" AS ")[1]
        found.append(Instruction(stage, name, text))
    return found


def context() -> list[str]:
    """What .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def copy_into_context(source: Path, target: Path) -> None:
    """As the builder does it: nothing of what .dockerignore leaves out."""
    assert source.name in context(), f"{source.name} is not in the image's context"
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*_pb2*"))
    else:
        shutil.copy(source, target)
