"""What `mmlu-client report` and `mmlu-client compare` do with the folders of runs that are over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmlu_client.campaign.campaign_manifest import holds_campaign
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.outcome_files import write_outcome
from mmlu_client.campaign.outcome.outcome_text import printed_outcome
from mmlu_client.config.command_line import PAGE
from mmlu_client.errors import InputError
from mmlu_client.figures.formulas import summarize
from mmlu_client.pages.compare_page import comparison_page
from mmlu_client.pages.run_page import drawn_charts
from mmlu_client.report.compare import contrasts_of, sides_of
from mmlu_client.report.compare_text import comparison
from mmlu_client.report.formats import formatted_comparison
from mmlu_client.report.harness_files import write_harness_files
from mmlu_client.report.outcome import figure_files, loss, print_text, printed, write_files
from mmlu_client.rundir.finished_run import read_run
from mmlu_client.rundir.folder import write_text


def compare(folders: Sequence[Path], form: str, output: Path | None) -> None:
    """Compare runs: print what differs from the first, and write the page with plots.

    Args:
        folders: of the runs, two at least.
        form: `table`, `json` or `csv`.
        output: the page; None for `compare.html` beside a table, and for no page beside other forms.

    Raises:
        InputError: a folder holds no run, or there are fewer than two.
        RunError: the page cannot be written.
    """
    if len(folders) < 2:
        raise InputError("compare needs two runs or more: mmlu-client compare A B …")
    sides = sides_of([read_run(folder) for folder in folders])
    contrasts = contrasts_of(sides)
    is_table = form == "table"
    print_text(comparison(sides, contrasts) if is_table else formatted_comparison(sides, contrasts, form))
    page = output or (Path(PAGE) if is_table else None)
    if page is None:
        return
    write_text(page, comparison_page(sides, contrasts, page))
    if is_table:
        print_text(f"\nplots, all figures and what differs: {page}")


def report(folder: Path, form: str, *, is_whole: bool) -> None:
    """Make a run's figures again from its records, write them into its folder, and print them.

    Of a campaign, make what came out of it again from its cells' folders.

    Args:
        folder: of the run, or of the campaign.
        form: how they are printed: one of `settings.PRINTED`.
        is_whole: whether a table has every line of summary.md.

    Raises:
        InputError: the folder holds neither.
        RunError: the figures, which were printed, cannot be written.
    """
    if holds_campaign(folder):
        _report_campaign(folder, form, is_whole=is_whole)
        return
    run = read_run(folder)
    summary = summarize(run)
    lost = write_files(figure_files(run, summary, drawn_charts(run)))
    print_text(printed(run, summary, form, is_whole=is_whole, is_written=not lost))
    for error in loss(lost, "report"):
        raise error
    if form == "lm-eval":
        write_harness_files(run)


def _report_campaign(folder: Path, form: str, *, is_whole: bool) -> None:
    outcome = CampaignOutcome(folder)
    lost = write_outcome(outcome)
    print_text(printed_outcome(outcome, form, is_written=not lost, is_whole=is_whole))
    for error in loss(lost, "report"):
        raise error
    if form == "lm-eval":
        for cell in outcome:
            if cell.is_finished:
                write_harness_files(read_run(outcome.path(cell)))
