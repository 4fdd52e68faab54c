"""What the answered prompts took: the tokens that were computed, and the floating-point operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mmlu_client.figures.arithmetic import ratio
from mmlu_client.rundir.counter_log import CounterReading
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.counters import Counters


@dataclass(frozen=True)
class Work:
    """What the answered prompts took; None where it is not known.

    Attributes:
        computed_tokens: those that the engine ran.
        flops: floating-point operations, of these tokens.
        queue_seconds: how long a prompt waited for the engine on average, as the server's own metrics say.
    """

    computed_tokens: int | None
    flops: int | None
    queue_seconds: float | None


def work_of(run: FinishedRun, scored: RecordTable) -> Work:
    """Find out what the answered prompts of a run took.

    Where the servers' own metrics were asked for, they decide how many tokens were computed: a reply that
    says nothing of reuse proves nothing. Which tokens were reused, and so their FLOPs, is then not known.

    Args:
        run: the run.
        scored: its records with scores, of the compiled engine.
    """
    logical = int(scored["tokens.logical"].sum())
    counters = own_counters(run, scored)
    # Added up as Python's integers, which have no largest.
    flops = sum(map(int, scored["flops"].tolist())) if scored.knows("flops") else None
    computed = int(scored["tokens.computed"].sum()) if scored.knows("tokens.computed") else None
    waited = None
    if counters is not None and run.manifest.bs == 1:
        waited = ratio(counters.queue_seconds, counters.queued)
    if counters is None or (computed is not None and computed < logical):
        return Work(computed, flops if computed is not None else None, waited)
    cached = round(counters.cached_tokens)
    return Work(logical - cached, None if cached else flops, waited)


def own_counters(run: FinishedRun, scored: RecordTable) -> Counters | None:
    """Return what the servers counted in the run; None where they counted others' prompts too, or too few."""
    counters = counted(run.counter_readings, INFER)
    if counters is None:
        return None
    logical = int(scored["tokens.logical"].sum())
    # A text's last token is sent as well where a server scores a prompt's own tokens alone.
    most = logical + len(scored)
    return counters if logical <= counters.prompt_tokens <= most else None


def counted(readings: Sequence[CounterReading], phase: str) -> Counters | None:
    """Add up what the servers counted during a phase.

    Returns:
        The sums over servers and starts of the client; None where a start has no second reading, or a server
        began to count anew.
    """
    places: dict[tuple[int, str], list[Counters]] = defaultdict(list)
    for reading in readings:
        if reading.phase == phase:
            places[reading.session, reading.source].append(reading.counters)
    if not places or any(len(each) < 2 for each in places.values()):
        return None
    names = [each.name for each in fields(Counters)]
    gained = [
        {name: getattr(each[-1], name) - getattr(each[0], name) for name in names} for each in places.values()
    ]
    if any(value < 0 for each in gained for value in each.values()):
        return None
    return Counters(**{name: sum(each[name] for each in gained) for name in names})
