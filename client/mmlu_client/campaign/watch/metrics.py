"""A campaign's Prometheus metrics, with all names and help texts."""

from __future__ import annotations

from collections import Counter as Counts

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.cell_state import RUNNING, STATES, CellState, State
from mmlu_client.campaign.file.axis import COORDINATES
from mmlu_client.campaign.outcome.cell_outcome import Measured
from mmlu_client.watch.prometheus import CollectorRegistry, Counter, Gauge

CELL = ("campaign", "cell")
# As Prometheus takes a label's name.
LABELS = (*CELL, *(coordinate.replace("-", "_") for coordinate in COORDINATES))
# The metrics of finished cells: the name, the figure, and the help text.
FIGURES = (
    ("accuracy_ratio", "acc", "Right / answered questions."),
    ("accuracy_low_ratio", "acc_low", "The lower end of the accuracy's 95 % interval."),
    ("accuracy_high_ratio", "acc_high", "The upper end of the accuracy's 95 % interval."),
    ("whole_tokens_per_second", "p_infer_whole", "Logical tokens / whole seconds."),
    ("core_tokens_per_second", "p_infer_core", "Logical tokens / core seconds."),
    ("mfu_ratio", "mfu", "FLOPs / (core seconds * peak)."),
    ("e2e_seconds", "e2e_time", "Seconds from the client's start to its figures, and the server's load."),
    ("joules_per_token", "joules_per_token", "The devices' energy / logical tokens."),
)


class CampaignMetrics:
    """The metrics of one campaign, in a registry of their own. One thread at a time calls it."""

    def __init__(self, campaign: str) -> None:
        """Begin with no cell.

        Args:
            campaign: its name.
        """
        self.registry = r = CollectorRegistry()
        self._campaign = campaign
        self._states: dict[str, State] = {}
        self._cells = Gauge("mmlu_campaign_cells", "Cells, by state.", ["campaign", "state"], registry=r)
        self._lacking: set[str] = set()
        self._without_resources = Gauge(
            "mmlu_campaign_cells_without_resources",
            "Waiting cells whose turn has come and whose resources are not free.",
            ["campaign"],
            registry=r,
        ).labels(campaign)
        self._attempts = Counter(
            "mmlu_campaign_attempts",
            "Attempts to make a cell's run, in all starts of the campaign.",
            ["campaign"],
            registry=r,
        ).labels(campaign)
        self._questions = Gauge(
            "mmlu_campaign_cell_questions",
            "Questions that a cell which is on is to ask; with a reference, twice each.",
            CELL,
            registry=r,
        )
        self._answered = Gauge(
            "mmlu_campaign_cell_answered",
            "Questions of a cell which is on that are answered; with a reference, twice each.",
            CELL,
            registry=r,
        )
        self._figures = {
            key: Gauge(f"mmlu_campaign_cell_{name}", f"Of a finished cell: {text}", LABELS, registry=r)
            for name, key, text in FIGURES
        }
        self._show_states()

    def found(self, cell: Cell, state: CellState) -> None:
        """Take a cell as a start of the campaign finds it."""
        self._states[cell.name] = state.state
        self._attempts.inc(len(state.attempts))
        self._show_states()

    def changed(self, cell: Cell, state: CellState) -> None:
        """Take a cell's new state."""
        self._states[cell.name] = state.state
        self._lacking.discard(cell.name)
        if state.state == RUNNING:
            self._attempts.inc()
            self._answered.labels(self._campaign, cell.name).set(0)
        else:
            for gauge in (self._questions, self._answered):
                gauge.remove(self._campaign, cell.name)
        self._show_states()

    def waits(self, cell: Cell) -> None:
        """Take that a cell whose turn has come waits for resources."""
        self._lacking.add(cell.name)
        self._show_states()

    def advanced(self, cell: Cell, answered: int, questions: int | None) -> None:
        """Take how far a cell is that is on."""
        self._answered.labels(self._campaign, cell.name).set(answered)
        if questions is not None:
            self._questions.labels(self._campaign, cell.name).set(questions)

    def measured(self, cell: Cell, measured: Measured | None) -> None:
        """Take the figures of a cell; None: it has none, or none any more."""
        labels = (self._campaign, cell.name, *(cell.coordinates.get(each, "") for each in COORDINATES))
        for key, gauge in self._figures.items():
            value = getattr(measured.summary, key) if measured else None
            if value is None:
                gauge.remove(*labels)
            else:
                gauge.labels(*labels).set(value)

    def _show_states(self) -> None:
        counts = Counts(self._states.values())
        for state in STATES:
            self._cells.labels(self._campaign, state).set(counts[state])
        self._without_resources.set(len(self._lacking))
