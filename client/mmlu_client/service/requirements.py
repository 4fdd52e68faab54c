"""What a run requires of a server that takes part in it, each with a check that says what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.errors import InputError, RunError
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.service.stages import LATENCY, STAGES_OF_SERVERS, Slo


def check_batch_size(server: RemoteServer, batch_size: int) -> None:
    """Check that a server takes requests of so many prompts.

    Raises:
        InputError: it does not.
    """
    most = server.model.max_batch_size
    if most is not None and batch_size > most:
        raise InputError(
            f"--bs {batch_size} is too many: {server.name} takes {most}; "
            f"start it with --max-batch-size {batch_size}"
        )


def check_prompt_limit(server: RemoteServer, tokens: int) -> None:
    """Check that a server takes the longest prompts of the run, of so many tokens.

    Raises:
        RunError: it does not.
    """
    if server.model.max_prompt_tokens < tokens:
        raise RunError(
            f"{server.name} takes prompts of {server.model.max_prompt_tokens} tokens, this run asks for "
            f"up to {tokens}: start it with --max-prompt-tokens {tokens}"
        )


def check_goals(server: RemoteServer, goals: Sequence[Slo]) -> None:
    """Check that a server tells the stages that goals are of.

    Raises:
        InputError: it tells no stages.
    """
    untold = [goal for goal in goals if goal.key in STAGES_OF_SERVERS]
    if untold and not server.model.tells_stages:
        raise InputError(
            f"--goodput {untold[0]}: {server.name} does not tell this stage of a request: ask for {LATENCY}"
        )


def check_positions(server: RemoteServer, positions: int | None) -> None:
    """Check that a server scores as many positions of a request as the run's requests may have.

    Args:
        server: the server.
        positions: the most of a request; None: any number.

    Raises:
        RunError: it scores fewer.
    """
    limit = server.model.max_scored_positions
    if limit and (positions is None or limit < positions):
        asked = "any number" if positions is None else f"up to {positions}"
        raise RunError(
            f"{server.name} scores {limit} positions of a request, this run asks for {asked}: start it with "
            "a larger --max-scored-positions"
        )


def check_reference(server: RemoteServer, first: RemoteServer) -> None:
    """Check that a server has the same reference engine as the first.

    Raises:
        InputError: it has none.
        RunError: it has another.
    """
    mine, theirs = server.model.reference, first.model.reference
    if mine is None:
        raise InputError(
            f"--validate: {server.name} has no reference engine: start it with --reference torch"
        )
    if theirs is not None and mine.fingerprint != theirs.fingerprint:
        raise RunError(
            f"--validate: the references of {first.name} and {server.name} differ: "
            f"{theirs.name} {theirs.precision} and {mine.name} {mine.precision}"
        )
