"""The documents' links lead somewhere, and the paths that they name are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<title>.+)$", re.MULTILINE)
NAMED = re.compile(r"`(?P<path>[\w.-]+(/[\w.*-]+)*/?)`")
# Tells the whole tree, so that each folder that it names has to be there.
TREE = ROOT / "docs" / "architecture.md"
# Files of other projects, and one that the user makes.
ELSEWHERE = {"categories.py", "io_struct.py", "deploy/.env"}
# What a checkout holds besides the project, by the beginnings of names.
NOT_OURS = (".", "__pycache__", "shared", "build", "dist")


def paths() -> Iterator[str]:
    """Yield the path of each file and folder of the project."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(NOT_OURS)]
        for name in (*folders, *files):
            yield Path(folder, name).relative_to(ROOT).as_posix()


PATHS = sorted(paths())
NAMES = {path.rpartition("/")[2] for path in PATHS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    lost = [target for target in relative_links(text) if not leads_somewhere(document, target)]
    lost += [path for path in named_paths(text, is_tree=document == TREE) if not is_there(path)]
    assert lost == []


def test_what_is_not_there_is_found() -> None:
    assert list(relative_links("[a](lost.md#b) [c](https://host/d)")) == ["lost.md#b"]
    assert not leads_somewhere(TREE, "lost.md")
    assert not leads_somewhere(TREE, "figures.md#no-such-heading")
    assert leads_somewhere(TREE, "figures.md#flops-and-mfu")
    text = "`lost/` `lost.py` `campaign/lost.py` `client/lost` `org/model` `a b.py` `nvidia.com/gpu`"
    assert list(named_paths(text, is_tree=False)) == ["lost.py", "campaign/lost.py", "client/lost"]
    assert list(named_paths("`lost/`", is_tree=True)) == ["lost/"]
    assert not any(map(is_there, ("lost/", "lost.py", "campaign/lost.py", "client/lost")))


def relative_links(text: str) -> Iterator[str]:
    """Yield the targets of links within the project."""
    for found in LINK.finditer(text):
        if "://" not in found["target"] and not found["target"].startswith("mailto:"):
            yield found["target"]


def leads_somewhere(document: Path, target: str) -> bool:
    """Tell whether a link's file is there, and has the heading that it names."""
    name, _, heading = target.partition("#")
    path = document.parent / name if name else document
    if not path.exists():
        return False
    return not heading or heading in anchors(path.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = (found["title"].strip().lower() for found in HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def named_paths(text: str, *, is_tree: bool) -> Iterator[str]:
    """Yield what is named in code's type and looks like a path of the project.

    That is a module, and what begins with the name of one of its folders; in the page that tells the tree,
    every folder too.
    """
    for found in NAMED.finditer(text):
        path = found["path"]
        first, slash, _ = path.partition("/")
        is_ours = path.endswith(".py") and (not slash or first in NAMES)
        is_ours |= bool(slash) and (first in NAMES or (is_tree and path.endswith("/")))
        if is_ours and path not in ELSEWHERE:
            yield path


def is_there(path: str) -> bool:
    """Tell whether a path, from the root or from any folder, is there."""
    words = [re.escape(word) for word in path.rstrip("/").split("*")]
    pattern = re.compile("(.*/)?" + "[^/]*".join(words))
    return any(pattern.fullmatch(each) for each in PATHS)
