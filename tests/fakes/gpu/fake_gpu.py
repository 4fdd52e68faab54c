"""What the fake device is to be, and what was done with it.

FAKE_GPU holds a JSON object: the fields of Wishes that differ from their defaults.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Wishes:
    """What the stand-in is to be.

    tensorrt: the version to behave as. log: a file that gets a line for every build and load, with the
    device's number where that is not 0.

    others: the names of the devices after the first, where they are not its own. memory: of each of them.
    full: the number of a device that has no memory left. pinned: bytes of the host that may be pinned.
    fail_enqueue: the number of the enqueue that TensorRT fails, from 1. hold: token → file; a batch that
    begins with the token is noted as held, and as holds:TOKEN, and waits until there is the file.
    seconds: what a batch takes without the processor. Its answers are those of the first batch of its shapes,
    which alone is computed.
    lose_at_token: a batch that begins with it ends its device. late_at_token: as that, but it is told only
    when the batch is timed.
    load_error: what the runtime says of any plan. full_at: "context" or "stream": memory runs out in making
    one. refuse_profiles: no context takes any. driver_error: what importing pycuda says.
    """

    tensorrt: str = "8.6.1"
    devices: int = 1
    name: str = "NVIDIA A100-SXM4-40GB"
    others: tuple[str, ...] = ()
    memory: int = 8 * 1024**3
    full: int = -1
    pinned: int = 8 * 1024**3
    log: str = ""
    fail_enqueue: int = 0
    hold: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    lose_at_token: int = -1
    late_at_token: int = -1
    load_error: str = ""
    full_at: str = ""
    refuse_profiles: bool = False
    driver_error: str = ""


WISHES = Wishes(**json.loads(os.environ.get("FAKE_GPU", "{}")))
if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
    WISHES = replace(WISHES, devices=0)


def note(event: str, device: int) -> None:
    if WISHES.log:
        with Path(WISHES.log).open("a") as stream:
            stream.write(f"{event}-{device}\n" if device else f"{event}\n")
