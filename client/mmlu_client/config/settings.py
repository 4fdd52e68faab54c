"""Every choice a run is made with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmlu_client.errors import InputError
from mmlu_client.figures.stages import Goal
from mmlu_client.load.pacing import ArrivalPattern, ClosedLoop, Offline, OpenLoop, Pacing
from mmlu_client.prompts.limit import RequestedLimit
from mmlu_client.service.address import Address
from mmlu_client.text import shortest

Mode = Literal["closed", "open", "offline"]


@dataclass(frozen=True)
class LoadPlan:
    """How requests come. concurrency: requests in flight, closed loop. rate: requests a second, open loop.

    warmup_requests: asked and thrown away before. duration: seconds after which nothing new is asked;
    request_count: so many requests at most; None: until every question is asked.
    """

    mode: Mode
    concurrency: int
    rate: float
    pattern: ArrivalPattern
    warmup_requests: int
    duration: float | None
    request_count: int | None

    def pacing(self, seed: int) -> Pacing:
        if self.mode == "open":
            return OpenLoop(self.rate, self.pattern, seed)
        if self.mode == "offline":
            return Offline()
        return ClosedLoop(self.concurrency)

    def is_spent(self, nanoseconds: int) -> bool:
        """Whether nothing new is asked after so long."""
        return self.duration is not None and nanoseconds >= self.duration * 1e9

    def __str__(self) -> str:
        if self.mode == "open":
            return f"open loop, {shortest(self.rate)} requests/s, {self.pattern} arrivals"
        if self.mode == "offline":
            return "offline, everything at once"
        return f"closed loop, {self.concurrency} in flight"


@dataclass(frozen=True)
class Settings:
    """subjects, limit: None for all. max_prompt_tokens: None for the format's. tokenizer: None for the
    server's. output: None for results/<UTC time>.

    server_timeout: seconds that a server may be away. early_stop: the width of acc's 95 % interval at which
    the run ends. resume: the folder of the run, or of the sweep, that is gone on with. verbose: everything is
    printed. given: the flags as they came, for a run that goes on with this one.
    """

    addresses: tuple[Address, ...]
    tls_ca: Path | None
    batch_size: int
    data: str
    subjects: tuple[str, ...] | None
    limit: int | None
    few_shots: int
    prompt_format: str
    max_prompt_tokens: RequestedLimit
    tokenizer: str | None
    output: Path | None
    server_timeout: float
    metrics_host: str
    metrics_port: int | None
    validate: bool
    reuse_prefix: bool
    load: LoadPlan
    sweep: tuple[LoadPlan, ...]
    goals: tuple[Goal, ...]
    seed: int
    early_stop: float | None
    resume: Path | None
    format: str
    verbose: bool
    given: dict[str, Any]

    @property
    def is_shuffled(self) -> bool:
        """A run that may end before its last question must not have asked the first subjects only."""
        return self.early_stop is not None or self.load.duration is not None or bool(self.load.request_count)

    def within(self, window: int) -> Settings:
        """With no more in flight than the servers together take at a time, which is `window`.

        Raises InputError where more were asked for, here or in another point of the sweep.
        """
        swept = [plan.concurrency for plan in self.sweep if plan.mode == "closed"]
        most = max([self.given["concurrency"] or 0, *swept])
        if most > window:
            flag = "--sweep" if swept else "--concurrency"
            raise InputError(
                f"{flag}: {most} requests cannot be in flight: the servers' windows hold {window} in all; "
                f"ask for {window} at most, or start trt-server with a larger --stream-window"
            )
        return replace(self, load=replace(self.load, concurrency=min(self.load.concurrency, window)))
