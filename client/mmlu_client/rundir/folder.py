"""The folder a run writes to, and the files in it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from trt_common.private_file import check_replaceable, make_private_folder, replace_file

from mmlu_client.errors import InputError, NotWrittenError, RunError

RECORDS, MANIFEST = "records.jsonl", "manifest.json"
DEVICE_LOG, COUNTER_LOG = "device.jsonl", "counters.jsonl"
SUMMARY, TABLE, HTML = "summary.json", "summary.md", "report.html"
SWEEP_MANIFEST = "sweep_manifest.json"
SWEEP_TABLE, SWEEP_JSON, SWEEP_CSV = "sweep.md", "sweep.json", "sweep.csv"


def choose_output_folder(chosen: Path | None) -> Path:
    """Choose the folder that a run writes to: the named one, else results/<UTC time>. It is not made yet.

    Raises:
        InputError: it is no folder, or holds a run already.
    """
    folder = chosen or Path("results") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is not a folder")
    check_holds_no_run(folder)
    return folder


def check_holds_no_run(folder: Path) -> None:
    """Check that the folder holds no run yet.

    Raises:
        InputError: it holds one.
    """
    for name in (RECORDS, SUMMARY):
        path = folder / name
        if path.exists() and path.stat().st_size:  # a run that ended before its first answer is no run
            raise InputError(
                f"--output {folder} holds a run already ({name}): name another folder, "
                f"or go on with it: --resume {folder}"
            )


def holds_answers(folder: Path) -> bool:
    """Tell whether the folder holds a run that can be gone on with."""
    records = folder / RECORDS
    return (folder / MANIFEST).is_file() and records.is_file() and records.stat().st_size > 0


def holds_sweep(folder: Path) -> bool:
    """Tell whether the folder holds a sweep."""
    return (folder / SWEEP_MANIFEST).is_file()


def make_folder(folder: Path) -> None:
    """Make the folder, which only its owner may enter, and those above it.

    Raises:
        RunError: it cannot be made.
    """
    try:
        make_private_folder(folder)
    except OSError as error:
        raise RunError(f"cannot make --output {folder}: {error.strerror}") from None


def check_can_be_written(path: Path, what: str) -> None:
    """Check that a file may be written at this path, as far as can be told before it is.

    Args:
        path: the file's.
        what: what messages call it.

    Raises:
        InputError: a folder, a pipe or a device is there.
    """
    try:
        check_replaceable(path)
    except OSError as error:
        raise InputError(f"cannot write {what} {path}: {error.strerror}; name another file") from None


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, so that a reader never sees half of it.

    Raises:
        NotWrittenError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step, so that a reader never sees half of it.

    Raises:
        NotWrittenError: it cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise NotWrittenError(path, error.strerror) from None
