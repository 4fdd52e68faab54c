"""A Ray cluster that this process is connected to."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from trt_common.one_line import first_line_of
from trt_common.version import version

from mmlu_client.campaign.cell import Resources
from mmlu_client.campaign.ray.address import cluster_address
from mmlu_client.errors import InputError


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with all that it has, in use or not."""

    id: str
    name: str
    cpus: float
    gpus: float

    def room(self, need: Resources) -> int:
        """Return how many workers of these resources fit on it."""
        by_gpus = [int(self.gpus // need.gpus)] if need.gpus else []
        return min([int(self.cpus // cpus_of(need)), *by_gpus])


class Cluster:
    """The machines of a cluster, and this process as one that uses them."""

    def __init__(self, address: str | None) -> None:
        """Connect.

        Args:
            address: HOST:PORT of its head; None: the one that RAY_ADDRESS names, or that runs here.

        Raises:
            InputError: no cluster answers there, or this process cannot use it.
        """
        found = cluster_address(address)
        _hold_rays_tongue()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Logs of workers would come here; what they say is in the campaign's folder.
                ray.init(address=found, log_to_driver=False, logging_level="CRITICAL")
        # Ray ends the process where its head does not answer as one.
        except (Exception, SystemExit) as error:
            raise InputError(_why(found, error)) from None
        finally:
            # Ray's own ends the process with another status.
            signal.signal(signal.SIGTERM, handler)

    def nodes(self) -> list[Node]:
        """Return the machines that are alive now."""
        return [_node(each) for each in ray.nodes() if each["Alive"]]

    def check_versions(self, nodes: Sequence[Node]) -> None:
        """Check that these machines have this version of the package.

        Raises:
            InputError: one of them has another, or none.
        """
        mine = version()
        asked = {node.name: _remote(_found_version()).options(**_on(node)).remote() for node in nodes}
        for name, reference in asked.items():
            try:
                theirs = ray.get(reference)
            except ray.exceptions.TaskUnschedulableError:
                # It has just been lost.
                continue
            except ray.exceptions.RayError as error:
                raise InputError(f"{name} of the Ray cluster cannot be asked: {reason(error)}") from None
            if theirs != mine:
                has = f"has trt-server {theirs}" if theirs else "has no trt-server"
                raise InputError(f"{name} of the Ray cluster {has}: install {mine} there, as it is here")

    def close(self) -> None:
        """Leave the cluster, which ends what this process started there."""
        ray.shutdown()


def cpus_of(need: Resources) -> int:
    """Return the CPUs that a worker takes: one where the campaign's file does not say."""
    return need.cpus or 1


def options(need: Resources) -> dict[str, Any]:
    """Return what Ray is asked for, for these resources."""
    return {"num_cpus": cpus_of(need), "num_gpus": need.gpus}


def node_name(node: Mapping[str, Any]) -> str:
    """Name a machine: its address, and the beginning of its id, since one machine may be several nodes."""
    return f"Ray node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"


def reason(error: BaseException) -> str:
    """Return in one line what went wrong in Ray's work, without the traceback."""
    cause = getattr(error, "cause", None)
    return first_line_of(cause if isinstance(cause, BaseException) else error)


def _node(node: Mapping[str, Any]) -> Node:
    resources = node["Resources"]
    return Node(node["NodeID"], node_name(node), resources.get("CPU", 0), resources.get("GPU", 0))


def _remote(function: Any) -> Any:
    return ray.remote(function)


def _on(node: Node) -> dict[str, Any]:
    return {
        "num_cpus": 0,
        "max_retries": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
    }


def _found_version() -> Any:
    """Return a function that finds the package's version, and is itself sent to where it is called."""

    def found() -> str | None:
        try:
            from trt_common.version import version

            import mmlu_client.campaign.ray.actor  # noqa: F401
        except ImportError:
            return None
        return version()

    return found


def _hold_rays_tongue() -> None:
    """Keep Ray from printing what happens to its processes: the campaign tells what it means for cells.

    Ray has no setting for that: `log_to_driver` is for the output of workers alone.
    """
    from ray._private import worker

    if hasattr(worker, "listen_error_messages"):
        worker.listen_error_messages = lambda *_: None


def _why(address: str, error: BaseException) -> str:
    text = str(error)
    if isinstance(error, SystemExit):
        return f"no Ray cluster answers at {address}: something else listens there"
    if "ersion mismatch" in text:
        parts = " ".join(text.split())
        return f"the Ray cluster at {address} has another version of Ray or Python than this process: {parts}"
    return (
        f"cannot use the Ray cluster at {address} from this machine: {first_line_of(error)}; this machine "
        f"has to be one of its nodes: `ray start --address={address} --num-cpus=0`"
    )
