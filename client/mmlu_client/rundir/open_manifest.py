"""The manifest of a run that is being made."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from trt_common.version import version

from mmlu_client.config.settings import Settings
from mmlu_client.prompts.limit import PromptLimit
from mmlu_client.prompts.tokenizer import Tokenizer
from mmlu_client.rundir.manifest import (
    MANIFEST_VERSION,
    ClientPart,
    DataPart,
    DeviceEntry,
    Limits,
    LoadPart,
    Manifest,
    ModelPart,
    Peak,
    PromptLimitPart,
    ScoringPart,
    Seeds,
    ServerEntry,
    Session,
    SessionEnd,
    SpecialTokens,
    now,
    write_manifest,
)
from mmlu_client.service.model import PeakMeasurements
from mmlu_client.service.remote_server import RemoteServer

PACKAGES = (
    "grpcio",
    "lm_eval",
    "numpy",
    "protobuf",
    "pyarrow",
    "sentencepiece",
    "tokenizers",
    "transformers",
)


@dataclass(frozen=True)
class Asking:
    """This is what a run asks, and of which tokenizer its prompts are made.

    Attributes:
        data: the data.
        tasks: lm-eval's tasks that the data are of; None for questions of a benchmark.
        prompt_format: whose prompts are made of them.
        few_shots: how many shots a prompt is to have; None where prompts differ.
        tokenizer_source: where the tokenizer is from.
        tokenizer: the tokenizer.
        limit: how long a prompt may be.
    """

    data: DataPart
    tasks: dict[str, Any] | None
    prompt_format: str
    few_shots: int | None
    tokenizer_source: str
    tokenizer: Tokenizer
    limit: PromptLimit


def new_manifest(
    settings: Settings, asking: Asking, servers: Sequence[RemoteServer], session: Session
) -> Manifest:
    """Make the manifest of a run whose first session this is, still without its servers."""
    model, load = servers[0].model, settings.load
    return Manifest(
        started=session.started,
        command_line=session.command_line,
        sessions=(session,),
        manifest_version=MANIFEST_VERSION,
        url=",".join(map(str, settings.addresses)),
        data=asking.data,
        tasks=asking.tasks,
        prompt_format=asking.prompt_format,
        few_shots=asking.few_shots,
        bs=settings.batch_size,
        concurrency=load.concurrency if load.mode == "closed" else None,
        load=LoadPart(
            mode=load.mode,
            concurrency=load.concurrency,
            rate=load.rate,
            pattern=load.pattern,
            warmup_requests=load.warmup_requests,
            duration=load.duration,
            request_count=load.request_count,
            description=str(load),
        ),
        validate=settings.validate,
        reuse_prefix=settings.reuse_prefix,
        early_stop=settings.early_stop,
        goodput=tuple(map(str, settings.slos)),
        max_prompt_tokens=PromptLimitPart(asked=settings.max_prompt_tokens, source=asking.limit.source),
        tokenizer=asking.tokenizer_source,
        special_tokens=SpecialTokens(
            first=tuple(asking.tokenizer.first), notes=tuple(asking.tokenizer.notes)
        ),
        seeds=Seeds(random_seed=settings.seed),
        model=ModelPart(
            id=model.id,
            architecture=model.architecture,
            fingerprint=model.fingerprint,
            parameters=model.parameters,
            vocabulary_size=model.vocabulary_size,
            notice=model.notice,
        ),
        engine=model.engine,
        reference=model.reference,
        device=model.device,
        peak=Peak(flops_per_second=model.peak_flops, source=model.peak_source),
        limits=Limits(
            max_prompt_tokens=asking.limit.tokens,
            max_batch_size=model.max_batch_size,
            stream_window=model.stream_window,
        ),
        scoring=ScoringPart(
            tells_stages=model.tells_stages,
            told_tokens=model.told_tokens,
            unrepeatable=model.unrepeatable,
        ),
        servers=(),
        server_version=model.server_version,
        client=ClientPart(
            version=version(),
            platform=platform.platform(),
            python=platform.python_version(),
            versions={name: _version(name) for name in PACKAGES},
        ),
        labels=settings.labels,
        flags=settings.given,
    )


def new_session(command_line: Sequence[str], process_started: float) -> Session:
    """Describe this start of the client.

    Args:
        command_line: its arguments.
        process_started: when its process began, in seconds of the monotonic clock.
    """
    return Session(
        started=now(),
        process_started_ns=round(process_started * 1e9),
        command_line=tuple(command_line),
        ended=None,
    )


class RunManifest:
    """This is the manifest of a run that is going on, which is written whenever it changes.

    Every change raises RunError where it cannot be written.

    Attributes:
        manifest: as it is now; its last session is this start of the client.
    """

    def __init__(self, folder: Path, manifest: Manifest, before: Manifest | None) -> None:
        """Take a new manifest, which goes on with an earlier one where there is one.

        Args:
            folder: the run's folder.
            manifest: a new manifest.
            before: the manifest of the run that is gone on with.
        """
        self._folder = folder
        self.manifest = manifest
        if before is not None:
            self.manifest = replace(
                manifest,
                started=before.started,
                command_line=before.command_line,
                sessions=(*before.sessions, *manifest.sessions),
                servers=before.servers,
            )

    @property
    def session(self) -> int:
        """The number of this start."""
        return len(self.manifest.sessions) - 1

    @property
    def earlier_sessions(self) -> Sequence[Session]:
        """The starts before this one."""
        return self.manifest.sessions[:-1]

    def add_servers(self, servers: Sequence[RemoteServer]) -> None:
        """Add servers of this start; one that is there already came back."""
        entries = [_server_entry(server, self.session) for server in servers]
        self._write(replace(self.manifest, servers=_all_servers(self.manifest.servers, entries)))

    def end(self, end: SessionEnd) -> None:
        """Note how this start ended."""
        last = replace(self.manifest.sessions[-1], ended=end)
        self._write(replace(self.manifest, sessions=(*self.earlier_sessions, last)))

    def end_now(self) -> None:
        """Put the end off to this moment."""
        end = self.manifest.sessions[-1].ended
        if end is not None:
            self.end(replace(end, **asdict(now())))

    def _write(self, manifest: Manifest) -> None:
        self.manifest = manifest
        write_manifest(self._folder, manifest)


def _server_entry(server: RemoteServer, session: int) -> ServerEntry:
    model = server.model
    return ServerEntry(
        name=server.name,
        session=session,
        device=model.device.name,
        devices=tuple(DeviceEntry(name=each.name, id=each.id, part=each.part) for each in model.devices),
        peak_flops=model.peak_flops,
        peak_measurements=model.peak_measurements,
        load_seconds=model.engine.load_seconds,
        build_seconds=model.engine.build_seconds,
        reference_load_seconds=(model.reference.load_seconds or 0.0) if model.reference else 0.0,
    )


def _all_servers(earlier: Sequence[ServerEntry], now: Sequence[ServerEntry]) -> tuple[ServerEntry, ...]:
    """List the servers of every start of the client, each once a start.

    One that measured its peak again, or was itself started anew within one, keeps the larger of its peaks,
    and the longest of its times: which of its answers came before is not told, and a share of less than was
    possible would flatter.
    """
    entries = {(entry.session, entry.name): entry for entry in earlier}
    for entry in now:
        place = entry.session, entry.name
        before = entries.get(place, entry)
        entries[place] = replace(
            entry,
            peak_flops=_larger(before.peak_flops, entry.peak_flops),
            peak_measurements=_joined(before.peak_measurements, entry.peak_measurements),
            load_seconds=_larger(before.load_seconds, entry.load_seconds),
            build_seconds=_larger(before.build_seconds, entry.build_seconds),
            reference_load_seconds=max(before.reference_load_seconds, entry.reference_load_seconds),
        )
    return tuple(entries.values())


def _larger(before: float | None, now: float | None) -> float | None:
    return max((each for each in (before, now) if each is not None), default=None)


def _joined(before: PeakMeasurements | None, now: PeakMeasurements | None) -> PeakMeasurements | None:
    """Join what a server said of its peak at two times.

    A server counts on from its own start: if it is the same, those of before are among those of now.
    """
    if before is None or now is None:
        return now
    return PeakMeasurements(
        count=max(before.count, now.count),
        least_flops=min(before.least_flops, now.least_flops),
        contended=before.contended and now.contended,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
