"""What a run left in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from waiting import wait_until


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]


def summary(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "summary.json").read_text()))


def page(output: Path) -> str:
    """summary.md: every line that there is about the figures."""
    return (output / "summary.md").read_text()


def manifest(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "manifest.json").read_text()))


def wait_for_records(output: Path, count: int) -> None:
    path = output / "records.jsonl"
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"never {count} records")
