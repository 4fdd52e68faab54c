"""What is wrong with a campaign's file, with the line where it is."""

from __future__ import annotations

from pathlib import Path

from mmlu_client.errors import InputError


class CampaignFileError(InputError):
    """A campaign's file is wrong."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}")
