"""What a run is made of → the manifest that it begins with."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from trt_common.version import version

from mmlu_client.config.load_plan import LoadPlan
from mmlu_client.config.settings import Settings
from mmlu_client.prompts.limit import PromptLimit
from mmlu_client.prompts.tokenizer import Tokenizer
from mmlu_client.rundir.manifest import (
    MANIFEST_VERSION,
    ClientPart,
    DataPart,
    Limits,
    LoadPart,
    Manifest,
    ModelPart,
    Peak,
    PromptLimitPart,
    ScoringPart,
    Seeds,
    Session,
    SpecialTokens,
)
from mmlu_client.service.model import ServedModel
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
    """What a run asks, and of which tokenizer its prompts are made.

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
        **_start(session),
        url=",".join(map(str, settings.addresses)),
        **_asked(asking),
        bs=settings.batch_size,
        concurrency=load.concurrency if load.mode == "closed" else None,
        load=_load(load),
        validate=settings.validate,
        reuse_prefix=settings.reuse_prefix,
        early_stop=settings.early_stop,
        goodput=tuple(map(str, settings.slos)),
        max_prompt_tokens=PromptLimitPart(asked=settings.max_prompt_tokens, source=asking.limit.source),
        seeds=Seeds(random_seed=settings.seed),
        **_served(model),
        limits=_limits(model, asking.limit),
        servers=(),
        client=_client(),
        labels=settings.labels,
        flags=settings.given,
    )


def _start(session: Session) -> dict[str, Any]:
    return {
        "started": session.started,
        "command_line": session.command_line,
        "sessions": (session,),
        "manifest_version": MANIFEST_VERSION,
    }


def _asked(asking: Asking) -> dict[str, Any]:
    tokenizer = asking.tokenizer
    return {
        "data": asking.data,
        "tasks": asking.tasks,
        "prompt_format": asking.prompt_format,
        "few_shots": asking.few_shots,
        "tokenizer": asking.tokenizer_source,
        "special_tokens": SpecialTokens(first=tuple(tokenizer.first), notes=tuple(tokenizer.notes)),
    }


def _load(plan: LoadPlan) -> LoadPart:
    return LoadPart(
        mode=plan.mode,
        concurrency=plan.concurrency,
        rate=plan.rate,
        pattern=plan.pattern,
        warmup_requests=plan.warmup_requests,
        duration=plan.duration,
        request_count=plan.request_count,
        description=str(plan),
    )


def _served(model: ServedModel) -> dict[str, Any]:
    return {
        "model": ModelPart(
            id=model.id,
            architecture=model.architecture,
            fingerprint=model.fingerprint,
            parameters=model.parameters,
            vocabulary_size=model.vocabulary_size,
            notice=model.notice,
        ),
        "engine": model.engine,
        "reference": model.reference,
        "device": model.device,
        "peak": Peak(flops_per_second=model.peak_flops, source=model.peak_source),
        "scoring": ScoringPart(
            tells_stages=model.tells_stages,
            told_tokens=model.told_tokens,
            unrepeatable=model.unrepeatable,
        ),
        "server_version": model.server_version,
    }


def _limits(model: ServedModel, prompts: PromptLimit) -> Limits:
    return Limits(
        max_prompt_tokens=prompts.tokens,
        max_batch_size=model.max_batch_size,
        stream_window=model.stream_window,
    )


def _client() -> ClientPart:
    return ClientPart(
        version=version(),
        platform=platform.platform(),
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
