"""The catalogue of figures, what is made of it, and the page that shows it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from client_process import client
from double import Double
from mmlu import write_benchmark
from mmlu_client.figures.catalogue import COMPARED, FIGURES, RATIOS
from mmlu_client.figures.resampling import resampled
from mmlu_client.figures.summary import AccuracyFigures, Summary
from mmlu_client.rundir.finished_run import read_run
from mmlu_client.service.stages import STAGES
from tokenizer_kinds import byte_level, tokenizer_files

from tools.figures import MARK, PAGE, with_table


def test_each_field_has_an_entry_and_each_entry_a_field() -> None:
    assert [figure.key for figure in FIGURES] == [field.name for field in fields(Summary)]


def test_what_is_nested_is_no_number() -> None:
    types = get_type_hints(Summary)
    nested = {name for name, kind in types.items() if kind in (AccuracyFigures, AccuracyFigures | None)}
    nested.add("tasks")
    assert {figure.key for figure in FIGURES if figure.is_nested} == nested


def test_what_is_no_number_is_not_compared() -> None:
    types = get_type_hints(Summary)
    for figure in FIGURES:
        is_number = types[figure.key] in (int, float, int | None, float | None)
        assert bool(figure.unit) == is_number, figure.key
        if figure.compared or figure.higher_is_better is not None:
            assert is_number, figure.key


def test_units_are_those_that_the_keys_name() -> None:
    for figure in FIGURES:
        if figure.key.endswith("_seconds") or figure.key == "e2e_time":
            assert figure.unit == "s", figure.key
        if figure.key.endswith(("_gib", "_share")):
            assert figure.unit in ("GiB", "share"), figure.key
        if figure.key.startswith("p_"):
            assert figure.unit == "tokens/s", figure.key


def test_each_stage_is_a_figure() -> None:
    stages = [figure.key for figure in FIGURES if figure.key.startswith("stage_")]
    assert stages == [f"stage_{name}_seconds" for name in STAGES]


def test_what_is_compared_is_in_the_comparison() -> None:
    assert {each.key for each in COMPARED} >= {each.key for each in FIGURES if each.compared}


def test_the_ratios_with_intervals_are_those_that_are_resampled(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 12})
    with Double(tokenizer_files(byte_level())) as double:
        result = client("--url", double.url, "--data", data, "--output", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    drawn = resampled(read_run(tmp_path / "run"), 0)
    assert {figure.key for figure in RATIOS if figure.has_interval} == set(drawn)


def test_the_page_has_the_catalogues_table() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "docs/figures.md is not up to date: python -m tools.figures"


def test_the_sections_that_figures_name_are_there() -> None:
    headings = {line.lstrip("# ") for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    assert {figure.section for figure in FIGURES} - {""} <= headings


def test_another_table_is_told_from_the_catalogues() -> None:
    page = PAGE.read_text()
    other = page.replace("| `mfu` | share |", "| `mfu` | s |")
    assert other != page
    assert with_table(other) == page


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has no line"):
        with_table(PAGE.read_text().replace(MARK, ""))
