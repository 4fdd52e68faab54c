"""What the server says about the model it serves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineInfo:
    """An engine of the server.

    Attributes:
        name: such as `onnxruntime`.
        version: of the library.
        precision: that it computes in; empty where the server does not tell.
        fingerprint: equal where weights, graph, engine and settings are the same.
        load_seconds: how long loading the model into it took; None where the server does not tell.
        build_seconds: how long building it took; None where the server does not tell.
    """

    name: str
    version: str
    precision: str
    fingerprint: str
    load_seconds: float | None
    build_seconds: float | None


@dataclass(frozen=True)
class Device:
    """A device that a server computes on, and its readings; None where the device does not tell.

    Attributes:
        name: as its maker calls it.
        memory_used: bytes that the server's process holds now.
        memory_peak: the most bytes that it ever held.
        memory_total: bytes of the device.
        power_watts: of now.
        energy_joules: a counter, of which only differences mean something.
        temperature_celsius: of now.
        sm_clock_hertz: of now, of the streaming multiprocessors.
        id: equal where two servers share the device.
        part: what the server may use of it; None for all.
    """

    name: str
    memory_used: int | None
    memory_peak: int | None
    memory_total: int | None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    id: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class PeakMeasurements:
    """How a server measured its peak.

    Attributes:
        count: how often.
        least_flops: the least of the rates, in FLOP/s.
        contended: whether other processes had the cores each time, so that even the largest is too low.
    """

    count: int
    least_flops: float
    contended: bool


@dataclass(frozen=True)
class ServedModel:
    """What a server says of the model that it serves.

    Attributes:
        id: its name.
        architecture: the family of its graph.
        fingerprint: equal where configuration and weights are the same.
        parameters: how many it has; None: not known.
        vocabulary_size: how many token ids it has.
        engine: the compiled engine.
        reference: the reference engine; None where none is loaded.
        device: all its devices together.
        peak_flops: the peak of each device, in FLOP/s, dense, for the precision in use; None: not known.
        peak_source: where that number is from.
        max_prompt_tokens: the longest prompt that the server takes.
        max_batch_size: the most prompts in one request; None: any number.
        stream_window: the most unanswered requests on one stream.
        notice: what a reader of its accuracy has to know; empty where there is nothing.
        server_version: of the program.
        devices: each of its devices.
        peak_measurements: None where the peak is known without.
        max_scored_positions: the most positions of a request that are scored; 0: any number.
        max_top_tokens: of the most likely tokens that are told at a position; 0: the server scores candidates
            alone, and neither continuations nor a prompt's own tokens.
        tells_stages: whether each reply has the times of the server's stages.
        told_tokens: of a server that tells log-probabilities of the most likely tokens alone: of how many;
            None: it tells those of any candidate.
        unrepeatable: how far, in nats, a known prompt's log-probabilities were apart when it was asked twice;
            None: it was not.
    """

    id: str
    architecture: str
    fingerprint: str
    parameters: int | None
    vocabulary_size: int
    engine: EngineInfo
    reference: EngineInfo | None
    device: Device
    peak_flops: float | None
    peak_source: str
    max_prompt_tokens: int
    max_batch_size: int | None
    stream_window: int
    notice: str
    server_version: str
    devices: tuple[Device, ...] = ()
    peak_measurements: PeakMeasurements | None = None
    max_scored_positions: int = 0
    max_top_tokens: int = 0
    tells_stages: bool = True
    told_tokens: int | None = None
    unrepeatable: float | None = None

    def difference(self, other: ServedModel) -> str | None:
        """Name the model or engine in which another server differs; None where both are the same."""
        if self.fingerprint != other.fingerprint:
            return f"model {self.id} ({self.fingerprint}) and {other.id} ({other.fingerprint})"
        if self.engine.fingerprint != other.engine.fingerprint:
            mine, theirs = (f"{each.name} ({each.fingerprint})" for each in (self.engine, other.engine))
            return f"engine {mine} and {theirs}"
        return None
