"""`mmlu-client campaign`: many runs from one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_common.command_line.option import add_options, read_options
from trt_common.command_line.parser import OneLineParser

from mmlu_client.campaign.choices import CampaignChoices
from mmlu_client.config import flag_values
from mmlu_client.config.command_line import CAMPAIGN, command_parser


def campaign_parser() -> OneLineParser:
    """Return the parser of `campaign`."""
    parser = command_parser(CAMPAIGN, "Make the runs that a file describes, those that are not finished yet.")
    parser.add_argument(
        "file",
        metavar="FILE.yaml",
        type=flag_values.path,
        help="what is run: docs/campaigns.md says how it looks",
    )
    add_options(parser, CampaignChoices)
    return parser


def campaign(arguments: Sequence[str]) -> None:
    """Make the runs of the campaign that the arguments name.

    Args:
        arguments: those behind the command's name.

    Raises:
        ClientError: the file is wrong, or a cell of the campaign failed.
    """
    chosen = campaign_parser().parse_args(arguments)
    from mmlu_client.campaign.conduct import conduct  # --help need not wait for it

    conduct(Path(chosen.file).expanduser(), read_options(CampaignChoices, chosen))
