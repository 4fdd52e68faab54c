"""The rows of a CSV file, each with its place."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mmlu_client.errors import InputError


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Read the rows that are not empty.

    Yields:
        What messages call the place of a row, and its cells. Cells are left as they are: an option `None`
        stays that word.

    Raises:
        InputError: the file is no CSV in UTF-8.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        try:
            for row in rows:
                if row:
                    yield f"{path}:{rows.line_num}", row
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
        except csv.Error as error:
            raise InputError(f"{path}:{rows.line_num}: not CSV ({error})") from None
