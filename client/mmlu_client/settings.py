"""Every choice a run is made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmlu_client.address import Address


@dataclass(frozen=True)
class Settings:
    """subjects, limit: None for all. tokenizer: None for the server's. output: None for results/<UTC time>.

    server_timeout: seconds that a server may be away.
    """

    address: Address
    tls_ca: Path | None
    batch_size: int
    data: str
    subjects: tuple[str, ...] | None
    limit: int | None
    few_shots: int
    prompt_format: str
    tokenizer: str | None
    output: Path | None
    concurrency: int
    server_timeout: float
