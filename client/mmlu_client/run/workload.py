"""What a run asks: its items in their order, and how prompts and records are made of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Item
from mmlu_client.prompts.limit import PromptLimit
from mmlu_client.prompts.prompt import PromptSource, Unaskable
from mmlu_client.prompts.tokenizer import Tokenizer
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import DataPart
from mmlu_client.service.remote_server import RemoteServer

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Scorer:
    """What scores the prompts, as far as they depend on it.

    Attributes:
        tokenizer: Of the served model.
        tokenizer_files: The contents of its files, by name.
        limit: Of the prompts' length.
        max_prompt_tokens: The longest prompt that every server accepts, with all its continuations.
        max_positions: The most positions that a request may have scored; None: any number.
        vocabulary_size: The number of the model's token ids.
    """

    tokenizer: Tokenizer
    tokenizer_files: Mapping[str, bytes]
    limit: PromptLimit
    max_prompt_tokens: int
    max_positions: int | None
    vocabulary_size: int


class Workload(Protocol):
    """What a run asks."""

    @property
    def items(self) -> Sequence[Item]:
        """All that are to be answered, in the order in which they are asked."""
        ...

    @property
    def data(self) -> DataPart:
        """What the manifest holds of the data."""
        ...

    @property
    def note(self) -> str:
        """What a person has to know of the data before a run; empty: nothing."""
        ...

    @property
    def prompt_format(self) -> str:
        """Whose prompts are made."""
        ...

    @property
    def few_shots(self) -> int | None:
        """How many shots a prompt is to have; None where prompts differ."""
        ...

    @property
    def tasks(self) -> dict[str, Any] | None:
        """What the manifest holds of lm-eval's tasks; None where none are asked."""
        ...

    def check(self, server: RemoteServer) -> None:
        """Check that a server can score what is asked.

        Raises:
            InputError: It cannot.
        """
        ...

    def limit(self, server_tokens: int) -> PromptLimit:
        """Return the limit on the prompts.

        Args:
            server_tokens: The longest prompt that every server accepts.

        Raises:
            InputError: A longer one is asked for.
        """
        ...

    def prompts(self, scorer: Scorer) -> PromptSource:
        """Return what makes the prompts for these servers.

        Raises:
            InputError: The tokenizer cannot be used for them.
        """
        ...

    def record(self, answered: AnsweredItem, phase: str, session: int) -> AnyRecord:
        """Make the record of an item that has its answers.

        Args:
            answered: The item.
            phase: VAL or INFER.
            session: Which start of the client this is, from 0.
        """
        ...

    def record_of_unaskable(self, unaskable: Unaskable, phase: str, session: int) -> AnyRecord:
        """Make the record of an item that no prompt could be made of."""
        ...


class Source(Protocol):
    """The data that runs are made of: one run, or each run of a sweep."""

    def workload(self, settings: Settings) -> Workload:
        """Choose what a run with these settings asks.

        Raises:
            InputError: The data lack what is asked for.
        """
        ...

    def write_lm_eval_files(self, run: FinishedRun) -> None:
        """Write a run's files as lm-evaluation-harness does, into its folder.

        Raises:
            ClientError: They cannot be written, or the data are not those that were asked.
        """
        ...


def in_order(items: Iterable[ItemT], settings: Settings) -> list[ItemT]:
    """Put the items in the order in which they are asked; keep as many as --request-count asks for."""
    ordered = list(items)
    if settings.is_shuffled:
        random.Random(settings.seed).shuffle(ordered)
    requests = settings.load.request_count
    return ordered[: requests * settings.batch_size] if requests else ordered
