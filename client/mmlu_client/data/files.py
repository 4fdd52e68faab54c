"""The files of a folder of questions, without what file managers and editors leave beside them."""

from __future__ import annotations

from pathlib import Path

# Hidden ones (`._x` of macOS, `.~lock` of LibreOffice, `.ipynb_checkpoints`), those of a document that is
# open in an office program (`~$x`), and the folders of a macOS archive and of a Synology disk.
NO_DATA = (".", "~$", "__MACOSX", "@eaDir")


def data_files(folder: Path, pattern: str) -> list[Path]:
    """List the files that match the pattern, in alphabetical order."""
    return sorted(path for path in folder.glob(pattern) if not _is_left_over(path.relative_to(folder)))


def _is_left_over(path: Path) -> bool:
    return any(part.startswith(NO_DATA) for part in path.parts)
