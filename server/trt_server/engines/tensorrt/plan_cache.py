"""Plans that were built once and are kept: found by fingerprint, checked by hash, never taken on trust.

A plan is code that TensorRT runs. What is loaded was written by this server under this name, for exactly this
recipe, and still has the hash it had then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from trt_server.engines.tensorrt.profiles import Profile
from trt_server.model.cache import cache_folder, cached_folder

log = logging.getLogger(__name__)

PLAN = "plan.engine"
RECORD = "record.json"
_BLOCK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class PlanRecipe:
    """Everything that decides what a plan is.

    weights, graph: fingerprints. compute_capability: "8.0". settings: what else the builder was told.
    """

    weights: str
    graph: str
    tensorrt: str
    device: str
    compute_capability: str
    precision: str
    tf32: bool
    profiles: tuple[Profile, ...]
    settings: tuple[str, ...]

    @cached_property
    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class CachedPlan:
    """build_seconds: 0 where it was found."""

    path: Path
    build_seconds: float


def graph_fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 over the nodes and the small arrays in the graph; weights have a fingerprint of their own."""
    digest = hashlib.sha256()
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for array in model.graph.initializer:
        if array.data_location != onnx.TensorProto.EXTERNAL:
            digest.update(array.SerializeToString(deterministic=True))
    return digest.hexdigest()


def find_or_build(recipe: PlanRecipe, what: str, size: int, build: Callable[[Path], str]) -> CachedPlan:
    """The plan of this recipe, built where there is none, or none that is whole.

    what: it is a plan of, in words. size: bytes it will take, about. build: writes the plan to the path it is
    given and returns its SHA-256. A second process that asks for the same plan waits for the first. Raises
    StartError.
    """
    seconds = 0.0

    def make(folder: Path) -> None:
        nonlocal seconds
        start = time.perf_counter()
        sha256 = build(folder / PLAN)
        record = {"recipe": recipe.text, "sha256": sha256, "bytes": (folder / PLAN).stat().st_size}
        (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        seconds = time.perf_counter() - start

    folder = cached_folder(
        "plans",
        recipe.fingerprint,
        f"a plan of {what} in {recipe.precision} for {recipe.device}, TensorRT {recipe.tensorrt}",
        size,
        make,
        lambda folder: _is_whole(folder, recipe),
    )
    return CachedPlan(folder / PLAN, seconds)


def _is_whole(folder: Path, recipe: PlanRecipe) -> bool:
    reason = _why_not(folder, recipe)
    if reason:
        log.warning("the plan in %s %s: it is built again", folder, reason)
    return not reason


def _why_not(folder: Path, recipe: PlanRecipe) -> str:
    """Empty where the plan is the recipe's and as it was written."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["recipe"] != recipe.text:
            return "was built for something else"
        if (folder / PLAN).stat().st_size != record["bytes"] or _sha256(folder / PLAN) != record["sha256"]:
            return "is not as it was written"
    except (OSError, ValueError, KeyError, TypeError):
        return "has no readable record"
    return ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        block = memoryview(bytearray(_BLOCK_BYTES))
        while count := stream.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


@dataclass(frozen=True)
class TimingCacheFile:
    """How fast each kernel was, kept from one build to the next: a second build skips what it knows.

    It saves time only: of two processes that write it, the last one's stays.
    """

    tensorrt: str
    device: str
    compute_capability: str

    @property
    def path(self) -> Path:
        device = re.sub(r"[^A-Za-z0-9]+", "-", self.device)
        name = f"tensorrt-{self.tensorrt}-{device}-{self.compute_capability}.timing"
        return cache_folder() / "timings" / name

    def read(self) -> bytes:
        """Empty where there is none yet."""
        return self.path.read_bytes() if self.path.is_file() else b""

    def write(self, content: bytes) -> None:
        """Under another name first: what bears its name is complete."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(self.path)
