"""Plans on the disk: found, not found, damaged, foreign."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.plan_cache import (
    PLAN,
    RECORD,
    CachedPlan,
    PlanRecipe,
    TimingCacheFile,
    find_or_build,
    graph_fingerprint,
)
from trt_server.engines.tensorrt.profiles import profiles_for
from trt_server.errors import StartError
from trt_server.model.checkpoint import open_checkpoint
from trt_server.model.graph import build_graph

RECIPE = PlanRecipe(
    weights="w",
    graph="g",
    tensorrt="10.3.0",
    device="NVIDIA A100-SXM4-40GB",
    compute_capability="8.0",
    precision="fp16",
    tf32=False,
    profiles=profiles_for(EngineLimits(2048, 4)),
    settings=("workspace 1",),
)
CHANGES: dict[str, Any] = {
    "weights": "v",
    "graph": "h",
    "tensorrt": "10.3.1",
    "device": "NVIDIA A30",
    "compute_capability": "8.6",
    "precision": "fp32",
    "tf32": True,
    "profiles": profiles_for(EngineLimits(2048, 5)),
    "settings": ("workspace 2",),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builds:
    """Writes what it is told and counts."""

    def __init__(self, content: bytes = b"a plan") -> None:
        self.content = content
        self.count = 0

    def __call__(self, path: Path) -> str:
        self.count += 1
        path.write_bytes(self.content)
        return hashlib.sha256(self.content).hexdigest()

    def find(self, recipe: PlanRecipe = RECIPE) -> CachedPlan:
        return find_or_build(recipe, "m", len(self.content), self)


def test_built_once_and_found_from_then_on() -> None:
    builds = Builds()
    first, second = builds.find(), builds.find()
    assert builds.count == 1
    assert first.path == second.path
    assert second.path.read_bytes() == b"a plan"
    assert first.build_seconds > 0 == second.build_seconds


@pytest.mark.parametrize("field", CHANGES)
def test_another_recipe_is_another_plan(field: str) -> None:
    other = replace(RECIPE, **{field: CHANGES[field]})
    builds = Builds()
    assert builds.find().path != builds.find(other).path
    assert builds.count == 2


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit of the plan": lambda folder: (folder / PLAN).write_bytes(b"a plaN"),
    "a plan cut short": lambda folder: (folder / PLAN).write_bytes(b"a pla"),
    "no plan": lambda folder: (folder / PLAN).unlink(),
    "no record": lambda folder: (folder / RECORD).unlink(),
    "a record of nothing": lambda folder: (folder / RECORD).write_text("[]"),
    "no JSON": lambda folder: (folder / RECORD).write_text("{"),
    "no hash": lambda folder: edit_record(folder, sha256=None),
    "another recipe": lambda folder: edit_record(folder, recipe=replace(RECIPE, weights="v").text),
}


def edit_record(folder: Path, **fields: str | None) -> None:
    record = json.loads((folder / RECORD).read_text()) | fields
    (folder / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_plan_is_built_again(
    damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    builds = Builds()
    damage(builds.find().path.parent)
    assert builds.find().path.read_bytes() == b"a plan"
    assert builds.count == 2
    assert "it is built again" in caplog.text


def test_foreign_plan_under_our_name_is_built_again() -> None:
    """Whole, with its own record, but of another recipe: somebody moved it."""
    foreign, ours = Builds(b"foreign"), Builds()
    theirs = foreign.find(replace(RECIPE, device="NVIDIA A30")).path.parent
    here = ours.find().path.parent
    shutil.rmtree(here)
    shutil.copytree(theirs, here)
    assert ours.find().path.read_bytes() == b"a plan"


def test_failed_build_leaves_nothing_that_is_found() -> None:
    def fail(path: Path) -> str:
        path.write_bytes(b"half")
        raise StartError("no")

    with pytest.raises(StartError, match="no"):
        find_or_build(RECIPE, "m", 1, fail)
    builds = Builds()
    assert builds.find().path.read_bytes() == b"a plan"
    assert builds.count == 1


def test_graph_fingerprint_is_of_the_graph_and_not_of_where_the_weights_lie(tmp_path: Path) -> None:
    whole = open_checkpoint(write_checkpoint(tmp_path / "whole", "llama", tokenizer=False))
    shards = open_checkpoint(
        write_checkpoint(tmp_path / "shards", "llama", tokenizer=False, max_shard_size="100KB")
    )
    prints = {
        graph_fingerprint(build_graph(checkpoint.geometry, checkpoint.weights, 64).model)
        for checkpoint in (whole, shards)
    }
    assert len(prints) == 1
    longer = graph_fingerprint(build_graph(whole.geometry, whole.weights, 72).model)
    assert longer not in prints


def test_timings_are_kept_by_version_and_device(cache: Path) -> None:
    file = TimingCacheFile("10.3.0", "NVIDIA A100-SXM4-40GB", "8.0")
    assert file.read() == b""
    file.write(b"first")
    file.write(b"second")
    assert file.read() == b"second"
    assert replace(file, tensorrt="10.3.1").read() == b""
    assert replace(file, device="NVIDIA A30").read() == b""
    assert [path.name for path in (cache / "timings").iterdir()] == [file.path.name]
