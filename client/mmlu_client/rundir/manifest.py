"""manifest.json: what a run was made of, so that it can be gone on with, and compared with another.

This module alone reads and writes the file. A class has a field for each key of its JSON object, in the order
in which they are written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError
from mmlu_client.rundir.folder import MANIFEST, write_text
from mmlu_client.rundir.json_file import UnreadableError, read_json_file
from mmlu_client.service.model import Device, EngineInfo, PeakMeasurements, ServedModel
from mmlu_client.service.stages import Slo
from mmlu_client.text import shown

# Changed with what a manifest or a record holds.
MANIFEST_VERSION = 4

# What a run's answers and figures depend on; dots lead into nested objects.
IDENTITY = (
    "model.fingerprint",
    "engine.fingerprint",
    "reference.fingerprint",
    "data.sha256",
    "data.subjects",
    "data.limit",
    "data.questions",
    "data.order",
    "tasks.lm_eval_version",
    "prompt_format",
    "few_shots",
    "max_prompt_tokens.asked",
    "limits.max_prompt_tokens",
    "scoring.told_tokens",
    "bs",
    "tokenizer",
    "special_tokens.first",
    "validate",
    "reuse_prefix",
    "seeds.random_seed",
    "load.description",
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One moment on the calendar and on the clock of records.jsonl's client_ns.

    Attributes:
        utc: in ISO 8601.
        epoch_ns: nanoseconds since 1970.
        monotonic_ns: nanoseconds of the client's monotonic clock.
    """

    utc: str
    epoch_ns: int
    monotonic_ns: int


@dataclass(frozen=True, kw_only=True)
class Outage:
    """The time from a stream's loss until its server was back, or was given up.

    Attributes:
        phase: VAL or INFER.
        server: the server's name.
        lost_ns: the beginning, in nanoseconds of the client's monotonic clock.
        over_ns: the end.
    """

    phase: str
    server: str
    lost_ns: int
    over_ns: int


@dataclass(frozen=True, kw_only=True)
class SessionEnd(Moment):
    """How one start of the client ended.

    Attributes:
        why: "done", "early stop", "benchmark duration", or the error or signal.
        interruptions: how often a server was away.
        outage_seconds: how long together.
        outages: each of them; older manifests have none.
        lag_mean_seconds: of the last phase, how late the event loop was on average.
        lag_worst_seconds: of the last phase, how late it was at the most.
        busy_share: of the last phase, the CPU time of the event loop's thread.
        starved_share: of the last phase, the time that due requests waited for their prompts.
        phase_seconds: how long each phase was asked.
        lost_readings: how many readings of devices could not be written.
        timeouts: how many answers took too long, so that they were asked for again.
        refusals: how often a request was refused because a queue was full, and asked again.
    """

    why: str
    interruptions: int
    outage_seconds: float
    outages: tuple[Outage, ...] = ()
    lag_mean_seconds: float
    lag_worst_seconds: float
    busy_share: float
    starved_share: float
    phase_seconds: dict[str, float]
    lost_readings: int = 0
    timeouts: int = 0
    refusals: int = 0


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of the client.

    Attributes:
        started: when the manifest was made.
        process_started_ns: when the process began, in nanoseconds of the client's monotonic clock.
        command_line: the arguments.
        ended: None where the client was killed, or has not ended yet.
    """

    started: Moment
    process_started_ns: int
    command_line: tuple[str, ...]
    ended: SessionEnd | None


@dataclass(frozen=True, kw_only=True)
class DeviceEntry:
    """A device that a server runs on.

    Attributes:
        name: what the server calls it.
        id: equal where two servers share the device.
        part: what the server may use of it; None for all.
    """

    name: str
    id: str | None
    part: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServerEntry:
    """A server in one start of the client.

    In another start it may be on another device, with another peak (FLOP/s). What it does not tell is None.
    """

    name: str
    session: int
    device: str
    devices: tuple[DeviceEntry, ...]
    peak_flops: float | None
    peak_measurements: PeakMeasurements | None = None
    load_seconds: float | None
    build_seconds: float | None
    reference_load_seconds: float


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """What was asked.

    Attributes:
        name: what --data names.
        sha256: of the questions.
        subjects: the subjects that are asked.
        subject_sizes: how many questions the data has of each of these.
        limit: --limit.
        questions: how many the run was to ask.
        benchmark_questions: how many all of the data has.
        order: "file" or "shuffled".
        family: the name of the benchmark (data.family). Earlier clients read MMLU alone.
    """

    name: str
    sha256: str
    subjects: tuple[str, ...]
    subject_sizes: dict[str, int]
    limit: int | None
    questions: int
    benchmark_questions: int
    order: str
    family: str = "mmlu"


@dataclass(frozen=True, kw_only=True)
class LoadPart:
    """The load of a run, as config.load_plan.LoadPlan has it, and what tables call it."""

    mode: str
    concurrency: int
    rate: float
    pattern: str
    warmup_requests: int
    duration: float | None
    request_count: int | None
    description: str


@dataclass(frozen=True, kw_only=True)
class PromptLimitPart:
    """How long prompts may be.

    Attributes:
        asked: --max-prompt-tokens.
        source: whose limit the prompts kept. A run from before others were told kept the server's.
    """

    asked: int | str | None = None
    source: str = "the server"


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The tokens that the tokenizer adds.

    Attributes:
        first: the ids before every prompt.
        notes: what the user was told of them.
    """

    first: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """The seeds of what is random in a run."""

    random_seed: int


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """The model, as its server describes it."""

    id: str
    architecture: str
    fingerprint: str
    parameters: int | None
    vocabulary_size: int
    notice: str


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The peak of a device, and who says so; None where nobody does."""

    flops_per_second: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the server; None where there is none."""

    max_prompt_tokens: int
    max_batch_size: int | None
    stream_window: int


@dataclass(frozen=True, kw_only=True)
class ScoringPart:
    """What the server's answers are worth. See `ServedModel`, which has the same fields."""

    tells_stages: bool = True
    told_tokens: int | None = None
    unrepeatable: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClientPart:
    """The program and the machine that asked.

    Attributes:
        version: of the client, with its commit; None in folders of earlier clients.
        platform: the operating system.
        python: the version of Python.
        versions: those of packages; None for one that is not installed.
    """

    version: str | None = None
    platform: str
    python: str
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of manifest.json.

    Attributes:
        started: when the first session started.
        command_line: that of the first session.
        sessions: every start of the client.
        tasks: lm-eval's tasks that were asked, and how their metrics are aggregated (TaskSet.as_json); None
            where the questions of a benchmark were.
        servers: the servers of every session.
        labels: what the person calls the run, by the label's name.
        flags: as they were given.
    """

    started: Moment
    command_line: tuple[str, ...]
    sessions: tuple[Session, ...]
    manifest_version: int
    url: str
    data: DataPart
    tasks: dict[str, Any] | None = None
    prompt_format: str
    few_shots: int | None
    bs: int
    concurrency: int | None
    load: LoadPart
    validate: bool
    reuse_prefix: bool
    early_stop: float | None
    goodput: tuple[str, ...]
    max_prompt_tokens: PromptLimitPart = PromptLimitPart()
    tokenizer: str
    special_tokens: SpecialTokens
    seeds: Seeds
    model: ModelPart
    engine: EngineInfo
    reference: EngineInfo | None
    device: Device
    peak: Peak
    limits: Limits
    scoring: ScoringPart = ScoringPart()
    servers: tuple[ServerEntry, ...]
    server_version: str
    client: ClientPart
    labels: dict[str, str] = field(default_factory=dict)
    flags: dict[str, Any]

    @property
    def served_model(self) -> ServedModel:
        """The model as the server described it."""
        return ServedModel(
            **asdict(self.model),
            engine=self.engine,
            reference=self.reference,
            device=self.device,
            peak_flops=self.peak.flops_per_second,
            peak_source=self.peak.source,
            **asdict(self.limits),
            **asdict(self.scoring),
            server_version=self.server_version,
        )

    @property
    def to_answer(self) -> int:
        """How many answers the run was to get: with a reference, two of each question."""
        return self.data.questions * (2 if self.validate else 1)

    @property
    def server_names(self) -> list[str]:
        """The names of the servers, each once."""
        return list(dict.fromkeys(server.name for server in self.servers))

    @property
    def slos(self) -> tuple[Slo, ...]:
        """The limits of --goodput."""
        return tuple(map(Slo.parse, self.goodput))

    @property
    def outages(self) -> list[tuple[int, Outage]]:
        """Each outage with the number of its session; those of a session that was killed are lost."""
        return [
            (number, outage)
            for number, session in enumerate(self.sessions)
            if session.ended is not None
            for outage in session.ended.outages
        ]

    @property
    def ends(self) -> list[SessionEnd]:
        """The ends of the sessions that were not killed."""
        return [session.ended for session in self.sessions if session.ended is not None]

    def as_json(self) -> dict[str, Any]:
        """Give the object that the file holds, with lists and not tuples."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    def check_same_run(self, folder: Path, now: Manifest) -> None:
        """Check that the run that is to go on is this one.

        Args:
            folder: what --resume names.
            now: the manifest of the run that is to go on.

        Raises:
            InputError: it is another run; the message names the difference.
        """
        earlier, later = self.as_json(), now.as_json()
        for name in IDENTITY:
            if name.startswith("reference.") and not self.validate:
                continue  # it was not asked: a server may have got one since
            before, after = _at(earlier, name), _at(later, name)
            if before != after:
                raise InputError(f"--resume {folder}: {name} was {_short(before)}, now it is {_short(after)}")


def now() -> Moment:
    """Take the time."""
    return Moment(
        utc=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        epoch_ns=time.time_ns(),
        monotonic_ns=time.monotonic_ns(),
    )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the run in this folder.

    Raises:
        InputError: the folder holds no run, or one of another version.
    """
    try:
        return read_json_file(
            folder / MANIFEST,
            Manifest,
            "a run's manifest",
            version=("manifest_version", MANIFEST_VERSION),
            remedy="without it the run cannot be read: put back a copy, or run it again",
        )
    except UnreadableError as error:
        raise InputError(
            f"{folder} holds no run: cannot read {MANIFEST}: {error.error.strerror}{_runs_below(folder)}"
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in one step.

    Raises:
        NotWrittenError: it cannot be written.
    """
    write_text(folder / MANIFEST, json_text(asdict(manifest)))


def json_text(content: Mapping[str, Any]) -> str:
    """Write an object as every manifest is written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Find every value in which two manifests' objects differ.

    Yields:
        Its dotted name, the first's value and the second's.
    """
    for name in sorted({*first, *second}):
        left, right = first.get(name), second.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from differences(left, right, f"{prefix}{name}.")
        elif left != right:
            yield f"{prefix}{name}", left, right


def _runs_below(folder: Path) -> str:
    """Say where to look instead: the loads of a sweep, or all that ran into results/."""
    below = sorted(str(path.parent) for path in folder.glob(f"*/{MANIFEST}"))
    return f"; runs are in {shown(below)}: name one of them" if below else ""


def _at(content: Mapping[str, Any], name: str) -> Any:
    value: Any = content
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
