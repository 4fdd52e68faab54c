"""`mmlu-client compare`: runs that are over, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmlu_client.config.command_line import PAGE
from mmlu_client.errors import InputError
from mmlu_client.pages.compare_page import comparison_page
from mmlu_client.report.compare import contrasts_of, sides_of
from mmlu_client.report.compare_text import comparison
from mmlu_client.report.formats import formatted_comparison
from mmlu_client.report.outcome import print_text
from mmlu_client.rundir.finished_run import read_run
from mmlu_client.rundir.folder import check_can_be_written, write_text


def compare(folders: Sequence[Path], form: str, output: Path | None) -> None:
    """Compare runs: print what differs from the first, and write the page with plots.

    Args:
        folders: of the runs, two at least.
        form: `table`, `json` or `csv`.
        output: the page; None for `compare.html` beside a table, and for no page beside other forms.

    Raises:
        InputError: a folder holds no run, there are fewer than two, or a folder, a pipe or a device is in the
            page's place.
        RunError: the page cannot be written.
    """
    if len(folders) < 2:
        raise InputError("compare needs two runs or more: mmlu-client compare A B …")
    is_table = form == "table"
    page = output or (Path(PAGE) if is_table else None)
    if page is not None:
        check_can_be_written(page, "--output")
    sides = sides_of([read_run(folder) for folder in folders])
    contrasts = contrasts_of(sides)
    print_text(comparison(sides, contrasts) if is_table else formatted_comparison(sides, contrasts, form))
    if page is None:
        return
    write_text(page, comparison_page(sides, contrasts, page))
    if is_table:
        print_text(f"\nplots, all figures and what differs: {page}")
