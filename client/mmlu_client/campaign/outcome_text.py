"""What came out of a campaign, as text for a terminal, and in the forms that other programs read."""

from __future__ import annotations

import json

from mmlu_client.campaign.cell_columns import cell_columns
from mmlu_client.campaign.cell_notes import common_line, error_lines, notes, notices, states_line
from mmlu_client.campaign.outcome import CampaignOutcome
from mmlu_client.campaign.rows import csv_rows, json_rows
from mmlu_client.figures.formulas import summarize
from mmlu_client.report.formats import flagperf
from mmlu_client.report.harness_files import harness_results
from mmlu_client.report.terminal import stacked, this_terminal, wrapped
from mmlu_client.rundir.finished_run import read_run


def outcome_text(outcome: CampaignOutcome, width: int) -> str:
    """Return the table of the cells in lines of this many characters, and what is to be known of it.

    A table that is wider is split into several; a word that is longer, an error's path say, is not broken.
    """
    columns = cell_columns(outcome)
    head = ("cell", *(column.head for column in columns))
    cells = [(cell.label, *(str(column.show(cell)) for column in columns)) for cell in outcome]
    lines = [*error_lines(outcome), *notices(outcome), *notes(outcome)]
    above = [f"{outcome.manifest.name}: {states_line(outcome)}", common_line(outcome)]
    parts = [
        wrapped(filter(None, above), width),
        stacked([head, *cells], width, repeated=1),
        wrapped(lines, width),
    ]
    return "\n\n".join(filter(None, parts))


def printed_outcome(outcome: CampaignOutcome, form: str, *, is_written: bool) -> str:
    """Return what is printed of a campaign.

    Args:
        outcome: what came out.
        form: one of those that `report --format` takes.
        is_written: whether the files were written, which a table then says.

    Raises:
        InputError: a run cannot be read.
    """
    if form != "table":
        return formatted_outcome(outcome, form)
    text = outcome_text(outcome, this_terminal(is_whole=False).width)
    return f"{text}\n\nwritten to {outcome.folder}" if is_written else text


def formatted_outcome(outcome: CampaignOutcome, form: str) -> str:
    """Return what came out in the format that `report --format` names, but for a table.

    JSON and CSV have a row for each cell; of each finished cell FlagPerf's lines are printed, and lm-eval's
    document in one line.

    Raises:
        InputError: a run cannot be read.
    """
    if form == "json":
        return json_rows(outcome).rstrip("\n")
    if form == "csv":
        return csv_rows(outcome).rstrip("\n")
    runs = [(cell.entry.name, read_run(outcome.path(cell))) for cell in outcome if cell.is_finished]
    if form == "flagperf":
        return "\n\n".join(flagperf(run, summarize(run)) for _, run in runs)
    return "\n".join(json.dumps({"cell": name, **harness_results(run)}) for name, run in runs)
