"""What a run asks: its items in their order, and how prompts and records are made of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Item
from mmlu_client.prompts.limit import PromptLimit
from mmlu_client.prompts.prompt import PromptSource, Unaskable
from mmlu_client.prompts.tokenizer import Tokenizer
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import DataPart
from mmlu_client.rundir.record import Record
from mmlu_client.service.model import ServedModel
from mmlu_client.service.remote_server import RemoteServer

ItemT = TypeVar("ItemT")


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
    def few_shots(self) -> int:
        """How many shots a prompt is to have."""
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

    def prompts(
        self, tokenizer: Tokenizer, files: Mapping[str, bytes], limit: PromptLimit, model: ServedModel
    ) -> PromptSource:
        """Return what makes the prompts.

        Args:
            tokenizer: Of the served model.
            files: The tokenizer's own files, by name.
            limit: Of their length.
            model: The served model.
        """
        ...

    def record(self, answered: AnsweredItem, phase: str, session: int) -> Record:
        """Make the record of an item that has its answers.

        Args:
            answered: The item.
            phase: VAL or INFER.
            session: Which start of the client this is, from 0.
        """
        ...

    def record_of_unaskable(self, unaskable: Unaskable, phase: str, session: int) -> Record:
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
