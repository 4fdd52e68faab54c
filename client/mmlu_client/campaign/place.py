"""Where cells' runs are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mmlu_client.campaign.cell import ServerSetting
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.worker import Worker


class Place(Protocol):
    """One machine, or many."""

    def check(self, campaign: Campaign, settings: Sequence[ServerSetting]) -> None:
        """Check that the servers can be started there, and those that run already be reached from there.

        Args:
            campaign: the settings are of it.
            settings: those of the servers that are asked.

        Raises:
            CampaignFileError: one of them cannot; the message names its line.
            InputError: the place itself cannot be had, or lacks resources.
        """
        ...

    def lanes(self, cells: int) -> int:
        """Return how many workers are used at the same time for so many cells."""
        ...

    def worker(self, lane: int, folder: CampaignFolder) -> Worker:
        """Return the worker of a lane, which is used in the calling thread alone.

        Args:
            lane: its number, from 0.
            folder: of the campaign.
        """
        ...

    def close(self) -> None:
        """Let the place go."""
        ...
