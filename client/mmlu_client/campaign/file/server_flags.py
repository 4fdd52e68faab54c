"""The flags of a server that a campaign starts. Their values trt-server itself checks (`checking.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmlu_client.campaign.file.flags import flags_of, refuse
from mmlu_client.campaign.file.yaml_file import Entry

# A campaign's servers listen for its own clients alone.
REFUSED = frozenset(
    {
        "host", "grpc-port", "metrics-port", "http-port", "config", "log-format", "log-level", "target",
        "layers", "token-file", "tls-cert", "tls-key", "tls-client-ca", "metrics-tls", "metrics-token",
        "help", "version",
    }
)  # fmt: skip


def server_flags(entry: Entry, base: Path, what: str) -> dict[str, Any]:
    """Read flags of trt-server.

    Args:
        entry: a mapping of flags to values.
        base: the file's folder.
        what: what an error calls the mapping.

    Raises:
        CampaignFileError: it is no such mapping, or sets what the campaign sets itself.
    """
    flags = {}
    for name, each, value in flags_of(entry, base, what):
        refuse(
            name, each, REFUSED, "a campaign chooses the address and the log of the servers that it starts"
        )
        flags[name] = value
    return flags
