"""The peak that MFU is a share of: what servers measured of it, and what a report makes of that."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client
from double import CORE_NS, HOLD, PEAK, Double
from run_files import manifest, page, records, summary
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
MARK = r"\| \d+\.\d% \* +\|"


def mfu_at(peak: float, output: Path) -> object:
    return pytest.approx(summary(output)["flops"] / (11 * CORE_NS / 1e9 * peak))


@pytest.mark.parametrize("again", [4 * PEAK, PEAK / 2], ids=["larger", "smaller"])
def test_a_peak_is_measured_again_at_the_end_and_the_larger_counts(
    data: Path, output: Path, again: float
) -> None:
    with Double(TOKENIZER, measured_peaks=(PEAK, again)) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    most, least = max(PEAK, again), min(PEAK, again)
    figures, (server,) = summary(output), manifest(output)["servers"]
    assert double.measurements == 2
    assert figures["mfu"] == mfu_at(most, output)
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / (figures["whole_seconds"] * most))
    assert figures["peak_flops"] == pytest.approx(most)
    assert figures["peak_least_flops"] == least
    assert (figures["peak_measurements"], figures["peak_contended"]) == (2, False)
    assert server["peak_flops"] == most
    assert server["peak_measurements"] == {"count": 2, "least_flops": least, "contended": False}
    told = f"peak {most / 1e12:.4g} TFLOP/s (measured: made up; the largest of 2 measurements, the least "
    assert f"{told}{least / 1e12:.4g})" in page(output)
    assert not re.search(MARK, result.stdout)
    assert "too high" not in result.stdout


def test_a_peak_that_is_known_is_not_measured(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    figures = summary(output)
    assert double.measurements == 1
    assert figures["peak_flops"] == pytest.approx(PEAK)
    assert {figures[f"peak_{name}"] for name in ("least_flops", "measurements", "contended")} == {None}


def test_a_server_that_is_gone_at_the_end_has_what_it_told_before(data: Path, output: Path) -> None:
    with Double(TOKENIZER, measured_peaks=(PEAK,)) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert double.measurements == 2
    assert summary(output)["mfu"] == mfu_at(PEAK, output)
    assert "(measured: made up; one measurement)" in page(output)


def test_a_killed_run_has_the_first_alone_until_it_goes_on(data: Path, output: Path) -> None:
    """Each start's work is held against that start's peak."""
    hold = Double(TOKENIZER, lambda n: HOLD if n == 5 else None, measured_peaks=(PEAK, 2 * PEAK))
    with hold as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output, "--concurrency", "1")
        assert double.holds.wait(SECONDS)
        running.signal(signal.SIGKILL)
        running.join()
        client("report", output)
        assert "one measurement" in page(output)
        assert double.measurements == 1
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    before = sum(record["session"] == 0 for record in records(output))
    possible = CORE_NS / 1e9 * (before * PEAK + (11 - before) * 2 * PEAK)
    assert summary(output)["mfu"] == pytest.approx(summary(output)["flops"] / possible)
    assert [server["peak_flops"] for server in manifest(output)["servers"]] == [PEAK, 2 * PEAK]


def test_mfu_is_marked_where_others_had_the_cores(data: Path, output: Path, tmp_path: Path) -> None:
    """In the run's table and page, in the suite's row, a sweep and a comparison."""
    sweep, clear = tmp_path / "sweep", tmp_path / "clear"
    asked = ("--data", data, "--output")
    with Double(TOKENIZER, measured_peaks=[PEAK] * 4, contended=True) as double:
        result = client("--url", double.url, *asked, output)
        swept = client("--url", double.url, *asked, sweep, "--sweep", "concurrency=1,2")
    with Double(TOKENIZER, measured_peaks=[PEAK] * 2) as double:
        client("--url", double.url, *asked, clear)
    assert summary(output)["peak_contended"] is True
    printed = {
        "run": result.stdout,
        "suite": client("report", output, "--format", "flagperf").stdout,
        "sweep": swept.stdout,
        "comparison": client("compare", clear, output, "--output", tmp_path / "page.html").stdout,
    }
    for name, text in printed.items():
        assert re.search(MARK, text), name
        assert "MFU *: too high, because other programs had the cores" in " ".join(text.split()), name
    for html in (output / "report.html", sweep / "report.html"):
        assert "too high, because other programs had the cores" in html.read_text()
    assert not re.search(MARK, client("report", clear).stdout)


def test_one_server_of_two_is_enough_for_the_mark(data: Path, output: Path) -> None:
    first, second = (
        Double(TOKENIZER, measured_peaks=[PEAK] * 2, contended=contended) for contended in (False, True)
    )
    with first as one, second as two:
        client("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
    assert summary(output)["peak_contended"] is True


@pytest.mark.parametrize(("factor", "is_told"), [(1.03, False), (1.08, True), (0.5, True)])
def test_a_comparison_says_when_peaks_differ(
    data: Path, tmp_path: Path, factor: float, is_told: bool
) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, peak in zip(runs, (PEAK, factor * PEAK), strict=True):
        with Double(TOKENIZER, peak=peak) as double:
            client("--url", double.url, "--data", data, "--output", run)
    text = " ".join(client("compare", *runs, "--output", tmp_path / "page.html").stdout.split())
    told = f"the peaks differ by more than 5%: 0.001 and {factor / 1000:.4g} TFLOP/s (× {factor:.3f})"
    assert (told in text) == is_told
    assert ("MFU is not on one scale" in text) == is_told
    assert "peak.flops_per_second" not in text


def test_a_run_from_before_peaks_were_counted_is_still_read(data: Path, output: Path) -> None:
    with Double(TOKENIZER, measured_peaks=[PEAK] * 2) as double:
        client("--url", double.url, "--data", data, "--output", output)
    told = manifest(output)
    for server in told["servers"]:
        del server["peak_measurements"]
    (output / "manifest.json").write_text(json.dumps(told))
    result = client("report", output)
    assert result.returncode == 0, result.stderr
    assert "peak 0.001 TFLOP/s (measured: made up)" in page(output)
    assert summary(output)["peak_contended"] is None
