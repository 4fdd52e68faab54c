"""Which servers take part in a run."""

from __future__ import annotations

from collections.abc import Callable

from mmlu_client.config.settings import Settings
from mmlu_client.run.workload import Workload
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.service.requirements import (
    check_batch_size,
    check_goals,
    check_positions,
    check_prompt_limit,
    check_reference,
)


class Admission:
    """Lets servers take part that can do what the run asks."""

    def __init__(
        self, settings: Settings, workload: Workload, on_admit: Callable[[RemoteServer], None]
    ) -> None:
        """Take what is asked, of which the length of its prompts is not known yet.

        Args:
            settings: of the run.
            workload: what is asked.
            on_admit: called with each server that is let in; it may raise NotWrittenError.
        """
        self._settings = settings
        self._workload = workload
        self._on_admit = on_admit
        self._max_prompt_tokens: int | None = None
        self._max_positions: int | None = None

    def bound(self, prompt_tokens: int, positions: int | None) -> None:
        """Hold servers from now on to what the run's requests are made for.

        Args:
            prompt_tokens: of the longest prompt that is asked.
            positions: the most that a request may have scored; None: any number.
        """
        self._max_prompt_tokens, self._max_positions = prompt_tokens, positions

    def admit(self, server: RemoteServer, first: RemoteServer) -> None:
        """Check that a server can do what the run asks, and let it in.

        Args:
            server: one of the start, one that joins, or one that came back.
            first: the first of the fleet.

        Raises:
            InputError: it cannot, as it was started.
            RunError: it cannot together with the first, or takes too short prompts.
            NotWrittenError: it cannot be recorded.
        """
        check_batch_size(server, self._settings.batch_size)
        check_goals(server, self._settings.slos)
        self._workload.check(server)
        if self._max_prompt_tokens is not None:
            check_prompt_limit(server, self._max_prompt_tokens)
            if self._workload.tasks is not None:
                check_positions(server, self._max_positions)
        if self._settings.validate:
            check_reference(server, first)
        self._on_admit(server)
