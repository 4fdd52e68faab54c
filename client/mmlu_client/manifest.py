"""What a run was made of, so that another can be compared with it."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmlu_client.dataset import Benchmark
from mmlu_client.model import ServedModel
from mmlu_client.settings import Settings

PACKAGES = ("trt-server", "grpcio", "numpy", "protobuf", "pyarrow", "tokenizers", "transformers")


def manifest(
    settings: Settings,
    command_line: Sequence[str],
    benchmark: Benchmark,
    subjects: Sequence[str],
    questions: int,
    model: ServedModel,
    tokenizer: str,
    window: int,
) -> dict[str, Any]:
    """tokenizer: where it comes from and its fingerprint. window: the requests really kept in flight."""
    return {
        "started": _now(),
        "command_line": list(command_line),
        "url": str(settings.address),
        "data": {
            "name": benchmark.name,
            "sha256": benchmark.sha256,
            "subjects": list(subjects),
            "limit": settings.limit,
            "questions": questions,
        },
        "prompt_format": settings.prompt_format,
        "few_shots": settings.few_shots,
        "bs": settings.batch_size,
        "concurrency": window,
        "tokenizer": tokenizer,
        "seeds": {},  # the client draws nothing at random
        "model": {
            "id": model.id,
            "architecture": model.architecture,
            "fingerprint": model.fingerprint,
            "parameters": model.parameters,
            "notice": model.notice,
        },
        "engine": asdict(model.engine),
        "device": asdict(model.device),
        "peak": {"flops_per_second": model.peak_flops, "source": model.peak_source},
        "limits": {
            "max_prompt_tokens": model.max_prompt_tokens,
            "max_batch_size": model.max_batch_size,
            "stream_window": model.stream_window,
        },
        "server_version": model.server_version,
        "client": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in PACKAGES},
        },
    }


def _now() -> dict[str, Any]:
    """The same moment on the calendar and on the clock of records.jsonl's client_ns."""
    return {
        "utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "epoch_ns": time.time_ns(),
        "monotonic_ns": time.monotonic_ns(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
