"""Files of a run's and a campaign's folder that hold something else than what was written into them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from client_process import client, the_error
from compared_campaign import ComparedCampaign
from double import Double
from mmlu import write_benchmark
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
DEEP = "[" * 200_000 + "]" * 200_000
# Parsers take this, and functions that walk through what they give do not.
NESTED = "[" * 900 + "]" * 900


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    data = write_benchmark(folder / "data", {"alpha": 3})
    with Double(TOKENIZER) as double:
        assert client("--url", double.url, "--data", data, "--output", folder / "run").returncode == 0
    return folder / "run"


@pytest.mark.parametrize("flags", [("report",), ("--resume",), ("compare", "--format", "json")])
@pytest.mark.parametrize("inner", [DEEP, NESTED])
def test_a_manifest_that_is_nested_too_deeply(
    finished: Path, tmp_path: Path, flags: Sequence[str], inner: str
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "manifest.json"
    whole = path.read_text().rstrip().removesuffix("}")
    path.write_text(f'{whole}, "flags": {{"x": {inner}}}}}')
    result = client(*flags, run, *([finished] if flags[0] == "compare" else []))
    assert result.returncode == 2
    assert the_error(result) == (
        f"{path} is not a run's manifest: it is nested too deeply; without it the run cannot be read: put "
        "back a copy, or run it again"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bs", True, "argument --bs: expected one argument"),
        ("bs", -5, "argument --bs: '-5' is not a whole number from 1"),
        ("label", [5], "argument --label: '5' is not NAME=VALUE"),
        ("goodput", 5, "argument --goodput: '5' is not KEY:MS, like latency:200 or core:50"),
        ("sweep", [1], "argument --sweep: '1' is not like concurrency=1,2,4 or request-rate=5,10"),
        ("validate", "yes", "argument --validate: ignored explicit argument 'yes'"),
        ("early_stop", {}, "argument --early-stop: '{}' is not a width between 0 and 1, like 0.02"),
    ],
)
def test_a_flag_of_a_manifest_that_is_none(
    finished: Path, tmp_path: Path, name: str, value: object, said: str
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "flags": {**content["flags"], name: value}}))
    result = client("--resume", run)
    assert result.returncode == 2
    assert the_error(result) == (
        f"--resume {run}: the flags in its manifest cannot be read: {said}; put back a copy of it, or run it "
        "again"
    )


def test_a_campaigns_manifest_that_is_nested_too_deeply(campaign: ComparedCampaign, tmp_path: Path) -> None:
    folder = shutil.copytree(campaign.folder, tmp_path / "campaign")
    (folder / "campaign_manifest.json").write_text(DEEP)
    result = client("report", folder)
    assert result.returncode == 2
    assert the_error(result) == (
        f"{folder / 'campaign_manifest.json'} is not a campaign's manifest: it is nested too deeply; "
        f"`mmlu-client campaign FILE.yaml --output {folder}` writes it again"
    )


@pytest.mark.parametrize("name", ["cell.json", "manifest.json", "summary.json"])
def test_a_cell_whose_file_is_broken_is_told_of_and_the_others_are_shown(
    campaign: ComparedCampaign, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(campaign.folder, tmp_path / "campaign")
    cell = min((folder / "cells").iterdir())
    (cell / name).write_text(DEEP)
    result = client("report", folder)
    assert result.returncode == 0, result.stderr
    assert "it is nested too deeply" in (folder / "campaign.json").read_text()
