"""Whether servers that run already can be reached from here."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from mmlu_client.campaign.cell import ServerSetting
from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.errors import InputError
from mmlu_client.service.address import Address, parse_addresses

SECONDS = 5.0


def check_reachable(path: Path, settings: Iterable[ServerSetting]) -> None:
    """Connect to servers that the campaign does not start, and close the connection.

    Args:
        path: the campaign's file.
        settings: its servers, of any kind.

    Raises:
        CampaignFileError: no address of one of them answers.
    """
    for setting in settings:
        if (why := unreachable(setting)) is not None:
            raise CampaignFileError(path, setting.line, f"server {setting.name}: {why}")


def unreachable(setting: ServerSetting) -> str | None:
    """Return why no address of a server that runs already can be reached from here.

    Returns:
        None: one can, or the campaign starts the server.
    """
    if setting.url is None:
        return None
    try:
        addresses = parse_addresses(setting.url)
    except InputError as error:
        return str(error)
    if any(_answers(address) for address in addresses):
        return None
    return f"nothing answers at {setting.url}: start it first"


def _answers(address: Address) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), SECONDS):
        return True
    return False
