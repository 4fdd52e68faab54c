"""A Ray cluster as the place of a campaign."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import ray

from mmlu_client.campaign.cell import Cell, Resources, ServerSetting
from mmlu_client.campaign.checking import raise_first, refusal
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.ray.cluster import Cluster, Node, cpus_of, options, reason
from mmlu_client.campaign.ray.inputs import Input, Inputs
from mmlu_client.campaign.ray.proxy import RayWorker
from mmlu_client.campaign.reaching import unreachable

# The machines are busy with something else when a check takes longer.
BUSY_SECONDS = 20.0


class RayPlace:
    """The machines of a cluster, in as many shares as its resources hold."""

    def __init__(self, address: str | None, parallel: int | None) -> None:
        """Connect to the cluster.

        Args:
            address: HOST:PORT of its head; None: the one that RAY_ADDRESS names, or that runs here.
            parallel: as many cells run at the same time; None: as many as the resources hold.

        Raises:
            InputError: no cluster answers there, or this process cannot use it.
        """
        self._cluster = Cluster(address)
        self._parallel = parallel
        self._needs: list[Resources] = []
        self._inputs = Inputs(ray.put)
        self._inputs_of: dict[str, list[Input]] = {}
        self._workers: list[RayWorker] = []

    def check(self, campaign: Campaign, settings: Sequence[ServerSetting]) -> None:
        """Check that the servers can be started there. See `Place`."""
        nodes = self._cluster.nodes()
        self._needs = [setting.resources for setting in settings]
        lacking = [(setting, _lacking(setting.resources, nodes)) for setting in settings]
        raise_first(campaign.path, [(setting, why) for setting, why in lacking if why is not None])
        able = [node for node in nodes if any(node.room(need) for need in self._needs)]
        self._cluster.check_versions(able)
        for cell in campaign.cells:
            self._inputs_of[cell.name] = self._inputs.of(cell, campaign.path)
        raise_first(campaign.path, self._refusals(settings))

    def lanes(self, cells: int) -> int:
        """Return how many workers are used for so many cells."""
        if self._parallel is not None:
            return min(self._parallel, cells)
        nodes = self._cluster.nodes()
        room = max((sum(node.room(need) for node in nodes) for need in self._needs), default=1)
        return max(1, min(room, cells))

    def worker(self, lane: int, folder: CampaignFolder) -> RayWorker:
        """Return the worker of a lane. See `Place`."""
        worker = RayWorker(self, lambda setting: folder.server_log(setting, lane))
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Leave the cluster."""
        self._cluster.close()

    def has_room(self, need: Resources) -> bool:
        """Return whether a machine has these resources, in use or not."""
        return any(node.room(need) for node in self._cluster.nodes())

    def free_idle(self) -> None:
        """End the actors that have nothing to do, so that others find room."""
        for worker in self._workers:
            worker.free()

    def inputs(self, cell: Cell) -> list[Input]:
        """Return what travels with a cell."""
        return self._inputs_of[cell.name]

    def _refusals(self, settings: Sequence[ServerSetting]) -> list[tuple[ServerSetting, str]]:
        """Return what a machine with their resources says against servers."""
        ask = ray.remote(_complaint)
        asked = [(each, ask.options(**options(each.resources)).remote(each)) for each in settings]
        references = [reference for _, reference in asked]
        if references and len(ray.wait(references, num_returns=len(references), timeout=BUSY_SECONDS)[1]):
            print("mmlu-client: waits for machines of the Ray cluster to check servers", file=sys.stderr)
        found = []
        for setting, reference in asked:
            try:
                why = ray.get(reference)
            except ray.exceptions.RayError as error:
                why = reason(error)
            if why is not None:
                found.append((setting, why))
        return found


def _complaint(setting: ServerSetting) -> str | None:
    return refusal(setting) if setting.is_started else unreachable(setting)


def _lacking(need: Resources, nodes: Sequence[Node]) -> str | None:
    """Return what no machine has; None: one has it."""
    if any(node.room(need) for node in nodes):
        return None
    wanted = f"{cpus_of(need)} cpus" + (f" and {need.gpus} gpus" if need.gpus else "")
    have = ", ".join(sorted({f"{node.cpus:g} cpus and {node.gpus:g} gpus" for node in nodes})) or "none"
    return (
        f"it needs {wanted}, and no machine of the Ray cluster has them (they have {have}): lower its "
        "`resources`, or add a machine (of a cluster that adds them by need, one such has to be there)"
    )
