"""Figures → table and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError, RunError
from mmlu_client.model import ServedModel
from mmlu_client.summary import Summary

RECORDS, SUMMARY, TABLE, MANIFEST = "records.jsonl", "summary.json", "summary.md", "manifest.json"
COLUMNS = (
    "tool", "precision", "bs", "e2e_time", "p_val_whole", "p_val_core", "p_infer_whole", "p_infer_core",
    "MFU", "acc", "mem",
)  # fmt: skip


def choose_output_folder(chosen: Path | None) -> Path:
    """The folder a run writes to: the chosen one, else results/<UTC time>. It is not made yet.

    Raises InputError where it holds a run already.
    """
    folder = chosen or Path("results") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is not a folder")
    for name in (RECORDS, SUMMARY):
        path = folder / name
        if path.exists() and path.stat().st_size:  # a run that ended before its first answer is no run
            raise InputError(f"--output {folder} holds a run already ({name}): name another folder")
    return folder


def make_folder(folder: Path) -> None:
    """Raises RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make --output {folder}: {error.strerror}") from None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    _write(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def write_summary(folder: Path, summary: Summary, page: str) -> None:
    """summary.json and summary.md. Raises RunError."""
    _write(folder / SUMMARY, json.dumps(asdict(summary), indent=2) + "\n")
    _write(folder / TABLE, page)


def summary_page(summary: Summary, model: ServedModel, data: str) -> str:
    """The suite's table in Markdown, and below it what is needed to read it."""
    return f"{table(summary, model.notice)}\n\n{notes(summary, model, data)}\n"


def table(summary: Summary, notice: str) -> str:
    """The suite's own row; `/` where a thing was not measured."""
    cells = (
        summary.engine,
        summary.precision,
        str(summary.bs),
        f"{summary.e2e_time:.3f}",
        number(summary.p_val_whole, ".2f"),
        number(summary.p_val_core, ".2f"),
        number(summary.p_infer_whole, ".2f"),
        number(summary.p_infer_core, ".2f"),
        percent(summary.mfu),
        accuracy(summary.acc, notice),
        memory(summary.mem_used_gib, summary.mem_total_gib),
    )
    widths = [max(len(name), len(cell)) for name, cell in zip(COLUMNS, cells, strict=True)]
    rows = (COLUMNS, tuple("-" * width for width in widths), cells)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def notes(summary: Summary, model: ServedModel, data: str) -> str:
    engine, device = model.engine, model.device
    lines = [
        f"accuracy: {accuracy(summary.acc, model.notice)} ± {number(summary.acc_stderr, '.4f')}; "
        f"mean of subjects {number(summary.acc_macro, '.3f')}; "
        f"arg-max of the whole vocabulary {number(summary.acc_vocab, '.3f')}",
        f"questions: {summary.questions} of {data}; answered {summary.answered}, failed {summary.failed}, "
        f"unanswered {summary.unanswered}",
        f"model: {model.id} ({model.architecture}, {model.parameters:,} parameters)",
        f"engine: {engine.name} {engine.version}, {engine.precision}; load {engine.load_seconds:.2f} s, "
        f"build {engine.build_seconds:.2f} s",
        f"device: {device.name}; peak {model.peak_flops / 1e12:.4g} TFLOP/s ({model.peak_source})",
        f"time: whole {number(summary.whole_seconds, '.3f')} s, core {summary.core_seconds:.3f} s; "
        f"whole/core throughput {percent(summary.whole_over_core)}",
        f"MFU by FlagPerf's 2 × parameters: {percent(summary.mfu_flagperf)}; over whole time: "
        f"{percent(summary.mfu_whole)}",
        f"latency of a request: p50 {milliseconds(summary.latency_p50_seconds)}, "
        f"p99 {milliseconds(summary.latency_p99_seconds)}",
        f"prompts in the engine's batches: {number(summary.mean_batch_size, '.2f')}",
    ]
    if model.notice:
        lines.insert(0, f"**{model.notice}**")
    if summary.interruptions:
        lines.append(f"interruptions: {summary.interruptions}, {summary.outage_seconds:.1f} s in all")
    return "\n".join(f"- {line}" for line in lines)


def accuracy(share: float | None, notice: str) -> str:
    """A share, never without what its reader has to know of the model."""
    short = notice.partition(":")[0].strip()
    return number(share, ".3f") + (f" ({short})" if short and share is not None else "")


def number(value: float | None, form: str) -> str:
    return "/" if value is None else format(value, form)


def percent(share: float | None) -> str:
    return number(share, ".1%")


def milliseconds(seconds: float | None) -> str:
    return "/" if seconds is None else f"{seconds * 1e3:.1f} ms"


def memory(used: float | None, total: float | None) -> str:
    if used is None:
        return "/"
    return f"{used:.1f}" if total is None else f"{used:.1f}/{total:.1f}"


def _write(path: Path, text: str) -> None:
    """In one step, so that a reader never sees half a file."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}") from None
