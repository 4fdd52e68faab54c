"""The JSON files of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_common.json_text import parse_json
from trt_common.one_line import one_line

from trt_server.errors import StartError
from trt_server.readable import readable_bytes

# The largest are the indexes of shards, with a line for each tensor.
MOST_BYTES = 64 * 1024 * 1024


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        StartError: It holds none, is no file, or is larger than any of a model is.
        OSError: It cannot be read.
    """
    if not path.is_file():
        raise StartError(f"{path} is no file; download it again")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise StartError(
            f"{path} has {readable_bytes(size)}, and {readable_bytes(MOST_BYTES)} are the most; "
            "download it again"
        )
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise StartError(f"{path} is not JSON ({one_line(error)}); download it again") from error
    if not isinstance(found, dict):
        raise StartError(f"{path} holds no JSON object; download it again")
    return found
