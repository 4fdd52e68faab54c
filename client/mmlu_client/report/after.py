"""What is done with runs that are over: `mmlu-client report DIR` and `mmlu-client compare A B …`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trt_common.command_line.parser import OneLineParser

from mmlu_client.config.flags import PRINTED, PROGRAM
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.errors import InputError
from mmlu_client.figures.summary import summarize
from mmlu_client.pages.compare_page import comparison_page
from mmlu_client.pages.run_page import drawn_charts
from mmlu_client.report.compare import contrasts_of, sides_of
from mmlu_client.report.compare_text import comparison
from mmlu_client.report.formats import formatted_comparison
from mmlu_client.report.lm_eval_files import write_lm_eval_files
from mmlu_client.report.outcome import figure_files, loss, print_text, printed, write_files
from mmlu_client.rundir.finished_run import FinishedRun, read_run
from mmlu_client.rundir.folder import write_text

PAGE = "compare.html"


def after(arguments: Sequence[str]) -> None:
    """arguments: the subcommand and its own. Raises InputError, RunError; exits 2 for a wrong argument."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "report":
        run = read_run(Path(chosen.run).expanduser())
        _report(run, chosen.format, is_whole=chosen.verbose)
        if chosen.format == "lm-eval":
            write_lm_eval_files(run, partial(load_benchmark, run.manifest.data.name))
    elif len(chosen.runs) < 2:
        raise InputError("compare needs two runs or more: mmlu-client compare A B …")
    else:
        output = Path(chosen.output).expanduser() if chosen.output else None
        _compare([Path(run).expanduser() for run in chosen.runs], chosen.format, output)


def _compare(folders: Sequence[Path], form: str, output: Path | None) -> None:
    """Programs get no page unless they name one. Raises InputError, RunError."""
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


def _report(run: FinishedRun, form: str, *, is_whole: bool) -> None:
    """Raises RunError, after the figures, where they cannot be written."""
    summary = summarize(run)
    lost = write_files(figure_files(run, summary, drawn_charts(run)))
    print_text(printed(run, summary, form, is_whole=is_whole, is_written=not lost))
    for error in loss(lost, "report"):
        raise error


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog=PROGRAM, description="Work with the folders that runs leave behind.")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="make a run's figures again from its records and print them")
    report.add_argument("run", metavar="DIR", help="a run's folder")
    report.add_argument("--format", choices=PRINTED, default="table", help="what is printed")
    report.add_argument("--verbose", action="store_true", help="print every line of summary.md")
    compare = commands.add_parser("compare", help="put runs side by side; ratios are to the first")
    compare.add_argument("runs", metavar="DIR", nargs="+", help="runs' folders")
    compare.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="what is printed"
    )
    compare.add_argument(
        "--output",
        metavar="FILE",
        help=f"the page with plots, an HTML file; {PAGE} in the current folder by default, none beside json "
        "and csv",
    )
    return parser
