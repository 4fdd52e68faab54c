"""How long a run took from end to end: its servers' loads and builds, and the client up to its report."""

from __future__ import annotations

from mmlu_client.figures.arithmetic import longest
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import Manifest, ServerEntry, Session


def load_seconds(manifest: Manifest) -> float | None:
    """Measure how long the servers took to load; None where one does not tell.

    Servers load at the same time: the longest counts, with its reference where that was asked too.
    """
    return longest(_load_seconds(server, manifest) for server in manifest.servers)


def build_seconds(manifest: Manifest) -> float | None:
    """Measure how long the servers took to build their engines, the longest; None where one does not tell."""
    return longest(server.build_seconds for server in manifest.servers)


def client_seconds(run: FinishedRun) -> float:
    """Measure how long the client ran, in seconds: from each start to its report.

    Where it was killed, to its last reply.
    """
    return sum(_client_seconds(run, number, each) for number, each in enumerate(run.manifest.sessions))


def _load_seconds(server: ServerEntry, manifest: Manifest) -> float | None:
    if server.load_seconds is None:
        return None
    return server.load_seconds + (server.reference_load_seconds if manifest.validate else 0.0)


def _client_seconds(run: FinishedRun, number: int, session: Session) -> float:
    if session.ended is not None:
        end = session.ended.monotonic_ns
    else:
        mine = run.records["client_ns.received"][run.records["session"] == number]
        end = max([session.process_started_ns, *mine.tolist()])
    return (end - session.process_started_ns) / 1e9
