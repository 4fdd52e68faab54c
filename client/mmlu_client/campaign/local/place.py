"""Cells' runs on this machine: one after the other, or side by side on shares of its cores."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmlu_client.campaign.cell import Resources, ServerSetting
from mmlu_client.campaign.checking import raise_first, refusals
from mmlu_client.campaign.choices import LOCAL
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.local.gpus import gpus_here
from mmlu_client.campaign.local.share import Share
from mmlu_client.campaign.local.worker import LocalWorker
from mmlu_client.campaign.reaching import check_reachable
from mmlu_client.errors import InputError


class LocalPlace:
    """This machine, in as many shares as there are lanes."""

    def __init__(self, parallel: int) -> None:
        """Divide the machine.

        Args:
            parallel: into so many shares.

        Raises:
            InputError: it has fewer cores.
        """
        self._cores = sorted(os.sched_getaffinity(0))
        self._parallel = parallel
        self._gpus_each = 0
        if parallel > len(self._cores):
            raise InputError(
                f"--parallel {parallel}: this process may use {len(self._cores)} cores, and each lane needs "
                "one of its own"
            )

    def check(self, campaign: Campaign, settings: Sequence[ServerSetting]) -> None:
        """Check that the servers can be started here. See `Place`."""
        each, gpus = len(self._cores) // self._parallel, gpus_here()
        self._gpus_each = max((setting.resources.gpus for setting in settings), default=0)
        for setting in settings:
            lacking = self._lacking(setting.resources, each, len(gpus))
            if lacking is not None:
                raise_first(campaign.path, [(setting, lacking)])
        check_reachable(campaign.path, settings)
        raise_first(campaign.path, refusals(each for each in settings if each.is_started))

    def lanes(self, cells: int) -> int:
        """Return how many workers are used for so many cells."""
        return min(self._parallel, cells)

    def worker(self, lane: int, folder: CampaignFolder) -> LocalWorker:
        """Return the worker of a lane. See `Place`."""
        return LocalWorker(self._share(lane), lambda setting: folder.server_log(setting, lane))

    def close(self) -> None:
        """Keep nothing."""

    def _share(self, lane: int) -> Share:
        if self._parallel == 1:
            return Share(LOCAL, self._cores)
        each = len(self._cores) // self._parallel
        cores = self._cores[lane * each : (lane + 1) * each]
        gpus = gpus_here()[lane * self._gpus_each : (lane + 1) * self._gpus_each]
        return Share(f"{LOCAL} {lane + 1}", cores, gpus if self._gpus_each else None)

    def _lacking(self, need: Resources, cores: int, gpus: int) -> str | None:
        """Return what a lane of so many cores, on a machine of so many GPUs, lacks; None: nothing."""
        if (need.cpus or 0) > cores:
            return f"it needs {need.cpus} cpus, and a lane has {cores}"
        if need.gpus * self._parallel > gpus:
            return f"it needs {need.gpus} gpus on each of {self._parallel} lanes, and {gpus} are here"
        return None
