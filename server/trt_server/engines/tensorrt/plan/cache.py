"""The cache of built plans: found by fingerprint and verified by hash before they are loaded.

A plan is code that TensorRT runs. So only a plan is loaded that this server wrote, for exactly this recipe,
and that still has the hash it had then.
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
from trt_server.engines.tensorrt.plan.digest import digest_of
from trt_server.engines.tensorrt.plan.profiles import Profile
from trt_server.engines.tensorrt.plan.target import PlanTarget

log = logging.getLogger(__name__)

PLAN = "plan.engine"
RECORD = "record.json"
LAYERS = "layers.txt"
_KIND = "plans"


@dataclass(frozen=True)
class PlanRecipe:
    """Everything that determines the content of a plan.

    Attributes:
        weights: The fingerprint of the weights.
        graph: The fingerprint of the graph.
        library: The module name of TensorRT or TensorRT-RTX.
        version: The version of the library.
        target: The devices that the plan is for.
        precision: "fp16" or "fp32".
        tf32: Whether fp32 products may run in TF32.
        profiles: The shapes that the plan accepts.
        settings: The builder's other settings.
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
        """The recipe as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the text, which is the name of the plan's folder in the cache."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that was just written.

    Attributes:
        digest: The hash of its file.
        layers: The builder's description of its layers; empty where it gave none.
    """

    digest: str
    layers: str


@dataclass(frozen=True)
class CachedPlan:
    """A plan in the cache.

    Attributes:
        build_seconds: How long it took to build; 0 where it was in the cache already.
    """

    path: Path
    build_seconds: float

    @property
    def layers(self) -> str:
        """The builder's description of its layers; empty where it gave none."""
        file = self.path.with_name(LAYERS)
        return file.read_text() if file.is_file() else ""


def graph_fingerprint(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of the graph's inputs, outputs, nodes and small arrays.

    Weights have their own fingerprint.
    """
    digest = hashlib.sha256()
    for value in (*model.graph.input, *model.graph.output):
        digest.update(value.SerializeToString(deterministic=True))
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for array in model.graph.initializer:
        if array.data_location != onnx.TensorProto.EXTERNAL:
            digest.update(array.SerializeToString(deterministic=True))
    return digest.hexdigest()


def cached_recipe_for(recipe: PlanRecipe) -> PlanRecipe:
    """Return this recipe, or that of a cached plan for more targets where this one is not cached."""
    if (cache_folder() / _KIND / recipe.fingerprint).is_dir():
        return recipe
    covering = [kept for kept in _cached_recipes(recipe) if kept.target.covers(recipe.target)]
    return min(covering, key=lambda kept: (len(kept.target.capabilities), kept.fingerprint), default=recipe)


def _cached_recipes(recipe: PlanRecipe) -> Iterator[PlanRecipe]:
    """Yield the recipes of cached plans that differ from this one in their targets alone."""
    for record in (cache_folder() / _KIND).glob(f"*/{RECORD}"):
        try:
            target = json.loads(json.loads(record.read_text(encoding="utf-8"))["recipe"])["target"]
            kept = replace(recipe, target=PlanTarget(target["device"], tuple(target["capabilities"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # The folder's name is the hash of the whole recipe, so everything else is equal.
        if kept.fingerprint == record.parent.name:
            yield kept


def find_or_build(recipe: PlanRecipe, what: str, size: int, build: Callable[[Path], BuiltPlan]) -> CachedPlan:
    """Return the plan of this recipe, built where the cache has none, or none that is whole.

    A second process that asks for the same plan waits for the first.

    Args:
        recipe: What the plan has to be.
        what: What it is a plan of, in words.
        size: The bytes that it will take, approximately.
        build: Writes the plan to the path it is given.

    Raises:
        StartError: The plan cannot be built or written.
    """
    seconds = 0.0

    def make(folder: Path) -> None:
        nonlocal seconds
        start = time.perf_counter()
        try:
            built = build(folder / PLAN)
        except BaseException:
            # A partial plan may take most of the disk's free space.
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
    """Return why the cached plan cannot be used; empty where it is the recipe's and its hash is right."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["recipe"] != recipe.text:
            return "was built for something else"
        if (folder / PLAN).stat().st_size != record["bytes"] or digest_of(folder / PLAN) != record["digest"]:
            return "is not as it was written"
    except (OSError, ValueError, KeyError, TypeError):
        return "has no readable record"
    return ""
