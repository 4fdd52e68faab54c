"""What a run was made of, so that it can be gone on with, and compared with another."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmlu_client.config.settings import Settings
from mmlu_client.data.benchmark import Benchmark
from mmlu_client.load.lane import Server
from mmlu_client.prompts.limit import PromptLimit
from mmlu_client.prompts.tokenizer import Tokenizer
from mmlu_client.rundir.folder import MANIFEST_VERSION
from mmlu_client.service.model import Device, EngineInfo, ServedModel

# Of a server in one start of the client.
LARGEST_KEPT = ("peak_flops", "load_seconds", "build_seconds", "reference_load_seconds")
PACKAGES = (
    "trt-server",
    "grpcio",
    "numpy",
    "protobuf",
    "pyarrow",
    "sentencepiece",
    "tokenizers",
    "transformers",
)


@dataclass(frozen=True)
class Asking:
    """What is asked: the benchmark, the subjects of it, how many questions, and how they become prompts.

    tokenizer_source: where the tokenizer is from.
    """

    benchmark: Benchmark
    subjects: Sequence[str]
    questions: int
    tokenizer_source: str
    tokenizer: Tokenizer
    limit: PromptLimit


def manifest(settings: Settings, asking: Asking, servers: Sequence[Server]) -> dict[str, Any]:
    """Without its sessions and their servers."""
    model, load = servers[0].model, settings.load
    return {
        "manifest_version": MANIFEST_VERSION,
        "url": ",".join(map(str, settings.addresses)),
        "data": {
            "name": asking.benchmark.name,
            "sha256": asking.benchmark.sha256,
            "subjects": list(asking.subjects),
            "subject_sizes": {name: len(asking.benchmark.test[name]) for name in asking.subjects},
            "limit": settings.limit,
            "questions": asking.questions,
            "benchmark_questions": sum(map(len, asking.benchmark.test.values())),
            "order": "shuffled" if settings.is_shuffled else "file",
        },
        "prompt_format": settings.prompt_format,
        "few_shots": settings.few_shots,
        "bs": settings.batch_size,
        "concurrency": load.concurrency if load.mode == "closed" else None,
        "load": {**asdict(load), "description": str(load)},
        "validate": settings.validate,
        "reuse_prefix": settings.reuse_prefix,
        "early_stop": settings.early_stop,
        "goodput": [str(goal) for goal in settings.goals],
        "max_prompt_tokens": {"asked": settings.max_prompt_tokens, "source": asking.limit.source},
        "tokenizer": asking.tokenizer_source,
        "special_tokens": {"first": list(asking.tokenizer.first), "notes": list(asking.tokenizer.notes)},
        "seeds": {"random_seed": settings.seed},
        "model": {
            "id": model.id,
            "architecture": model.architecture,
            "fingerprint": model.fingerprint,
            "parameters": model.parameters,
            "vocabulary_size": model.vocabulary_size,
            "notice": model.notice,
        },
        "engine": asdict(model.engine),
        "reference": asdict(model.reference) if model.reference else None,
        "device": asdict(model.device),
        "peak": {"flops_per_second": model.peak_flops, "source": model.peak_source},
        "limits": {
            "max_prompt_tokens": asking.limit.tokens,
            "max_batch_size": model.max_batch_size,
            "stream_window": model.stream_window,
        },
        "servers": [],
        "server_version": model.server_version,
        "client": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in PACKAGES},
        },
        "flags": settings.given,
    }


def server_entry(server: Server, session: int) -> dict[str, Any]:
    """What it is in one start of the client: at another it may be another device, with another peak."""
    model = server.model
    return {
        "name": server.name,
        "session": session,
        "device": model.device.name,
        "devices": [{"name": each.name, "id": each.id, "part": each.part} for each in model.devices],
        "peak_flops": model.peak_flops,
        "peak_measurements": asdict(model.peak_measurements) if model.peak_measurements else None,
        "load_seconds": model.engine.load_seconds,
        "build_seconds": model.engine.build_seconds,
        "reference_load_seconds": model.reference.load_seconds if model.reference else 0.0,
    }


def all_servers(earlier: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The servers of every start of the client, each once a start.

    One that measured its peak again, or was itself started anew within one, keeps the larger of its peaks,
    and the longest of its times: which of its answers came before is not told, and a share of less than was
    possible would flatter.
    """
    entries = {(entry["session"], entry["name"]): entry for entry in earlier}
    for entry in now:
        place = entry["session"], entry["name"]
        before = entries.get(place, entry)
        entries[place] = {
            **entry,
            **{name: max(before[name], entry[name]) for name in LARGEST_KEPT},
            "peak_measurements": _joined(before.get("peak_measurements"), entry["peak_measurements"]),
        }
    return list(entries.values())


def _joined(before: dict[str, Any] | None, now: dict[str, Any] | None) -> dict[str, Any] | None:
    """A server counts on from its own start: if it is the same, those of before are among those of now."""
    if before is None or now is None:
        return now
    return {
        "count": max(before["count"], now["count"]),
        "least_flops": min(before["least_flops"], now["least_flops"]),
        "contended": before["contended"] and now["contended"],
    }


def session(command_line: Sequence[str], process_started: float) -> dict[str, Any]:
    """One start of the client. `ended` is filled in at its end, and stays null where it was killed."""
    return {
        "started": now(),
        "process_started_ns": round(process_started * 1e9),
        "command_line": list(command_line),
        "ended": None,
    }


def now() -> dict[str, Any]:
    """The same moment on the calendar and on the clock of records.jsonl's client_ns."""
    return {
        "utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "epoch_ns": time.time_ns(),
        "monotonic_ns": time.monotonic_ns(),
    }


def model_of(manifest: dict[str, Any]) -> ServedModel:
    """The model that a run's manifest tells of."""
    reference = manifest["reference"]
    return ServedModel(
        **manifest["model"],
        engine=EngineInfo(**manifest["engine"]),
        reference=EngineInfo(**reference) if reference else None,
        device=Device(**manifest["device"]),
        peak_flops=manifest["peak"]["flops_per_second"],
        peak_source=manifest["peak"]["source"],
        **manifest["limits"],
        server_version=manifest["server_version"],
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
