"""How much a run's figures would differ, had its requests fallen out otherwise: the block bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmlu_client.figures.machine import possible_flops
from mmlu_client.figures.span import spans
from mmlu_client.figures.stages import latency
from mmlu_client.figures.statistics import Interval
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER
from mmlu_client.rundir.record_table import RecordTable

# Requests that follow each other wait for each other: what is drawn is blocks of them, so many a run, fewer
# where there are fewer requests. A run with fewer requests than FEWEST has no interval.
BLOCKS, FEWEST, DRAWS = 30, 10, 1000
SHARES = (50, 90, 99)

Draws = NDArray[np.float64]


def resampled(run: FinishedRun, seed: int) -> dict[str, Draws]:
    """Compute figures of runs that are made of this one's blocks of requests.

    Blocks follow each other in time, do not overlap, and are drawn with replacement (Carlstein 1986, Annals
    of Statistics 14, 1171-1179).

    Args:
        run: the run.
        seed: of the drawing.

    Returns:
        Figures under their names in summary.json, each [DRAWS]; none where there are too few requests.
    """
    infer = run.records.phase(INFER)
    requests = infer.requests()
    if len(requests) < FEWEST:
        return {}
    order = np.lexsort((requests["client_ns.received"], requests["session"]))
    blocks = np.array_split(order, min(BLOCKS, len(order)))
    chosen = np.random.default_rng(seed).integers(0, len(blocks), (DRAWS, len(blocks)))

    def total(values: NDArray[np.float64]) -> Draws:
        sums: Draws = np.array([values[block].sum() for block in blocks])[chosen].sum(axis=1)
        return sums

    seconds = latency(requests)
    tokens, core = total(infer.request_sums("tokens.logical")), total(requests["server_ns.core"] / 1e9)
    whole, count = total(_seconds_before(infer, requests, order)), total(np.ones(len(requests)))
    told = {}
    if requests.knows("server_ns"):
        with np.errstate(divide="ignore", invalid="ignore"):
            told = {
                "p_infer_core": tokens / core,
                "mfu": total(infer.request_sums("flops")) / total(possible_flops(run, requests)),
                "stage_core_seconds": core / count,
            }
    return {
        "p_infer_whole": tokens / whole,
        **told,
        "request_throughput": count / whole,
        "latency_mean_seconds": total(seconds) / count,
        **_percentiles([seconds[block] for block in blocks], chosen),
    }


def ratio_interval(above: Draws, below: Draws) -> Interval | None:
    """Compute the middle 95 % of the ratios; None where one of them is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above / below
    if not np.isfinite(ratios).all():
        return None
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Interval(float(low), float(high))


def _seconds_before(
    infer: RecordTable, requests: RecordTable, order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Measure the seconds between each reply and the one before it, or its session's first request.

    Together they are the whole time.
    """
    asked = spans(infer)
    received, session = requests["client_ns.received"][order], requests["session"][order]
    before = np.concatenate([[0], received[:-1]])
    for place in np.flatnonzero(np.concatenate([[True], session[1:] != session[:-1]])):
        before[place] = asked[int(session[place])].due
    seconds = np.zeros(len(order))
    seconds[order] = (received - before) / 1e9
    return seconds


def _percentiles(blocks: list[NDArray[np.float64]], chosen: NDArray[np.int64]) -> dict[str, Draws]:
    found = np.array(
        [np.percentile(np.concatenate([blocks[place] for place in row]), SHARES) for row in chosen]
    )
    return {f"latency_p{share}_seconds": found[:, place] for place, share in enumerate(SHARES)}
