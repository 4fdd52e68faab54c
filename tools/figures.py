"""Writes the table of keys in docs/figures.md from the client's catalogue of figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmlu_client.figures.catalogue import FIGURES, Figure

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"
# The table is everything from this line to the end of the page.
MARK = "<!-- made by python -m tools.figures -->\n"
HEAD = ("key", "unit", "what", "section", "compared", "better")


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_table(PAGE.read_text()))


def with_table(page: str) -> str:
    """Return the page with the catalogue's table after its mark.

    Raises:
        ValueError: The page has no mark.
    """
    text, mark, _ = page.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} has no line {MARK.strip()!r}")
    return f"{text}{mark}\n" + "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def anchor(section: str) -> str:
    """Return the anchor of a heading on GitHub: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")


def _rows() -> Iterator[tuple[str, ...]]:
    yield HEAD
    yield ("---",) * len(HEAD)
    for figure in FIGURES:
        yield (
            f"`{figure.key}`",
            figure.unit,
            figure.meaning,
            _link(figure),
            figure.compared or "",
            _better(figure),
        )


def _link(figure: Figure) -> str:
    return f"[{figure.section}](#{anchor(figure.section)})" if figure.section else ""


def _better(figure: Figure) -> str:
    return {True: "more", False: "less", None: "/"}[figure.higher_is_better]


if __name__ == "__main__":
    main()
