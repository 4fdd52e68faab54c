"""What Prometheus makes of a live server and a live client, against the client's own report of that run."""

from __future__ import annotations

import pytest

from tools.watching.dashboard import dashboards
from tools.watching.observed_run import ObservedRun
from tools.watching.prometheus import CONFIGURATION

# Nanoseconds to seconds, sums in another order; whole time as it is counted while the run is on.
ROUNDING = 1e-3


@pytest.mark.parametrize(
    ("rule", "figure"),
    [
        ("mmlu_client:throughput_whole:run", "p_infer_whole"),
        ("mmlu_client:throughput_core:run", "p_infer_core"),
        ("mmlu_client:mfu:run", "mfu"),
        ("mmlu_client:accuracy:run", "acc"),
    ],
)
def test_the_run_by_prometheus_is_the_run_by_its_report(
    observed_run: ObservedRun, rule: str, figure: str
) -> None:
    (series,) = observed_run.prometheus.query(f"last_over_time({rule}[30s])", observed_run.settled)
    assert series.values[0][1] == pytest.approx(observed_run.summary[figure], rel=ROUNDING)


@pytest.mark.parametrize(("share", "off"), [("p50", 0.06), ("p99", 0.11)])
def test_the_dashboards_percentiles_are_those_of_the_report(
    observed_run: ObservedRun, share: str, off: float
) -> None:
    """A bucket is a tenth as wide as its lower bound: a median in its middle is off by half of that."""
    (run,) = (one for one in dashboards() if one.uid == "mmlu-client-run")
    (panel,) = (one for one in run.panels if one.title == "Request latency")
    (query,) = (one for one in panel.queries if one.legend == f"{share}, so far")
    asked = query.filled({"instance": observed_run.client})
    (series,) = observed_run.prometheus.query(asked, observed_run.end)
    exact = observed_run.summary[f"latency_{share}_seconds"]
    assert series.values[0][1] == pytest.approx(exact, rel=off)


def test_the_server_counts_what_the_report_sums_up(observed_run: ObservedRun) -> None:
    """The server is still there after the run: these are exact."""
    summary = observed_run.summary
    sums = {
        "trt_server_flops_total": summary["flops"],
        "trt_server_core_seconds_total": summary["core_seconds"],
        'trt_server_tokens_total{kind="logical"}': summary["logical_tokens"],
        'trt_server_tokens_total{kind="computed"}': summary["computed_tokens"],
        'trt_server_requests_total{code="OK"}': summary["answered"],
        'trt_server_stage_seconds_count{stage="core"}': summary["answered"],
        "trt_server_batch_size_sum": summary["questions"],
    }
    observed_run.prometheus.wait_for(f"trt_server_flops_total == {summary['flops']}")
    for name, expected in sums.items():
        (series,) = observed_run.prometheus.query(name)
        assert series.values[0][1] == pytest.approx(expected), name


def test_the_servers_mfu_and_throughput_are_those_of_the_report(observed_run: ObservedRun) -> None:
    """Over a minute that holds the whole run: ratios of the same FLOPs, tokens and seconds."""
    at, summary = observed_run.settled, observed_run.summary
    (mfu,) = observed_run.prometheus.query("trt_server:mfu:ratio_rate1m", at)
    assert mfu.values[0][1] == pytest.approx(summary["mfu"], rel=ROUNDING)
    (core,) = observed_run.prometheus.query("trt_server:throughput_core:rate1m", at)
    assert core.values[0][1] == pytest.approx(summary["p_infer_core"], rel=ROUNDING)


def test_nothing_is_alarmed_about_a_run_that_goes_well(observed_run: ObservedRun) -> None:
    assert observed_run.prometheus.query("ALERTS", observed_run.end) == []


def test_both_are_found_through_the_files_of_targets(observed_run: ObservedRun) -> None:
    targets = observed_run.prometheus.get("targets", {"state": "active"})["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {"trt-server", "mmlu-client"}
    assert {file.name for file in (CONFIGURATION / "targets").iterdir()} == {"servers.yml", "clients.yml"}
