"""What the servers' machines can do, and what a run took of them: peaks, memory and energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmlu_client.rundir.device_log import Reading
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import Manifest
from mmlu_client.rundir.record_table import Column, RecordTable
from mmlu_client.service.model import PeakMeasurements


def peak_flops(manifest: Manifest) -> float | None:
    """Add up the peaks of all devices, in FLOP/s; None where that of one is not known.

    Each device counts once, or each part of it that a server has to itself; where one had several peaks,
    the largest. The devices of a server that does not tell of them have one peak together.
    """
    peaks: dict[tuple[str, str | None], float] = {}
    for server in manifest.servers:
        if server.peak_flops is None:
            return None
        if not server.devices:
            peaks[server.name, None] = max(server.peak_flops, peaks.get((server.name, None), 0.0))
        for device in server.devices:
            place = device.id or f"{server.name} {device.name}", device.part
            peaks[place] = max(server.peak_flops, peaks.get(place, 0.0))
    return sum(peaks.values())


def peak_measurements(manifest: Manifest) -> PeakMeasurements | None:
    """Tell what is known of the peaks' measurements; None where one peak is known without.

    Of all servers: the fewest measurements that one made, the least rate of all, and whether one peak is
    contended.
    """
    found = [server.peak_measurements for server in manifest.servers]
    measured = [each for each in found if each is not None]
    if not measured or len(measured) < len(found):
        return None
    return PeakMeasurements(
        count=min(each.count for each in measured),
        least_flops=min(each.least_flops for each in measured),
        contended=any(each.contended for each in measured),
    )


def possible_flops(run: FinishedRun, requests: RecordTable) -> Column:
    """Compute the FLOPs that each request's core time allowed, at its server's peak, [requests].

    They are 0 where the peak is not known.
    """
    of_servers = {(each.session, each.name): each.peak_flops for each in run.manifest.servers}
    places = zip(requests["session"].tolist(), requests["server"].tolist(), strict=True)
    peaks = [of_servers.get(place, run.model.peak_flops) or 0.0 for place in places]
    possible: Column = requests["server_ns.core"] / 1e9 * np.array(peaks, dtype=np.float64)
    return possible


def memory_used(readings: Sequence[Reading]) -> int | None:
    """Add up the bytes of all servers: the most that each ever held on each of its devices."""
    peaks: dict[tuple[str, str], int] = {}
    for reading in readings:
        device = reading.device
        held = device.memory_used if device.memory_peak is None else device.memory_peak
        if held is not None:
            place = reading.server, device.name
            peaks[place] = max(held, peaks.get(place, 0))
    return sum(peaks.values()) if peaks else None


def memory_total(readings: Sequence[Reading]) -> int | None:
    """Add up the bytes of all devices: one that servers share is counted once."""
    totals = {reading.device_key: reading.device.memory_total for reading in readings}
    known = [total for total in totals.values() if total is not None]
    return sum(known) if known and len(known) == len(totals) else None


def joules(readings: Sequence[Reading], phase: str) -> float | None:
    """Add up the energy that the devices took in a phase, in joules.

    None where one of them has no counter.
    """
    counters: dict[tuple[int, str], list[float | None]] = {}
    for reading in readings:
        if reading.phase == phase:
            key = (reading.session, reading.device_key)
            counters.setdefault(key, []).append(reading.device.energy_joules)
    total = 0.0
    for values in counters.values():
        if len(values) < 2 or (first := values[0]) is None or (last := values[-1]) is None:
            return None
        total += last - first
    return total if counters else None
