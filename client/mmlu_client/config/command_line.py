"""The command lines of mmlu-client: its commands, and what each takes."""

from __future__ import annotations

from trt_common.command_line.option import add_options
from trt_common.command_line.parser import FlagParser, OneLineParser, RefusingParser

from mmlu_client.config import flag_values
from mmlu_client.config.settings import PRINTED, Settings

PROGRAM = "mmlu-client"
RUN, REPORT, COMPARE, CAMPAIGN = "run", "report", "compare", "campaign"
VARIABLES = "MMLU_CLIENT_"
COMMANDS = {
    RUN: "ask and measure; done where no command is named",
    REPORT: "make a run's or campaign's figures again from its files",
    COMPARE: "put runs side by side; ratios are to the first",
    CAMPAIGN: "make many runs from one file, and one table of them all",
}
# Where `compare` writes its page.
PAGE = "compare.html"


def run_parser(command: str | None = None) -> FlagParser:
    """Return the parser of `run`, or for None that of the program without a command."""
    parser = FlagParser(
        PROGRAM,
        VARIABLES,
        COMMANDS,
        command,
        description="Stream MMLU through a trt-server, or another, and measure accuracy, throughput and MFU.",
        epilog="Every flag may also be set in the config file and in the environment, as MMLU_CLIENT_<FLAG>.",
    )
    add_options(parser, Settings)
    return parser


def refusing_parser() -> RefusingParser:
    """Return a parser of the flags of `run` that raises what is wrong with them."""
    parser = RefusingParser(PROGRAM, VARIABLES, COMMANDS, RUN)
    add_options(parser, Settings)
    return parser


def report_parser() -> OneLineParser:
    """Return the parser of `report`."""
    parser = command_parser(
        REPORT,
        "Make a run's figures again from its records, or a campaign's table from its cells; write and print "
        "them.",
    )
    parser.add_argument("run", metavar="DIR", type=flag_values.path, help="a run's folder, or a campaign's")
    parser.add_argument("--format", choices=PRINTED, default="table", help="what is printed")
    parser.add_argument("--verbose", action="store_true", help="print every line of summary.md")
    return parser


def compare_parser() -> OneLineParser:
    """Return the parser of `compare`."""
    parser = command_parser(
        COMPARE, "Put runs side by side, as a table and as a page; ratios are to the first run."
    )
    parser.add_argument("runs", metavar="DIR", nargs="+", type=flag_values.path, help="runs' folders")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="what is printed")
    parser.add_argument(
        "--output",
        type=flag_values.path,
        metavar="FILE",
        help=f"the page with plots, an HTML file; {PAGE} in the current folder by default, none beside json "
        "and csv",
    )
    return parser


def command_parser(command: str, description: str) -> OneLineParser:
    """Return a parser of a command, without its arguments."""
    return OneLineParser(prog=f"{PROGRAM} {command}", description=description)
