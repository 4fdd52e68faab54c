"""SECURITY.md: each promise names tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(?P<file>tests/[\w/]+\.py)?::(?P<test>\w+)`")


def test_every_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    promised = page[page.index("## What is promised") : page.index("## What is not")]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and line != "| promise | test |"]
    assert len(rows) > 10
    for row in rows:
        file = ""
        named = list(NAMED.finditer(row))
        assert named, f"no test is named: {row}"
        for each in named:
            file = each["file"] or file
            assert each["test"] in functions(ROOT / file), f"{file} has no {each['test']}"


def functions(path: Path) -> set[str]:
    """The names of a file's functions."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
