"""The client's folders import each other in one direction."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import mmlu_client

ROOT = Path(mmlu_client.__file__).parent
# A campaign's page is made by `pages/`, and written where the campaign's other files are.
BOTH_WAYS = {frozenset({"campaign", "pages"})}


def imported_folders(path: Path) -> set[str]:
    """The folders of the client that this module imports something of, its own included."""
    names = [
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None
    ]
    parts = [name.split(".") for name in names]
    return {each[1] for each in parts if each[0] == "mmlu_client" and len(each) > 1}


def test_no_two_folders_import_each_other() -> None:
    imports: dict[str, set[str]] = defaultdict(set)
    for path in ROOT.glob("*/**/*.py"):
        imports[path.relative_to(ROOT).parts[0]] |= imported_folders(path)
    assert imports["run"] >= {"load", "rundir", "service"}
    pairs = {
        frozenset({folder, other})
        for folder, others in imports.items()
        for other in others
        if other != folder and folder in imports.get(other, ())
    }
    assert pairs == BOTH_WAYS
