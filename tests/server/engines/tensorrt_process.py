"""Runs batches on the TensorRT engine in a process of its own: on the fake device, this process cannot.

    python tensorrt_process.py

Reads (checkpoint folder, limits, precision, batches) from its input, and writes each batch's Outcome, or the
text of the error where it is refused. Both are pickled.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trt_server.engines.engine import Batch, Engine, EngineLimits, Outcome
from trt_server.errors import InvalidRequestError
from trt_server.model.files.checkpoint import open_checkpoint


def run_on_tensorrt(
    folder: Path,
    limits: EngineLimits,
    batches: Sequence[Batch],
    environment: Mapping[str, str],
    precision: str = "fp32",
) -> list[Outcome | str]:
    """Return what a process of this environment makes of the batches, all of the same engine."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps((folder, limits, precision, batches)),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    outcomes: list[Outcome | str] = pickle.loads(done.stdout)
    return outcomes


def main() -> None:
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine

    folder, limits, precision, batches = pickle.load(sys.stdin.buffer)
    engine = TensorRtEngine(open_checkpoint(folder), limits, precision, tf32=False)
    engine.warm_up()
    outcomes = [_outcome(engine, batch) for batch in batches]
    engine.close()
    sys.stdout.buffer.write(pickle.dumps(outcomes))


def _outcome(engine: Engine, batch: Batch) -> Outcome | str:
    try:
        return engine.submit(batch).wait()
    except InvalidRequestError as error:
        return str(error)


if __name__ == "__main__":
    main()
