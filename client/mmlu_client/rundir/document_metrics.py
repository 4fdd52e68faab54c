"""What tasks made of each document, read from records.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_common.private_file import open_regular

from mmlu_client.errors import InputError
from mmlu_client.rundir.folder import RECORDS
from mmlu_client.rundir.record import INFER
from mmlu_client.tasks.document import DocumentMetrics, TextScore


def read_document_metrics(folder: Path) -> list[DocumentMetrics]:
    """Read the answered documents of the run in this folder, sorted by task and number.

    Raises:
        InputError: the file of records cannot be read.
    """
    path = folder / RECORDS
    try:
        with open(path, "rb", opener=open_regular) as file:
            records = [json.loads(line) for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a file of records: {error}") from None
    found = [_metrics(each) for each in records if each["phase"] == INFER and each["error"] is None]
    return sorted(found, key=lambda each: (each.task, each.index))


def _metrics(record: dict[str, Any]) -> DocumentMetrics:
    scores = zip(record["loglikelihoods"], record["greedy"], record["scored_tokens"], strict=True)
    return DocumentMetrics(
        record["subject"], record["index"], record["metrics"], tuple(TextScore(*each) for each in scores)
    )
