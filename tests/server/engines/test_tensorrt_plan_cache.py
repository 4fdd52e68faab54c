"""Plans on the disk: found, not found, damaged, foreign."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from trt_server.cache.cache_file import CacheFile
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.plan.cache import (
    PLAN,
    RECORD,
    BuiltPlan,
    CachedPlan,
    PlanRecipe,
    cached_recipe_for,
    find_or_build,
    graph_fingerprint,
)
from trt_server.engines.tensorrt.plan.digest import PlanDigest, digest_of
from trt_server.engines.tensorrt.plan.profiles import profiles_for
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.graph.scoring_graph import build_graph

# What is kept goes into a folder of the test's own.
pytestmark = pytest.mark.usefixtures("cache")

RECIPE = PlanRecipe(
    weights="w",
    graph="g",
    library="tensorrt",
    version="10.16.1",
    target=PlanTarget("NVIDIA A100-SXM4-40GB", ("sm80",)),
    precision="fp16",
    tf32=False,
    profiles=profiles_for(EngineLimits(2048, 4)),
    settings=("workspace 1",),
)
CHANGES: dict[str, Any] = {
    "weights": "v",
    "graph": "h",
    "library": "tensorrt_rtx",
    "version": "10.16.2",
    "target": PlanTarget("NVIDIA A30", ("sm80",)),
    "precision": "fp32",
    "tf32": True,
    "profiles": profiles_for(EngineLimits(2048, 5)),
    "settings": ("workspace 2",),
}


class Builds:
    """Writes what it is told and counts."""

    def __init__(self, content: bytes = b"a plan") -> None:
        self.content = content
        self.count = 0

    def __call__(self, path: Path) -> BuiltPlan:
        self.count += 1
        path.write_bytes(self.content)
        return BuiltPlan(digest_of(path), "its layers")

    def find(self, recipe: PlanRecipe = RECIPE) -> CachedPlan:
        return find_or_build(recipe, "m", len(self.content), self)


def test_built_once_and_found_from_then_on() -> None:
    builds = Builds()
    first, second = builds.find(), builds.find()
    assert builds.count == 1
    assert first.path == second.path
    assert second.path.read_bytes() == b"a plan"
    assert second.layers == "its layers"
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
    "no hash": lambda folder: edit_record(folder, digest=None),
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
    theirs = foreign.find(replace(RECIPE, target=CHANGES["target"])).path.parent
    here = ours.find().path.parent
    shutil.rmtree(here)
    shutil.copytree(theirs, here)
    assert ours.find().path.read_bytes() == b"a plan"


def test_failed_build_leaves_nothing_that_is_found() -> None:
    def fail(path: Path) -> BuiltPlan:
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
    for positions, top_tokens in ((72, 1), (64, 20), (64, 19)):
        graph = build_graph(whole.geometry, whole.weights, positions, top_tokens=top_tokens)
        prints.add(graph_fingerprint(graph.model))
    graph = build_graph(whole.geometry, whole.weights, 64)
    del graph.model.graph.output[-1]
    assert len(prints | {graph_fingerprint(graph.model)}) == 5


def of(*capabilities: str, **changes: Any) -> PlanRecipe:
    """The recipe of a plan for these, whatever the device."""
    return replace(RECIPE, library="tensorrt_rtx", target=PlanTarget("", capabilities), **changes)


def test_a_plan_for_more_targets_is_found_and_built_again_for_them(cache: Path) -> None:
    builds = Builds()
    kept = builds.find(of("sm80", "sm86", "sm89")).path
    assert cached_recipe_for(of("sm86")) == of("sm80", "sm86", "sm89")
    assert builds.find(cached_recipe_for(of("sm86"))).path == kept
    assert builds.count == 1
    kept.write_bytes(b"a plaN")
    assert builds.find(cached_recipe_for(of("sm86"))).path.read_bytes() == b"a plan"
    assert [folder.name for folder in (cache / "plans").iterdir() if folder.is_dir()] == [kept.parent.name]


def test_of_several_plans_the_one_for_fewest_targets_is_found() -> None:
    builds = Builds()
    for recipe in (of("sm80", "sm86", "sm89"), of("sm80", "sm86"), of("sm80", precision="fp32")):
        builds.find(recipe)
    assert cached_recipe_for(of("sm80")) == of("sm80", "sm86")
    builds.find(of("sm80"))
    assert cached_recipe_for(of("sm80")) == of("sm80")


OTHERS = {
    "another target": of("sm89"),
    "more targets than it has": of("sm80", "sm89"),
    "a device": replace(RECIPE, library="tensorrt_rtx"),
    **{name: of("sm80", **{name: CHANGES[name]}) for name in CHANGES if name not in ("library", "target")},
}


@pytest.mark.parametrize("asked", OTHERS.values(), ids=OTHERS)
def test_no_plan_for_other_targets_or_of_another_recipe_is_found(asked: PlanRecipe) -> None:
    Builds().find(of("sm80", "sm86"))
    assert cached_recipe_for(asked) == asked


def test_what_is_no_plan_s_record_is_passed_over(cache: Path) -> None:
    builds = Builds()
    folder = builds.find(of("sm80", "sm86")).path.parent
    for number, text in enumerate(("{", "[]", "null", '{"recipe": "{}"}', (folder / RECORD).read_text())):
        (cache / "plans" / str(number)).mkdir()
        (cache / "plans" / str(number) / RECORD).write_text(text)
    assert cached_recipe_for(of("sm86")) == of("sm80", "sm86")
    shutil.rmtree(folder)
    assert cached_recipe_for(of("sm86")) == of("sm86")


@pytest.mark.parametrize("pieces", [[1], [16 << 20], [(16 << 20) - 1, 2, 40 << 20], [0, 33 << 20, 5]])
def test_the_digest_does_not_depend_on_the_pieces(tmp_path: Path, pieces: list[int]) -> None:
    """Against the definition, in one thread."""
    content = random.Random(1).randbytes(sum(pieces))
    digest, start = PlanDigest(), 0
    for size in pieces:
        digest.update(content[start : start + size])
        start += size
    blocks = (content[first : first + (16 << 20)] for first in range(0, len(content), 16 << 20))
    expected = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()
    (tmp_path / "plan").write_bytes(content)
    assert digest.hexdigest() == expected == digest_of(tmp_path / "plan")


def test_kept_files_are_by_name_and_are_never_in_the_way(cache: Path) -> None:
    file = CacheFile("timings", "tensorrt", "10.16.1", "NVIDIA A100-SXM4-40GB", "sm80", suffix="timing")
    assert file.read() == b""
    file.write(b"first")
    file.write(b"second")
    assert file.read() == b"second"
    assert CacheFile("timings", "tensorrt", "10.16.1", "NVIDIA A30", "sm80", suffix="timing").read() == b""
    assert [path.name for path in (cache / "timings").iterdir()] == [file.path.name]


def test_a_cache_that_takes_nothing_costs_a_warning(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be")
    CacheFile("timings", "tensorrt", suffix="timing").write(b"first")
    assert "is not kept, and made again next time" in caplog.text
