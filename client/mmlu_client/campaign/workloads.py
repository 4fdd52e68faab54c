"""Whether there is what a campaign's cells ask, and whether finished cells asked the same."""

from __future__ import annotations

from collections.abc import Hashable

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.cell_state import FINISHED
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.campaign.file.client_flags import settings_of
from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.config.command_line import refusing_parser
from mmlu_client.config.settings import Settings
from mmlu_client.errors import InputError
from mmlu_client.run.sources import source_of
from mmlu_client.run.workload import Source
from mmlu_client.rundir.finished_run import read_run


def check_workloads(campaign: Campaign, folder: CampaignFolder) -> None:
    """Load what the cells ask, each once.

    Raises:
        CampaignFileError: something is not there, or is not what a finished cell was asked.
    """
    parser, sources = refusing_parser(), {}
    for cell in campaign.cells:
        settings = settings_of(cell, parser)
        key = _key(settings)
        try:
            if key not in sources:
                sources[key] = source_of(settings)
            sha256 = _sha256(sources[key], settings)
        except InputError as error:
            raise CampaignFileError(campaign.path, cell.line, f"cell {cell.name}: {error}") from None
        _check_same(campaign, cell, folder, sha256)


def _key(settings: Settings) -> Hashable:
    """Return what decides which data are loaded."""
    of_tasks = (settings.include_path, settings.few_shots, settings.limit) if settings.tasks else ()
    return settings.data, settings.tasks, of_tasks


def _sha256(source: Source, settings: Settings) -> str:
    return source.workload(settings).data.sha256


def _check_same(campaign: Campaign, cell: Cell, folder: CampaignFolder, sha256: str) -> None:
    if folder.state(cell).state != FINISHED:
        return
    before = read_run(folder.cell(cell)).manifest.data.sha256
    if before != sha256:
        raise CampaignFileError(
            campaign.path,
            cell.line,
            f"the data of cell {cell.name} have changed since it was finished: name another --output, or "
            f"remove {folder.cell(cell)}",
        )
