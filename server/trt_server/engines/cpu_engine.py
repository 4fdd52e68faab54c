"""What engines on a CPU have in common: a model in two parts, a store of prefixes, and a measured peak."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_server.devices.device import processor_name
from trt_server.devices.peak import PeakFlops
from trt_server.engines.continuation import Continuation
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import Batch, EngineDescription, EngineLimits, Outcome, next_token_batch
from trt_server.engines.prefix_store import PrefixStore
from trt_server.engines.split_graph import SplitGraph
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.graph.scoring_graph import Graph

_WARM_UP_TOKENS = 128


@dataclass(frozen=True)
class CpuLibrary:
    """A library that computes on the CPU.

    Attributes:
        name: Its name, which is the engine's.
        version: Its version.
        precision: The type that products are computed in.
    """

    name: str
    version: str
    precision: str


@dataclass(frozen=True)
class CpuGraphs:
    """What a library has loaded of a model.

    Attributes:
        body: The graph of the layers without a past, of which the others follow.
        plain: Runs batches without a prefix.
        continuation: Runs batches with a prefix; None: prefixes are not stored.
    """

    body: Graph
    plain: SplitGraph
    continuation: Continuation | None


class CpuEngine:
    """An engine whose library runs a batch when it is waited for.

    Its depth is 1: the CPU has no second queue in which a batch could wait.
    """

    depth = 1
    length_multiple = 1
    max_candidates: int | None = None

    def __init__(
        self,
        library: CpuLibrary,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        graphs: CpuGraphs,
        peak: CpuPeak,
        *,
        load_seconds: float,
        build_seconds: float,
    ) -> None:
        """Take what the library has loaded, and measure the peak.

        Args:
            library: What runs the model.
            checkpoint: The model.
            limits: The largest batch it has to accept.
            graphs: What was loaded.
            peak: Measures the peak, now and again.
            load_seconds: How long loading took.
            build_seconds: How long converting the weights took.
        """
        self._graph: SplitGraph | None = graphs.plain
        self._continuation = graphs.continuation
        self._limits = limits
        self._peak = peak
        self.description = EngineDescription(
            name=library.name,
            version=library.version,
            precision=library.precision,
            device=processor_name(),
            peak=peak.measure(),
            fingerprint=_fingerprint(library, checkpoint, graphs.body),
            load_seconds=load_seconds,
            build_seconds=build_seconds,
        )
        self.max_scored_positions = limits.max_scored_positions

    @property
    def prefixes(self) -> PrefixStore[Any] | None:
        """The store of shared prefixes; None where there is none."""
        return self._continuation.store if self._continuation else None

    def warm_up(self) -> None:
        """Run one prompt.

        All lengths run the same code, and the first run reads the weights from their file.
        """
        self.submit(self._warm_up_batch()).wait()

    def submit(self, batch: Batch) -> _Submission:
        """Return the batch as a submission, which is computed when it is waited for."""
        assert self._graph is not None
        return _Submission(batch, self._graph, self._continuation)

    def _warm_up_batch(self) -> Batch:
        length = min(_WARM_UP_TOKENS, self._limits.max_prompt_tokens)
        tokens, candidates = np.zeros((1, length), np.int32), np.zeros((1, 1), np.int32)
        return next_token_batch(tokens, np.full(1, length, np.int32), candidates)

    def measure_peak(self) -> PeakFlops:
        """Time matrix products once more, and return the largest rate so far."""
        return self._peak.measure()

    def close(self) -> None:
        """Free the model and the stored prefixes."""
        self._graph = self._continuation = None


@dataclass(frozen=True)
class _Submission:
    batch: Batch
    graph: SplitGraph
    continuation: Continuation | None

    def wait(self) -> Outcome:
        """Run the batch.

        Raises:
            ScoringError: The library failed on this batch; the engine is not lost.
        """
        if self.continuation is not None and self.batch.prefix is not None:
            return self.continuation.score(self.batch, self.batch.prefix)
        return self.graph.score(self.batch)


def _fingerprint(library: CpuLibrary, checkpoint: Checkpoint, body: Graph) -> str:
    """Return a hash of everything that could change an answer; the head's graph follows from the model."""
    words = f"{library.name} {library.version} {library.precision} {checkpoint.fingerprint}"
    digest = hashlib.sha256(f"{words}\n".encode())
    for node in body.model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return digest.hexdigest()
