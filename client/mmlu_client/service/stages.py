"""The names of a request's stages, on both sides, and the limits that a person sets for them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from trt_common.command_line.values import milliseconds, quoted

from mmlu_client.service.messages import SERVER_STAGES
from mmlu_client.text import shortest

# In the order they happen. `tokenize` is done ahead of time and is no part of the latency; the others add up
# to it.
STAGES = {
    "tokenize": "the client builds the prompts, ahead of time",
    "client_queue": "due, and not yet sent",
    "network": "on the way there and back, and gRPC at both ends",
    **{stage.key: stage.about for stage in SERVER_STAGES.values()},
    "server_other": "decoding, encoding, waiting for the event loop; "
    "of merged requests, the others' share of the batch",
}
LATENCY = "latency"
# Known only of a server that tells how long it took for each.
STAGES_OF_SERVERS = frozenset({"network", *(stage.key for stage in SERVER_STAGES.values()), "server_other"})


@dataclass(frozen=True)
class Slo:
    """A service level objective: a limit of --goodput, which a good request keeps.

    Attributes:
        key: a stage, or LATENCY.
        milliseconds: how long it may take at the most.
    """

    key: str
    milliseconds: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read an objective, such as `latency:200`, which is in milliseconds.

        Raises:
            ValueError: it is none; the message says why.
        """
        key, colon, limit = text.partition(":")
        if not colon:
            raise ValueError(f"{quoted(text)} is not KEY:MS, like {LATENCY}:200 or core:50")
        if key not in (LATENCY, *STAGES):
            raise ValueError(f"{quoted(key)} is none of {', '.join((LATENCY, *STAGES))}")
        try:
            return cls(key, milliseconds(limit))
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        return f"{self.key}:{shortest(self.milliseconds)}"
