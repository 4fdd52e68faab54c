"""Plans that were built once and are kept: found by fingerprint, checked by hash, never taken on trust.

A plan is code that TensorRT runs. What is loaded was written by this server under this name, for exactly this
recipe, and still has the hash it had then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from trt_server.cache.folder import cache_folder, cached_folder
from trt_server.engines.tensorrt.plan_digest import digest_of
from trt_server.engines.tensorrt.profiles import Profile
from trt_server.engines.tensorrt.target import PlanTarget

log = logging.getLogger(__name__)

PLAN = "plan.engine"
RECORD = "record.json"
LAYERS = "layers.txt"
_KIND = "plans"


@dataclass(frozen=True)
class PlanRecipe:
    """Everything that decides what a plan is.

    weights, graph: fingerprints. library, version: which TensorRT. settings: what else the builder was told.
    """

    weights: str
    graph: str
    library: str
    version: str
    target: PlanTarget
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
class BuiltPlan:
    """digest: of the file that was written. layers: the builder's description of it; empty: it gave none."""

    digest: str
    layers: str


@dataclass(frozen=True)
class CachedPlan:
    """build_seconds: 0 where it was found."""

    path: Path
    build_seconds: float

    @property
    def layers(self) -> str:
        """The builder's description of its layers; empty where it gave none."""
        file = self.path.with_name(LAYERS)
        return file.read_text() if file.is_file() else ""


def graph_fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 over the nodes and the small arrays in the graph; weights have a fingerprint of their own."""
    digest = hashlib.sha256()
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for array in model.graph.initializer:
        if array.data_location != onnx.TensorProto.EXTERNAL:
            digest.update(array.SerializeToString(deterministic=True))
    return digest.hexdigest()


def kept_for(recipe: PlanRecipe) -> PlanRecipe:
    """This recipe; where it has no plan yet and one for more targets is kept, that one's."""
    if (cache_folder() / _KIND / recipe.fingerprint).is_dir():
        return recipe
    covering = [kept for kept in _kept_recipes(recipe) if kept.target.covers(recipe.target)]
    return min(covering, key=lambda kept: (len(kept.target.capabilities), kept.fingerprint), default=recipe)


def _kept_recipes(recipe: PlanRecipe) -> Iterator[PlanRecipe]:
    """Those of kept plans that differ in their targets alone."""
    for record in (cache_folder() / _KIND).glob(f"*/{RECORD}"):
        try:
            target = json.loads(json.loads(record.read_text(encoding="utf-8"))["recipe"])["target"]
            kept = replace(recipe, target=PlanTarget(target["device"], tuple(target["capabilities"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # The name is the hash of the whole recipe: all else is equal then.
        if kept.fingerprint == record.parent.name:
            yield kept


def find_or_build(recipe: PlanRecipe, what: str, size: int, build: Callable[[Path], BuiltPlan]) -> CachedPlan:
    """The plan of this recipe, built where there is none, or none that is whole.

    what: it is a plan of, in words. size: bytes it will take, about. build: writes the plan to the path it is
    given. A second process that asks for the same plan waits for the first. Raises StartError.
    """
    seconds = 0.0

    def make(folder: Path) -> None:
        nonlocal seconds
        start = time.perf_counter()
        try:
            built = build(folder / PLAN)
        except BaseException:
            # It may be most of what the disk has.
            (folder / PLAN).unlink(missing_ok=True)
            raise
        if built.layers:
            (folder / LAYERS).write_text(built.layers, encoding="utf-8")
        record = {"recipe": recipe.text, "digest": built.digest, "bytes": (folder / PLAN).stat().st_size}
        (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        seconds = time.perf_counter() - start

    folder = cached_folder(
        _KIND,
        recipe.fingerprint,
        f"a plan of {what} in {recipe.precision} for {recipe.target}, {recipe.library} {recipe.version}",
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
        if (folder / PLAN).stat().st_size != record["bytes"] or digest_of(folder / PLAN) != record["digest"]:
            return "is not as it was written"
    except (OSError, ValueError, KeyError, TypeError):
        return "has no readable record"
    return ""
