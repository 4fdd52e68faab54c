"""The servers of a run: what they are shown, and the connections to them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from mmlu_client.config.settings import Settings
from mmlu_client.run.admission import Admission
from mmlu_client.service.access import Access, in_plain_text
from mmlu_client.service.connecting import Connecting
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.model_config import read_model_config


def access_of(settings: Settings, say: Callable[[str], None]) -> Access:
    """Read what the servers of a run are shown.

    Args:
        settings: of the run.
        say: prints a line for the person.

    Raises:
        InputError: the file of tokens cannot be read, or holds none.
    """
    return Access(
        settings.tls_ca,
        settings.tls_cert,
        settings.tls_key,
        settings.token_file or settings.api_key_file,
        say,
        "--token-file" if settings.api_key_file is None else "--api-key-file",
    )


@contextlib.asynccontextmanager
async def connected_fleet(
    settings: Settings, say: Callable[[str], None], admission: Admission
) -> AsyncIterator[Fleet]:
    """Connect to the servers of a run, and close the connections at the end.

    Args:
        settings: of the run.
        say: prints a line for the person.
        admission: lets each server in, or not.

    Raises:
        ClientError: no server is there in time, or one of them was not let in.
    """
    access = access_of(settings, say)
    if access.token_file is not None and (bare := await in_plain_text(settings.addresses)):
        say(f"the token goes to {', '.join(bare)} as plain text: name addresses with TLS where there are")
    fleet = Fleet(settings.addresses, _connecting(settings, access, say), say, admission.admit)
    try:
        await fleet.connect(settings.server_timeout)
        yield fleet
    finally:
        await fleet.close()


def _connecting(settings: Settings, access: Access, say: Callable[[str], None]) -> Connecting:
    config = settings.model_config
    return Connecting(
        kind=settings.server_kind,
        access=access,
        say=say,
        model_name=settings.model_name,
        model_config=read_model_config(config) if config is not None else None,
        peak_flops=settings.peak_flops,
        request_timeout=settings.request_timeout,
    )
