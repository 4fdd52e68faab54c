"""Whether Ray is installed. The modules that import it are imported through here alone."""

from __future__ import annotations

import importlib
from importlib import util

from mmlu_client.campaign.place import Place
from mmlu_client.errors import InputError

PACKAGE = "ray"


def ray_place(address: str | None, parallel: int | None) -> Place:
    """Return the cluster of this address, to which it connects.

    Args:
        address: HOST:PORT of its head; None: the one that RAY_ADDRESS names, or that runs on this machine.
        parallel: as many cells run at the same time; None: as many as the cluster's resources hold.

    Raises:
        InputError: Ray is not installed, or no cluster answers there.
    """
    if util.find_spec(PACKAGE) is None:
        raise InputError("--on ray needs Ray, which is not installed: pip install 'trt-server[ray]'")
    place: Place = importlib.import_module("mmlu_client.campaign.ray.place").RayPlace(address, parallel)
    return place
