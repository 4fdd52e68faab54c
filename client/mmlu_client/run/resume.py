"""Going on with a run that was killed: what it was, and whether this one is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError
from mmlu_client.figures.span import spans
from mmlu_client.rundir.folder import MANIFEST, MANIFEST_VERSION, SWEEP_MANIFEST, holds_sweep
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.text import shown

# What a run's answers and figures hang on; dots lead into nested objects.
IDENTITY = (
    "model.fingerprint",
    "engine.fingerprint",
    "reference.fingerprint",
    "data.sha256",
    "data.subjects",
    "data.limit",
    "data.questions",
    "data.order",
    "prompt_format",
    "few_shots",
    "max_prompt_tokens.asked",
    "limits.max_prompt_tokens",
    "bs",
    "tokenizer",
    "special_tokens.first",
    "validate",
    "reuse_prefix",
    "seeds.random_seed",
    "load.description",
)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises InputError where the folder holds no run."""
    try:
        return _read(folder / MANIFEST, "run", "sessions")
    except OSError as error:
        raise InputError(
            f"{folder} holds no run: cannot read {MANIFEST}: {error.strerror}{_runs_below(folder)}"
        ) from None


def _read(path: Path, what: str, key: str) -> dict[str, Any]:
    """what: whose manifest it should be. key: one that such a manifest has. Raises InputError, OSError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except ValueError as error:
        raise InputError(f"{path} is not a {what}'s manifest: {error}") from None
    if not isinstance(found, dict) or key not in found:
        raise InputError(f"{path} is not a {what}'s manifest")
    if found.get("manifest_version") != MANIFEST_VERSION:
        raise InputError(f"{path} was written by another version of mmlu-client: read it with that one")
    return found


def _runs_below(folder: Path) -> str:
    """Where to look instead: the loads of a sweep, or all that ran into results/."""
    below = sorted(str(path.parent) for path in folder.glob(f"*/{MANIFEST}"))
    return f"; runs are in {shown(below)}: name one of them" if below else ""


def flags_of(folder: Path) -> dict[str, Any]:
    """The flags the run, or the sweep, in this folder was started with. Raises InputError."""
    if not holds_sweep(folder):
        return dict(read_manifest(folder)["flags"])
    path = folder / SWEEP_MANIFEST
    try:
        return dict(_read(path, "sweep", "loads")["flags"])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def seconds_asked(sessions: Sequence[Mapping[str, Any]], records: RecordTable, phase: str) -> float:
    """How long earlier starts asked a phase: to its last reply where a start was killed.

    records: those of the phase.
    """
    by_records = spans(records)
    total = 0.0
    for number, session in enumerate(sessions):
        if session["ended"]:
            total += session["ended"]["phase_seconds"].get(phase, 0.0)
        elif number in by_records:
            total += by_records[number].whole_seconds
    return total


def check_same_run(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises InputError, naming the difference."""
    for name in IDENTITY:
        if name.startswith("reference.") and not earlier["validate"]:
            continue  # it was not asked: a server may have got one since
        before, after = _at(earlier, name), _at(now, name)
        if before != after:
            raise InputError(f"--resume {folder}: {name} was {_short(before)}, now it is {_short(after)}")


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Every value in which two manifests differ, under its dotted name."""
    for name in sorted({*first, *second}):
        left, right = first.get(name), second.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from differences(left, right, f"{prefix}{name}.")
        elif left != right:
            yield f"{prefix}{name}", left, right


def _at(manifest: Mapping[str, Any], name: str) -> Any:
    value: Any = manifest
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
