"""The Hugging Face hub: what ids look like, and files and the benchmark from it, through its cache."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trt_common.one_line import first_line_of

from mmlu_client.data.hub_layout import add_rows, check_columns
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError

CONFIGURATION = "all"
# What is downloaded of the data sets that are read as folders. CMMLU's has its CSV files in an archive.
PUBLISHED = {
    "haonan-li/cmmlu": ("*.zip",),
    "ceval/ceval-exam": ("*/dev-*.parquet", "*/val-*.parquet"),
    "tiger-lab/mmlu-pro": ("data/test-*.parquet", "data/validation-*.parquet"),
}


def is_hub_id(name: str) -> bool:
    """Tell whether a repository on the hub may be called that: owner/name, or, as old ones are, a name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def quiet_hub() -> None:
    """Silence the hub's client, which logs every retry, though nobody can change it.

    The error at the end says in one line what failed.
    """
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def is_published(name: str) -> bool:
    """Tell whether the hub's data set of this id is read as a folder: CMMLU, C-Eval and MMLU-Pro."""
    return name.lower() in PUBLISHED


@contextmanager
def published_folder(name: str) -> Iterator[Path]:
    """Download such a data set on first use, and give the folder that its files are in for a while.

    Raises:
        InputError: the hub cannot be reached, or the files are not as they were published.
    """
    folder = download(name, PUBLISHED[name.lower()], f"--data {name}", kind="dataset")
    archives = sorted(folder.glob("*.zip"))
    if not archives:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mmlu-client-") as unpacked:
        try:
            with zipfile.ZipFile(archives[-1]) as archive:
                archive.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise InputError(f"{archives[-1]} is not a readable archive: {error}") from None
        tests = sorted(path for path in Path(unpacked).rglob("test") if "__MACOSX" not in path.parts)
        yield tests[0].parent if tests else Path(unpacked)


def download(name: str, files: Sequence[str], what: str, kind: str = "model") -> Path:
    """Download files of a repository on the hub into its cache, those that it has.

    Args:
        name: the repository's id.
        files: patterns of the files' names.
        what: what messages call the files.
        kind: of the repository: "model" or "dataset".

    Returns:
        The folder of the cache that the files are in.

    Raises:
        InputError: the hub has no such repository, or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    quiet_hub()
    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=list(files)))
    except Exception as error:  # the library raises what its file systems and HTTP clients raise
        raise InputError(
            f"cannot load {what}: no such folder, and from the hub: {first_line_of(error)}; "
            "a folder works without a network"
        ) from None


def read_hub(name: str, split: str) -> dict[str, list[Question]]:
    """Read the questions of one split from the hub, which downloads them on first use.

    Args:
        name: the data set's id.
        split: "dev" or "test".

    Returns:
        The questions of each subject.

    Raises:
        InputError: the hub has no such data set or cannot be reached, or the table lacks a column.
    """
    import datasets  # over a second to import

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    quiet_hub()
    try:
        table = datasets.load_dataset(name, CONFIGURATION, split=split)
    except Exception as error:  # the library raises what its file systems and HTTP clients raise
        raise InputError(
            f"cannot load {name!r} ({CONFIGURATION}, {split}) from the hub: {first_line_of(error)}; "
            "a folder in either layout works without a network"
        ) from None
    check_columns(table.column_names, name)
    subjects: dict[str, list[Question]] = {}
    add_rows(subjects, table, f"{name} {split}")
    return subjects
