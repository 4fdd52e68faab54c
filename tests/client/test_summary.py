"""Figures against numbers worked out by hand, through the files that a run leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mmlu_client.data.question import LETTERS as ALL_LETTERS
from mmlu_client.data.question import Letter
from mmlu_client.figures.formulas import mfu, mfu_flagperf, summarize
from mmlu_client.figures.self_check import self_check
from mmlu_client.figures.statistics import mcnemar, standard_error, wilson
from mmlu_client.figures.summary import Summary
from mmlu_client.report.table import notes, table
from mmlu_client.rundir.finished_run import FinishedRun, read_run
from mmlu_client.rundir.manifest import MANIFEST_VERSION
from mmlu_client.rundir.record import INFER, VAL, ClientTimes, Record, SharedRequest, Tokens
from mmlu_client.rundir.record_file import RecordFile
from mmlu_client.service.messages import Batch, Timing
from mmlu_client.service.model import Device, EngineInfo, ServedModel

MODEL = ServedModel(
    id="m",
    architecture="Llama",
    fingerprint="f",
    parameters=1000,
    vocabulary_size=100,
    engine=EngineInfo("tensorrt", "8.6", "fp16", "e", load_seconds=1.5, build_seconds=2.5),
    reference=EngineInfo("torch", "2", "fp16", "r", load_seconds=1.0, build_seconds=0.0),
    device=Device("card", memory_used=2**30, memory_peak=30 * 2**30, memory_total=40 * 2**30),
    peak_flops=1e6,
    peak_source="datasheet",
    max_prompt_tokens=2048,
    max_batch_size=8,
    stream_window=64,
    notice="",
    server_version="1",
)
LETTERS = ALL_LETTERS[:4]
CANDIDATES = (11, 12, 13, 14)
MS = 10**6
SECOND = 10**9
MOMENT = {"utc": "2000-01-01T00:00:00.000+00:00", "epoch_ns": 0, "monotonic_ns": 5}


# What the records of a request have in common.
Exchange = dict[str, Any]


def exchange(
    request: str, prompts: int, core_ms: int, latency_ms: int = 10, batch: int | None = None, due: int = 5
) -> Exchange:
    """Sent 1 ms after it was due."""
    return {
        "server": "s",
        "request": SharedRequest(request, prompts),
        "batch": Batch(batch or prompts, 100, padding_tokens=25),
        "server_ns": Timing(0, 0, 0, 0, core_ms * MS, 0, core_ms * MS),
        "client_ns": ClientTimes(0, due, due, due + MS, due + latency_ms * MS),
    }


def record(
    subject: str,
    answer: Letter,
    best: Letter,
    asked_in: Exchange,
    *,
    index: int = 0,
    phase: str = INFER,
    top: int | None = None,
    logical: int = 100,
    computed: int = 100,
    flops: int = 50_000,
    shots: int = 5,
    shared: int = 0,
) -> Record:
    return Record(
        subject,
        index,
        phase,
        0,
        answer,
        predicted=best,
        correct=best == answer,
        logprobs={letter: -0.1 if letter == best else -3.0 for letter in LETTERS},
        candidates=dict(zip(LETTERS, CANDIDATES, strict=True)),
        top_token=CANDIDATES[LETTERS.index(best)] if top is None else top,
        top_logprob=-0.1,
        tokens=Tokens(logical, computed, shared),
        flops=flops,
        shots=shots,
        truncated=shots < 5,
        **asked_in,
    )


def letters(text: str) -> list[Letter]:
    return [LETTERS["ABCD".index(letter)] for letter in text]


def failed(subject: str) -> Record:
    return Record(subject, 9, INFER, 0, "A", error="OUT_OF_RANGE: too long")


def data(questions: int, **changes: Any) -> dict[str, Any]:
    """Of a run that asks all of them."""
    whole = {"benchmark_questions": questions, "subject_sizes": {"alpha": questions}, "limit": None}
    fixed = {"name": "d", "sha256": "s", "subjects": ["alpha"], "order": "file"}
    return {**fixed, "questions": questions, **whole, **changes}


def manifest(model: ServedModel, **changes: Any) -> dict[str, Any]:
    fields = asdict(model)
    return {
        "started": MOMENT,
        "command_line": [],
        "manifest_version": MANIFEST_VERSION,
        "url": "s",
        "data": data(questions=7),
        "bs": 2,
        "prompt_format": "hendrycks",
        "max_prompt_tokens": {"asked": None, "source": "hendrycks's own program"},
        "few_shots": 5,
        "concurrency": 1,
        "load": {
            "mode": "closed", "concurrency": 1, "rate": 0.0, "pattern": "poisson", "warmup_requests": 0,
            "duration": None, "request_count": None, "description": "closed loop",
        },
        "early_stop": None,
        "tokenizer": "t",
        "special_tokens": {"first": [], "notes": []},
        "seeds": {"random_seed": 0},
        "client": {"platform": "p", "python": "3", "versions": {}},
        "flags": {},
        "validate": False,
        "reuse_prefix": False,
        "goodput": [],
        "model": {
            name: fields[name]
            for name in ("id", "architecture", "fingerprint", "parameters", "vocabulary_size", "notice")
        },
        "engine": fields["engine"],
        "reference": fields["reference"],
        "device": fields["device"],
        "peak": {"flops_per_second": model.peak_flops, "source": model.peak_source},
        "limits": {
            name: fields[name] for name in ("max_prompt_tokens", "max_batch_size", "stream_window")
        },
        "servers": [
            {
                "name": "s", "session": 0, "device": "card", "devices": [{"name": "card", "id": None}],
                "peak_flops": model.peak_flops, "load_seconds": 1.5, "build_seconds": 2.5,
                "reference_load_seconds": 0.0,
            }
        ],
        "server_version": "1",
        "sessions": [
            {
                "started": MOMENT,
                "process_started_ns": 5,
                "command_line": [],
                "ended": {
                    **MOMENT, "monotonic_ns": 5 + 10 * SECOND, "why": "done", "interruptions": 1,
                    "outage_seconds": 0.5, "phase_seconds": {},
                    "lag_mean_seconds": 0.0, "lag_worst_seconds": 0.0, "busy_share": 0.0,
                    "starved_share": 0.0,
                },
            }
        ],
        **changes,
    }  # fmt: skip


def reading(phase: str, energy: float | None, device: Device = MODEL.device) -> dict[str, Any]:
    fields = {**asdict(device), "energy_joules": energy}
    return {"phase": phase, "session": 0, "server": "s", "monotonic_ns": 1, "device": fields}


ONE, TWO = exchange("1", 2, 500, 10), exchange("2", 1, 250, 20)
# The whole run takes 4 s: the last reply comes then.
THREE = exchange("3", 1, 250, 90, due=5 + 4 * SECOND - 90 * MS)
RECORDS = [
    record("alpha", "A", "A", ONE),
    record("alpha", "B", "B", ONE, index=1, top=99),
    record("alpha", "C", "D", TWO, index=2),
    record("beta", "D", "D", THREE),
    failed("beta"),
]

Figures = Callable[..., Summary]


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., FinishedRun]:
    def finish(
        records: list[Record] = RECORDS,
        model: ServedModel = MODEL,
        readings: list[dict[str, Any]] | None = None,
        **changes: Any,
    ) -> FinishedRun:
        (tmp_path / "records.jsonl").unlink(missing_ok=True)
        with RecordFile(tmp_path / "records.jsonl") as file:
            file.append(records)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest(model, **changes)))
        lines = readings or [reading(INFER, None, model.device)]
        (tmp_path / "device.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return read_run(tmp_path)

    return finish


@pytest.fixture
def figures(finished: Callable[..., FinishedRun]) -> Figures:
    return lambda *arguments, **changes: summarize(finished(*arguments, **changes))


def test_accuracy(figures: Figures) -> None:
    summary = figures()
    assert summary.acc == 3 / 4
    assert summary.acc_vocab == 2 / 4
    assert summary.acc_macro == pytest.approx((2 / 3 + 1) / 2)
    assert summary.acc_stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert (summary.questions, summary.answered, summary.failed, summary.unanswered) == (7, 4, 1, 2)


def test_accuracy_of_a_part_is_marked(finished: Callable[..., FinishedRun]) -> None:
    run = finished()
    summary = summarize(run)
    assert "| 0.750* " in table(summary, "")
    assert "| 0.750* (demo) " in table(summary, "demo: small")
    (first, *_) = notes(run, summary)
    assert first == "acc*: 4 of 7 questions of d; 1 failed, 2 were not asked or not answered"


def test_accuracy_of_all_is_not_marked(finished: Callable[..., FinishedRun]) -> None:
    run = finished(RECORDS[:4], data=data(questions=4))
    summary = summarize(run)
    assert "| 0.750 " in table(summary, "")
    assert not any("acc*" in line for line in notes(run, summary))


def test_a_servers_line_is_of_the_engine(finished: Callable[..., FinishedRun]) -> None:
    """What the reference did at the same server is not in it."""
    (server,) = manifest(MODEL)["servers"]
    val = [record("alpha", "A", "A", exchange(f"v{number}", 1, 7000), phase=VAL) for number in range(3)]
    run = finished([*val, *RECORDS], servers=[server, {**server, "name": "t"}], validate=True)
    assert "server s: 3 requests, 4 questions, core 1.000 s" in notes(run, summarize(run))


def test_throughput_counts_a_requests_core_time_once(figures: Figures) -> None:
    """Two questions of request 1 share its 0.5 s: 1 s in all, not 1.5."""
    summary = figures()
    assert summary.logical_tokens == 400
    assert summary.core_seconds == pytest.approx(1.0)
    assert summary.p_infer_core == pytest.approx(400.0)
    assert summary.p_infer_whole == pytest.approx(100.0)
    assert summary.whole_over_core == pytest.approx(0.25)


def test_mfu(figures: Figures) -> None:
    summary = figures()
    assert summary.flops == 200_000
    assert summary.mfu == pytest.approx(0.2)
    assert summary.mfu_whole == pytest.approx(0.05)
    assert summary.mfu_flagperf == pytest.approx(2 * 1000 * 400 / 1e6)


def test_mfu_of_a_server_with_two_devices(figures: Figures) -> None:
    """Core seconds are those of each device, the whole time's peak is that of both."""
    (server,) = manifest(MODEL)["servers"]
    devices = [{"name": "card", "id": "one"}, {"name": "card", "id": "two"}]
    summary = figures(servers=[{**server, "devices": devices}])
    assert summary.mfu == pytest.approx(0.2)
    assert summary.mfu_whole == pytest.approx(0.025)


def test_reuse_is_counted_and_has_no_flagperf_mfu(figures: Figures) -> None:
    summary = figures([record("alpha", "A", "A", ONE, logical=100, computed=25)])
    assert summary.prefix_hit_ratio == pytest.approx(0.75)
    assert (summary.logical_tokens, summary.computed_tokens) == (100, 25)
    assert summary.mfu_flagperf is None


def test_the_suites_own_row(figures: Figures) -> None:
    """Aquila-7B on an A100-SXM4-40GB, fp16: 7212.94 tokens/s in the core are an MFU of 32.4 %."""
    share = mfu_flagperf(7212.94, 7 * 10**9, 312e12)
    assert share is not None
    assert f"{share:.1%}" == "32.4%"
    summary = replace(
        figures(), bs=1, benchmark_questions=4, e2e_time=1333.664, p_val_whole=6988.69, p_val_core=7212.94,
        p_infer_whole=None, p_infer_core=None, mfu=share, acc=0.33,
    )  # fmt: skip
    cells = [cell.strip() for cell in table(summary, "").splitlines()[2].strip("|").split("|")]
    assert cells == [
        "tensorrt", "fp16", "1", "1333.664", "6988.69", "7212.94", "/", "/", "32.4%", "0.330", "30.0/40.0",
    ]  # fmt: skip


def test_mfu_of_a_known_prompt() -> None:
    """3.12e14 FLOPs in 2 s on 312e12 FLOP/s: half of what was possible."""
    assert mfu(312 * 10**12, 2.0, 312e12) == pytest.approx(0.5)


def test_memory_and_time(figures: Figures) -> None:
    summary = figures()
    assert (summary.mem_used_gib, summary.mem_total_gib) == (30.0, 40.0)
    assert summary.e2e_time == pytest.approx(1.5 + 2.5 + 10.0)
    used = replace(MODEL, device=replace(MODEL.device, memory_peak=None))
    assert figures(model=used).mem_used_gib == 1.0


def test_latency_is_of_requests(figures: Figures) -> None:
    """10, 20 and 90 ms: the 90th percentile lies 8/10 of the way from the second to the third."""
    summary = figures()
    assert summary.latency_p50_seconds == pytest.approx(0.020)
    assert summary.latency_p90_seconds == pytest.approx(0.020 + 0.8 * 0.070)


def test_mean_batch_is_over_the_engines_batches(figures: Figures) -> None:
    """Requests of 2 and 1 shared a batch of 3, one of 1 ran alone: 2 batches, 4 prompts."""
    together = [exchange("1", 2, 1, batch=3), exchange("2", 1, 1, batch=3), exchange("3", 1, 1)]
    records = [record("alpha", "A", "A", each) for each in (together[0], together[0], *together[1:])]
    assert figures(records).mean_batch_size == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("peak", "source", "words"),
    [
        (
            1e5,
            "measured: a product",
            "the peak was measured on a machine that was busier then than in the run",
        ),
        (1e5, "datasheet", "the peak is not this device's (trt-server --peak-flops sets it)"),
        (5e5, "measured: a product", "or FlagPerf's arithmetic alone"),
    ],
)
def test_mfu_that_cannot_be_is_remarked_on(
    finished: Callable[..., FinishedRun], peak: float, source: str, words: str
) -> None:
    run = finished(model=replace(MODEL, peak_flops=peak, peak_source=source))
    (line,) = [line for line in notes(run, summarize(run)) if line.startswith("MFU above 100 %: ")]
    assert words in line


def test_mfu_that_can_be_is_not_remarked_on(finished: Callable[..., FinishedRun]) -> None:
    run = finished()
    assert not any("MFU above" in line for line in notes(run, summarize(run)))


def test_a_row_of_merged_requests_is_marked(finished: Callable[..., FinishedRun]) -> None:
    together = [exchange("1", 1, 1, batch=2), exchange("2", 1, 1, batch=2), exchange("3", 1, 1)]
    run = finished(
        [record("alpha", "A", "A", each, index=index) for index, each in enumerate(together)], bs=1
    )
    summary = summarize(run)
    assert summary.merged_share == pytest.approx(2 / 3)
    assert "| tensorrt (merged requests) | fp16      | 1 " in table(summary, "")
    assert any("66.7% of requests shared a batch with others" in line for line in notes(run, summary))


def test_a_row_of_whole_batches_is_not_marked(figures: Figures) -> None:
    """Requests of 2 and 1, each a batch."""
    summary = figures()
    assert summary.merged_share == 0.0
    assert summary.engine_label == "tensorrt"


@pytest.mark.parametrize(
    ("prompts", "mixed"),
    [
        ([("alpha", 80, 5), ("alpha", 80, 5)], False),
        ([("alpha", 80, 5), ("beta", 80, 5)], True),
        ([("alpha", 80, 5), ("alpha", 79, 5)], True),
        ([("alpha", 80, 5), ("alpha", 80, 4)], True),
        ([("alpha", 0, 5), ("beta", 0, 4)], False),
    ],
)
def test_batches_of_several_prefixes_are_not_guessed(
    figures: Figures, prompts: list[tuple[str, int, int]], mixed: bool
) -> None:
    """With reuse they are run one after the other, and the reply tells of the largest alone."""
    one = exchange("1", 2, 1)
    records = [record(name, "A", "A", one, shared=shared, shots=shots) for name, shared, shots in prompts]
    assert figures(records).mean_batch_size == 2.0
    assert figures(records, reuse_prefix=True).mean_batch_size == (None if mixed else 2.0)


def test_padding_is_of_what_the_engines_ran(figures: Figures) -> None:
    """Two requests, of two questions and of one, 25 tokens of padding each; 60 of 300 tokens were reused."""
    asked = [exchange("1", 2, 1), exchange("1", 2, 1), exchange("2", 1, 1)]
    records = [record("alpha", "A", "A", each, computed=80) for each in asked]
    assert figures(records).padding_share == pytest.approx(50 / (50 + 240))


def test_shots_that_were_kept_are_told(finished: Callable[..., FinishedRun]) -> None:
    asked = [exchange(str(number), 1, 1) for number in range(4)]
    run = finished(
        [
            record("alpha", "A", "A", each, shots=shots)
            for each, shots in zip(asked, (5, 5, 3, 0), strict=True)
        ]
    )
    summary = summarize(run)
    assert (summary.prompt_format, summary.few_shots) == ("hendrycks", 5)
    assert (summary.truncated, summary.mean_shots) == (2, 13 / 4)
    lines = notes(run, summary)
    assert (
        "prompts: format hendrycks, 5 shots asked for, 3.25 kept on average; at most 2048 tokens, the limit "
        "of hendrycks's own program"
    ) in lines
    assert any(
        line.startswith("truncated: 2 of 4 prompts were longer than the 2048 tokens") for line in lines
    )


def test_nothing_truncated_is_no_warning(finished: Callable[..., FinishedRun]) -> None:
    run = finished()
    summary = summarize(run)
    assert (summary.truncated, summary.mean_shots) == (0, 5.0)
    assert not any(line.startswith("truncated") for line in notes(run, summary))


def test_nothing_scored_is_null_not_zero(figures: Figures) -> None:
    summary = figures([failed("alpha")])
    for value in (summary.acc, summary.acc_macro, summary.acc_stderr, summary.mfu, summary.p_infer_core):
        assert value is None
    assert summary.failed == 1


def test_standard_error_of_mmlu() -> None:
    """A third of 14,042 questions right: four tenths of a percent."""
    assert standard_error(1 / 3, 14042) == pytest.approx(0.003978, abs=1e-6)


def test_notice_stands_beside_the_accuracy(figures: Figures) -> None:
    row = table(figures(), "random weights: accuracy is chance").splitlines()[2]
    assert "0.750* (random weights)" in row


def test_interval_is_wilsons(figures: Figures) -> None:
    """10 of 30: 0.192 to 0.512 (Newcombe 1998's method 3); 0 of 10 does not end below nothing."""
    interval = wilson(10, 30)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.1923, 0.5122), abs=1e-4)
    none = wilson(0, 10)
    assert none is not None
    assert (none.low, none.high) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert all(every.high == 1.0 for count in range(1, 200) if (every := wilson(count, count)))
    summary = figures()
    assert (summary.acc_low, summary.acc_high) == pytest.approx((0.3006, 0.9544), abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64)]
)
def test_mcnemar_is_a_coin_toss(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)
    assert mcnemar(second, first) == pytest.approx(p)


def test_mcnemar_of_many() -> None:
    """Far more than a float's factorials take."""
    assert 0 < mcnemar(4000, 5000) < 1e-20


def test_latency_is_from_when_it_was_due(figures: Figures) -> None:
    """Sent a millisecond after: the client's queue."""
    summary = figures()
    assert summary.latency_max_seconds == pytest.approx(0.090)
    assert summary.stage_client_queue_seconds == pytest.approx(0.001)


def test_validation_is_of_the_same_questions(finished: Callable[..., FinishedRun]) -> None:
    """The reference has three right, the engine one of them and one more."""
    spans = [exchange(f"v{number}", 1, 1000, 2000) for number in range(4)]
    val = [
        record("alpha", "A", best, span, index=number, phase=VAL, top=99 if number == 0 else None)
        for number, (best, span) in enumerate(zip(letters("AAAB"), spans, strict=True))
    ]
    infer = [
        record("alpha", "A", best, exchange(f"i{number}", 1, 100), index=number)
        for number, best in enumerate(letters("ABCA"))
    ]
    run = finished([*val, *infer], validate=True)
    summary = summarize(run)
    assert (summary.acc_val, summary.acc) == (0.75, 0.5)
    assert (summary.acc_val_vocab, summary.acc_vocab) == (0.5, 0.5)
    assert summary.agreement == 0.25
    assert (summary.only_reference_correct, summary.only_engine_correct) == (2, 1)
    assert summary.mcnemar_p == pytest.approx(1.0)
    assert summary.largest_logprob_difference == pytest.approx(2.9)
    assert summary.p_val_core == pytest.approx(400 / 4)
    assert summary.p_val_whole == pytest.approx(400 / 2)
    assert summary.p_infer_core == pytest.approx(400 / 0.4)
    assert any("no difference in accuracy is shown" in line for line in notes(run, summary))


def test_energy_is_the_counters_difference_in_the_phase(figures: Figures) -> None:
    readings = [reading(VAL, 5.0), reading(VAL, 90.0), reading(INFER, 100.0), reading(INFER, 120.0)]
    summary = figures(RECORDS, readings=readings)
    assert summary.joules_per_token == pytest.approx(20 / 400)
    assert summary.joules_per_question == pytest.approx(20 / 4)
    assert figures().joules_per_token is None


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ({}, None),
        # Requests are away for 39 ms on average.
        ({"lag_mean_seconds": 0.003}, None),
        ({"lag_mean_seconds": 0.005}, "event-loop lag over 10%"),
        ({"busy_share": 0.95}, "busy event loop over 90%"),
    ],
)
def test_the_client_says_what_kept_it(
    finished: Callable[..., FinishedRun], seen: dict[str, float], found: str | None
) -> None:
    (told,) = manifest(MODEL)["sessions"]
    check = self_check(finished(sessions=[{**told, "ended": {**told["ended"], **seen}}]))
    assert check is not None
    assert check.is_bottleneck == (found is not None)
    assert (found or "the client kept up") in check.statement()
