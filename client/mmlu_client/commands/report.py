"""`mmlu-client report`: the figures of a run, or of a campaign, made again from its files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmlu_client.campaign.campaign_manifest import holds_campaign
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.outcome_files import write_outcome
from mmlu_client.campaign.outcome.outcome_text import printed_outcome
from mmlu_client.figures.formulas import summarize
from mmlu_client.pages.run_page import drawn_charts, html_report
from mmlu_client.report.harness_files import write_harness_files
from mmlu_client.report.outcome import figure_files, loss, print_text, printed, write_files
from mmlu_client.rundir.finished_run import read_run


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
    lost = write_files(figure_files(run, summary, partial(html_report, run, summary, drawn_charts(run))))
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
