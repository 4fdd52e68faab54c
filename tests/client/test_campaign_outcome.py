"""What comes out of a campaign: the rows of its cells, and the table that people read."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from compared_campaign import (
    BASELINE_OF,
    CELLS,
    FINISHED,
    NOTICE,
    ComparedCampaign,
    json_rows,
)
from double import HOLD, Double
from mmlu import write_benchmark
from mmlu_client.figures.catalogue import FIGURES, RATIOS
from run_files import records, summary
from tokenizer_kinds import byte_level, tokenizer_files

FILES = ("campaign.parquet", "campaign.csv", "campaign.json", "campaign.html")


@pytest.fixture
def copy(campaign: ComparedCampaign, tmp_path: Path) -> Path:
    """A copy of the campaign's folder, to be changed."""
    return Path(shutil.copytree(campaign.folder, tmp_path / "copy"))


def attempts(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "cells" / name / "cell.json").read_text())["attempts"]
    return found


def test_there_is_a_row_for_each_cell_in_the_files_order(campaign: ComparedCampaign) -> None:
    assert campaign.done.returncode == 1
    assert the_error(campaign.done).startswith("1 of 5 cells failed, the first third+all+r1: 1 of 22 ")
    rows = json_rows(campaign.folder)
    assert tuple(rows) == CELLS
    for name, row in rows.items():
        server, workload, repetition = name.split("+")
        assert (row["server"], row["workload"], row["repetition"]) == (server, workload, repetition)
        assert "model" not in row
        (attempt,) = attempts(campaign.folder, name)
        assert row["attempts"] == 1
        assert (row["started"], row["ended"], row["where"]) == (
            attempt["started"], attempt["ended"], attempt["where"],
        )  # fmt: skip
        assert (campaign.folder / row["folder"]).samefile(campaign.cell(name))


def test_a_finished_cells_row_has_every_figure_of_its_summary(campaign: ComparedCampaign) -> None:
    rows = json_rows(campaign.folder)
    flat = [figure.key for figure in FIGURES if not figure.is_nested]
    for name in FINISHED:
        row, figures = rows[name], summary(campaign.cell(name))
        assert {key: row[key] for key in flat} == {key: figures[key] for key in flat}
        assert row["state"] == "finished"
        assert row["error"] is None
        assert (row["model_id"], row["model_notice"], row["parameters"]) == ("double", NOTICE, 1_000_000)
        assert (row["engine"], row["engine_version"], row["precision"]) == ("double", "1", "fp32")
        assert row["device"] == "none"
    assert rows["second+all+r1"]["joules_per_token"] > 0


def test_a_cell_that_is_not_finished_has_a_row_of_nulls(campaign: ComparedCampaign) -> None:
    row = json_rows(campaign.folder)["third+all+r1"]
    assert row["state"] == "failed"
    assert "told to" in row["error"]
    assert "\x1b" not in row["error"]
    told = {
        "name",
        "server",
        "workload",
        "repetition",
        "state",
        "attempts",
        "error",
        "where",
        "started",
        "ended",
    }
    assert {key for key, value in row.items() if value is not None} == told | {"folder", "baseline"}


def test_the_files_hold_the_same_values(campaign: ComparedCampaign) -> None:
    rows = list(json_rows(campaign.folder).values())
    table = pq.read_table(campaign.folder / "campaign.parquet")
    assert table.to_pylist() == rows
    with (campaign.folder / "campaign.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [list(line) for line in lines] == [list(row) for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}


def test_the_parquet_file_has_types_whatever_has_values(campaign: ComparedCampaign, tmp_path: Path) -> None:
    kinds = {field.name: str(field.type) for field in pq.read_schema(campaign.folder / "campaign.parquet")}
    assert {kinds[key] for key in ("acc", "p_infer_core", "acc_val", "goodput_share", "flops")} == {"double"}
    assert {kinds[key] for key in ("attempts", "answered", "val_answered", "bs")} == {"int64"}
    assert {kinds[key] for key in ("name", "server", "error", "ended_early")} == {"string"}
    assert {kinds[key] for key in ("validated", "reuse_prefix")} == {"bool"}
    assert {kind for key, kind in kinds.items() if key.endswith(("_ratio", "_low", "_high"))} == {"double"}
    # A campaign that has not begun has the same columns.
    waiting = tmp_path / "waiting"
    waiting.mkdir()
    shutil.copy(campaign.folder / "campaign_manifest.json", waiting)
    assert client("report", waiting).returncode == 0
    assert pq.read_schema(waiting / "campaign.parquet").equals(
        pq.read_schema(campaign.folder / "campaign.parquet")
    )
    assert {row["state"] for row in json_rows(waiting).values()} == {"waiting"}


def test_a_cell_is_compared_with_its_baseline(campaign: ComparedCampaign) -> None:
    rows = json_rows(campaign.folder)
    assert {name: row["baseline"] for name, row in rows.items() if row["baseline"]} == BASELINE_OF
    for name, baseline in list(BASELINE_OF.items())[:2]:
        row = rows[name]
        mine, theirs = (
            {(each["subject"], each["index"]): each for each in records(campaign.cell(cell))}
            for cell in (name, baseline)
        )
        assert mine.keys() == theirs.keys()
        right = [(each["correct"], theirs[key]["correct"]) for key, each in mine.items()]
        same = sum(each["predicted"] == theirs[key]["predicted"] for key, each in mine.items())
        only_mine, only_theirs = right.count((True, False)), right.count((False, True))
        assert only_mine + only_theirs > 0
        assert row["baseline.compared_questions"] == len(right) == 22
        assert row["baseline.same_letter"] == same < 22
        assert row["baseline.only_this_correct"] == only_mine
        assert row["baseline.only_baseline_correct"] == only_theirs
        assert row["baseline.acc_difference"] == pytest.approx((only_mine - only_theirs) / 22)
        assert (
            row["baseline.acc_difference_low"]
            < row["baseline.acc_difference"]
            < row["baseline.acc_difference_high"]
        )
        assert row["baseline.mcnemar_p"] == pytest.approx(exact_p(only_mine, only_theirs))
        for figure in RATIOS:
            before, after = rows[baseline][figure.key], row[figure.key]
            expected = None if before is None or after is None else pytest.approx(after / before)
            assert row[f"baseline.{figure.key}_ratio"] == expected
    assert rows["first+all+r1"]["baseline"] is None
    assert rows["third+all+r1"]["baseline.acc_difference"] is None


def exact_p(one: int, other: int) -> float:
    """McNemar's exact test: the two-sided binomial one."""
    n, least = one + other, min(one, other)
    return min(1.0, 2.0 * sum(math.comb(n, k) for k in range(least + 1)) / float(2**n))


def test_intervals_of_ratios_are_those_of_compare(campaign: ComparedCampaign, tmp_path: Path) -> None:
    row = json_rows(campaign.folder)["second+all+r1"]
    done = client(
        "compare", campaign.cell("first+all+r1"), campaign.cell("second+all+r1"), "--format", "json"
    )
    (found,) = json.loads(done.stdout)["comparisons"]
    for figure in RATIOS:
        effect = found["ratios"][figure.key]
        if figure.has_interval:
            for end in ("low", "high"):
                assert row[f"baseline.{figure.key}_ratio_{end}"] == effect[end]
    assert row["baseline.p_infer_whole_ratio_low"] is not None
    assert not list(tmp_path.iterdir())


def test_the_table_is_printed_at_the_end_and_fits_a_terminal(campaign: ComparedCampaign) -> None:
    printed = campaign.done.stdout
    rows = json_rows(campaign.folder)
    row = rows["second+all+r1"]
    assert printed.startswith("compared: 1 failed, 4 finished\nall cells: workload all\n")
    assert printed.endswith(f"\nwritten to {campaign.folder}\n")
    lines = printed.splitlines()
    assert all(len(line) <= 80 for line in lines if line.startswith("| "))
    cells = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert cells.count("second+r1") == cells.count("third+r1") == cells.count("cell") >= 2
    assert f"{row['acc']:.3f} ({row['acc_low']:.3f} … {row['acc_high']:.3f}) (made up)" in printed
    assert (
        f"{row['baseline.acc_difference']:+.4f} ({row['baseline.acc_difference_low']:+.4f} … "
        f"{row['baseline.acc_difference_high']:+.4f})"
    ) in printed
    assert f"| {row['p_infer_whole']:,.0f} " in printed
    assert f"× {row['baseline.p_infer_core_ratio']:.2f} " in printed
    assert "third+all+r1: failed: 1 of 22 questions failed" in " ".join(printed.split())
    assert NOTICE in printed


def test_report_makes_the_files_again_from_the_cells(campaign: ComparedCampaign, copy: Path) -> None:
    for name in FILES:
        (copy / name).unlink()
    done = client("report", copy)
    assert done.returncode == 0
    for name in ("campaign.csv", "campaign.json"):
        assert (copy / name).read_text() == (campaign.folder / name).read_text()
    assert pq.read_table(copy / FILES[0]).equals(pq.read_table(campaign.folder / FILES[0]))
    assert done.stdout.splitlines()[:-1] == campaign.done.stdout.splitlines()[:-1]


def test_report_prints_the_rows_in_other_forms(copy: Path) -> None:
    assert json.loads(client("report", copy, "--format", "json").stdout) == list(json_rows(copy).values())
    assert client("report", copy, "--format", "csv").stdout == (copy / "campaign.csv").read_text()
    flagperf = client("report", copy, "--format", "flagperf").stdout
    assert flagperf.count("'*p_inference_core(qps)'") == len(FINISHED)
    harness = [json.loads(line) for line in client("report", copy, "--format", "lm-eval").stdout.splitlines()]
    assert [each["cell"] for each in harness] == list(FINISHED)


def test_a_cell_whose_files_are_damaged_does_not_take_the_others_along(copy: Path) -> None:
    (copy / "cells" / "first+all+r1" / "summary.json").write_text("{")
    (copy / "cells" / "first+all+r2" / "cell.json").write_text("[]")
    shutil.rmtree(copy / "cells" / "second+all+r2")
    done = client("report", copy)
    assert done.returncode == 0
    rows = json_rows(copy)
    assert "summary.json" in rows["first+all+r1"]["error"]
    assert "first+all+r1: finished: " in " ".join(done.stdout.split())
    assert "is not a cell's state" in rows["first+all+r2"]["error"]
    assert rows["second+all+r2"]["state"] == "waiting"
    assert rows["second+all+r1"]["acc"] is not None
    assert rows["second+all+r1"]["baseline.acc_difference"] is None


def test_report_of_another_versions_campaign_is_refused(copy: Path) -> None:
    path = copy / "campaign_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "campaign_version": 0}))
    done = client("report", copy)
    assert done.returncode == 2
    assert "another version" in the_error(done)


def test_a_campaign_that_is_on_has_rows_of_what_is_finished(tmp_path: Path) -> None:
    """And after a kill the next start has them again, before it makes another run."""
    write_benchmark(tmp_path / "data", {"alpha": 3})
    output, file = tmp_path / "out", tmp_path / "killed.yaml"
    with Double(tokenizer_files(byte_level()), lambda number: HOLD if number in (3, 4) else None) as double:
        file.write_text(
            f"servers:\n  one: {{url: '{double.url}'}}\nworkloads:\n  all: {{data: data}}\n"
            "client-flags: {bs: 1, concurrency: 1}\nrepetitions: 2\n"
        )
        running = ClientProcess("campaign", file, "--output", output)
        assert double.holds.wait(SECONDS)
        rows = json_rows(output)
        assert rows["one+all+r1"]["acc"] is not None
        assert rows["one+all+r2"]["acc"] is None
        running.signal(signal.SIGKILL)
        running.join()
        for name in FILES:
            (output / name).unlink()
        double.holds.clear()
        running = ClientProcess("campaign", file, "--output", output)
        assert double.holds.wait(SECONDS)
        assert json_rows(output)["one+all+r1"] == rows["one+all+r1"]
        running.signal(signal.SIGTERM)
        done = running.finish()
    assert done.returncode == 128 + signal.SIGTERM
    assert "| r1 " in done.stdout
    assert json_rows(output)["one+all+r2"]["state"] == "waiting"


def test_files_that_cannot_be_written_are_told_and_lose_nothing(
    campaign: ComparedCampaign, copy: Path
) -> None:
    (copy / "campaign.csv").unlink()
    (copy / "campaign.csv").mkdir()
    done = client("report", copy)
    assert done.returncode == 1
    assert f"cannot write campaign.csv in {copy}: Is a directory" in the_error(done)
    assert "second+r1" in done.stdout
    assert pq.read_table(copy / FILES[0]).equals(pq.read_table(campaign.folder / FILES[0]))
