"""Why a run has fewer answers than questions."""

from __future__ import annotations

from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.text import shortest

# What a session's `why` says in the manifest where no error ended it.
DONE, EARLY_STOP, DURATION = "done", "early stop", "benchmark duration"
KILLED = "killed"


def early_end(run: FinishedRun, unanswered: int) -> str | None:
    """Say why a run ended early.

    Returns:
        EARLY_STOP, DURATION, KILLED, or the error or signal that ended it; None where every question was
        asked.
    """
    ended = run.manifest.sessions[-1].ended
    why = ended.why if ended else KILLED
    return None if not unanswered or why == DONE else why


def ending_lines(run: FinishedRun, why: str | None) -> list[str]:
    """Say for the report why the run ended early; nothing where every question was asked."""
    if why is None:
        return []
    return [f"ended early: {_in_words(run, why)}"]


def _in_words(run: FinishedRun, why: str) -> str:
    order = f"questions in random order (seed {run.manifest.seeds.random_seed})"
    width, duration = run.manifest.early_stop, run.manifest.load.duration
    if why == EARLY_STOP and width is not None:
        return (
            f"the 95 % interval of accuracy is narrower than --early-stop {shortest(width)}; {order}; "
            "looking after each answer makes its level slightly optimistic"
        )
    if why == DURATION and duration is not None:
        return f"--benchmark-duration {shortest(duration)} s is over; {order}"
    if why == KILLED:
        return f"the client was killed, or could not write any more; --resume {run.folder} goes on"
    return why
