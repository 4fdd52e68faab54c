"""The figures of a run, as tables and files take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from mmlu_client.figures.catalogue import FIGURES, Show

# Subject or group → its figures, which are named as the run's are.
AccuracyFigures: TypeAlias = dict[str, dict[str, float | int | None]]


@dataclass(frozen=True)
class Summary:
    """The figures of a run, each as its entry in the catalogue says; None: not measured."""

    engine: str
    precision: str | None
    bs: int
    e2e_time: float | None
    p_val_whole: float | None
    p_val_core: float | None
    p_infer_whole: float | None
    p_infer_core: float | None
    mfu: float | None
    acc: float | None
    acc_val: float | None
    mem_used_gib: float | None
    mem_total_gib: float | None
    acc_stderr: float | None
    acc_low: float | None
    acc_high: float | None
    acc_macro: float | None
    acc_vocab: float | None
    acc_val_vocab: float | None
    acc_val_stderr: float | None
    acc_val_low: float | None
    acc_val_high: float | None
    agreement: float | None
    largest_logprob_difference: float | None
    largest_logprob_tolerance: float | None
    median_logprob_difference: float | None
    median_logprob_tolerance: float | None
    validated: bool | None
    only_reference_correct: int | None
    only_engine_correct: int | None
    mcnemar_p: float | None
    mfu_flagperf: float | None
    mfu_whole: float | None
    peak_flops: float | None
    peak_least_flops: float | None
    peak_measurements: int | None
    peak_contended: bool | None
    whole_over_core: float | None
    benchmark_questions: int
    questions: int
    answered: int
    failed: int
    not_finite: int
    unanswered: int
    tied: int
    bounded: int
    ended_early: str | None
    val_answered: int | None
    val_failed: int | None
    val_not_finite: int | None
    val_tied: int | None
    logical_tokens: int
    computed_tokens: int | None
    prompt_format: str
    few_shots: int | None
    mean_shots: float | None
    truncated: int
    reuse_prefix: bool
    p_computed_core: float | None
    prefix_hit_ratio: float | None
    padding_share: float | None
    flops: int | None
    whole_seconds: float | None
    core_seconds: float | None
    ramp_seconds: float | None
    steady_seconds: float | None
    drain_seconds: float | None
    p_infer_steady: float | None
    server_load_seconds: float | None
    server_build_seconds: float | None
    requests: int
    request_throughput: float | None
    latency_mean_seconds: float | None
    latency_p50_seconds: float | None
    latency_p90_seconds: float | None
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None
    latency_max_seconds: float | None
    latency_steady_p50_seconds: float | None
    latency_steady_p99_seconds: float | None
    stage_tokenize_seconds: float | None
    stage_client_queue_seconds: float | None
    stage_network_seconds: float | None
    stage_server_tokenize_seconds: float | None
    stage_server_queue_seconds: float | None
    stage_assemble_seconds: float | None
    stage_copy_in_seconds: float | None
    stage_core_seconds: float | None
    stage_copy_out_seconds: float | None
    stage_server_other_seconds: float | None
    goodput_share: float | None
    goodput_request_throughput: float | None
    mean_batch_size: float | None
    merged_share: float | None
    joules_per_token: float | None
    joules_per_question: float | None
    client_is_bottleneck: bool | None
    client_late_share: float | None
    client_lag_share: float | None
    client_busy_share: float | None
    client_starved_share: float | None
    sessions: int
    interruptions: int
    outage_seconds: float
    timeouts: int
    refusals: int
    acc_by_group: AccuracyFigures | None
    acc_by_subject: AccuracyFigures
    tasks: dict[str, dict[str, Any]] | None = None

    @property
    def is_partial(self) -> bool:
        """Whether acc is of fewer questions than the data has."""
        return self.acc is not None and self.answered < self.benchmark_questions

    def figures(self) -> dict[str, Any]:
        """Give every figure under its key, in the order of summary.json."""
        return {
            figure.key: getattr(self, figure.key)
            for figure in FIGURES
            if not figure.is_of_tasks or self.tasks is not None
        }

    def flat(self) -> dict[str, Any]:
        """Give the figures that can be a cell of a table; a task's metric has its name before it."""
        return {
            **{figure.key: getattr(self, figure.key) for figure in FIGURES if not figure.is_nested},
            **{
                f"{task}/{key}": value
                for task, figures in (self.tasks or {}).items()
                for key, value in figures.items()
            },
        }

    @property
    def shares_contexts(self) -> bool:
        """Whether continuations shared the computation of their context."""
        computed = self.computed_tokens
        return self.tasks is not None and computed is not None and computed < self.logical_tokens

    def cell(self, key: str, show: Show) -> str:
        """Show a figure as a table does.

        It has a mark where a line below the table explains it.
        """
        mark = " *" if key == "mfu" and self.mfu_is_too_high else ""
        return f"{show(getattr(self, key))}{mark}"

    @property
    def mfu_is_too_high(self) -> bool:
        """Whether MFU is a share of a peak that is too low."""
        return self.mfu is not None and bool(self.peak_contended)

    @property
    def reuses_prefixes(self) -> bool:
        """Whether prefixes were to be reused, or were, by a server that was not told to."""
        return self.reuse_prefix or (self.tasks is None and bool(self.prefix_hit_ratio))

    @property
    def engine_label(self) -> str:
        """The engine as tables name it: figures with reuse or of merged requests never lack the word."""
        marks = [
            *(["prefix reuse"] if self.reuses_prefixes else []),
            *(["shared contexts"] if self.shares_contexts else []),
            *(["merged requests"] if self.merged_share else []),
            *(["fails validation"] if self.validated is False else []),
        ]
        return f"{self.engine} ({', '.join(marks)})" if marks else self.engine
