"""What a part of the campaign did, and what did not hold."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import ServerProcess
from score_requests import ids_request

MIB = 1024 * 1024
SECONDS = 60.0
# Of what does not hold, so many are told one by one.
MOST_TOLD = 20


@dataclass
class Outcome:
    """What one part of the campaign did.

    Attributes:
        part: Its name.
        figures: What it counted and measured, in words, with the value of each.
        broken: What did not hold, in words; the first of them.
        breaches: How many times something did not hold.
    """

    part: str
    figures: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    breaches: int = 0

    def hold(self, holds: bool, otherwise: str) -> bool:
        """Note it where something does not hold, and return whether it does."""
        if not holds:
            self.breaches += 1
            if len(self.broken) < MOST_TOLD:
                self.broken.append(otherwise)
        return holds

    def tell(self, what: str, value: object) -> None:
        self.figures[what] = f"{value:,}" if isinstance(value, int) else str(value)


def reference_answer(server: ServerProcess) -> list[float]:
    """Log-probabilities of a request that is the same for each server of the same checkpoint."""
    reply: Any = server.stub().Score(ids_request(3, 40, 7), timeout=SECONDS)
    return [value for score in reply.scores for value in score.candidate_logprobs]


def is_same(answer: list[float], expected: list[float]) -> bool:
    """Whether two answers are the same, but for what the shape of a batch does to their last digits."""
    return len(answer) == len(expected) and all(
        math.isclose(one, other, abs_tol=1e-4) for one, other in zip(answer, expected, strict=True)
    )


def memory_mib(server: ServerProcess, field_name: str = "VmRSS") -> int:
    """Memory of a server's process in MiB: what it has now, or VmHWM, the most that it has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"{field_name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def hold_the_rest(outcome: Outcome, server: ServerProcess, expected: list[float]) -> None:
    """After whatever it was asked: it runs, answers as it did, holds no request's memory, and told no bug."""
    if not outcome.hold(server.process.poll() is None, "the server has ended: " + "".join(server.lines[-3:])):
        return
    outcome.hold(is_same(reference_answer(server), expected), "the server answers otherwise than before")
    still = ("trt_server_request_memory_bytes", "trt_server_queue_depth")
    held = {name: value for name, value in server.metrics().items() if name.startswith(still)}
    outcome.hold(len(held) >= len(still), f"the metrics have no more than {held}")
    outcome.hold(not any(held.values()), f"the server still holds {held}")
    bugs = [line for line in server.lines if "Traceback" in line or '"level": "CRITICAL"' in line]
    outcome.hold(not bugs, f"the server's log has {len(bugs)} tracebacks, the first: {bugs[:1]}")
