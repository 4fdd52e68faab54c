"""What came out of a campaign, as text for a terminal, and in the forms that other programs read."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mmlu_client.campaign.outcome.cell_columns import cell_columns
from mmlu_client.campaign.outcome.cell_notes import common_line, error_lines, notes, notices, states_line
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.repeated import repeated, repeated_rows
from mmlu_client.campaign.outcome.rows import csv_rows, json_rows
from mmlu_client.figures.formulas import summarize
from mmlu_client.report.formats import flagperf
from mmlu_client.report.harness_files import harness_results
from mmlu_client.report.terminal import run_text, stacked, this_terminal, wrapped
from mmlu_client.rundir.finished_run import FinishedRun, read_run


def outcome_text(outcome: CampaignOutcome, width: int) -> str:
    """Return the table of the cells in lines of this many characters, and what is to be known of it.

    A table that is wider is split into several; a word that is longer, an error's path say, is not broken.
    """
    columns = cell_columns(outcome)
    head = ("cell", *(column.head for column in columns))
    cells = [(cell.label, *(str(column.show(cell)) for column in columns)) for cell in outcome]
    lines = [*error_lines(outcome), *notices(outcome), *notes(outcome)]
    above = [f"{outcome.manifest.name}: {states_line(outcome)}", common_line(outcome)]
    repetitions = repeated_rows(repeated(outcome.manifest, outcome.cells))
    parts = [
        wrapped(filter(None, above), width),
        stacked([head, *cells], width, repeated=1),
        "mean ± standard deviation (n - 1) of the finished repetitions:" if repetitions else "",
        stacked(repetitions, width, repeated=1) if repetitions else "",
        wrapped(lines, width),
    ]
    return "\n\n".join(filter(None, parts))


def printed_outcome(outcome: CampaignOutcome, form: str, *, is_written: bool, is_whole: bool = False) -> str:
    """Return what is printed of a campaign.

    Args:
        outcome: what came out.
        form: one of those that `report --format` takes.
        is_written: whether the files were written, which a table then says.
        is_whole: whether every line of each finished cell's summary.md stands behind a table.

    Raises:
        InputError: a run cannot be read.
    """
    if form != "table":
        return formatted_outcome(outcome, form)
    view = this_terminal(is_whole=is_whole)
    parts = [outcome_text(outcome, view.width)]
    for name, run in _finished_runs(outcome) if is_whole else ():
        parts.append(f"{name}:\n\n{run_text(run, summarize(run), view)}")
    return "\n\n".join([*parts, *([f"written to {outcome.folder}"] if is_written else [])])


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
    runs = _finished_runs(outcome)
    if form == "flagperf":
        return "\n\n".join(flagperf(run, summarize(run)) for _, run in runs)
    return "\n".join(json.dumps({"cell": name, **harness_results(run)}) for name, run in runs)


def _finished_runs(outcome: CampaignOutcome) -> Iterator[tuple[str, FinishedRun]]:
    for cell in outcome:
        if cell.is_finished:
            yield cell.entry.name, read_run(outcome.path(cell))
