"""What is made of the times of matrix products, by products that take what they are told."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from trt_server.devices.peak import PeakFlops
from trt_server.engines.cpu_peak import CpuPeak

# So short that it is done within a turn, whatever else runs.
SHORT = 0.0003
# Larger products than the smallest are not tried.
SECONDS = 0.002
OPERATIONS = 2 * 512**3
# The clock of a process's time and that of the wall's differ by so much over times as short as these.
CLOCKS = 1.1


def computing(seconds: float) -> Callable[[int], Callable[[], object]]:
    """A product that has a core for so long."""

    def compute() -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    return lambda _: compute


def waiting(seconds: float) -> Callable[[int], Callable[[], object]]:
    """A product that has none, as where others have them all."""
    return lambda _: lambda: time.sleep(seconds)


@pytest.fixture
def neighbours() -> Iterator[None]:
    """Two programs that compute all the time."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("neighbours")
def test_a_peak_without_cores_beside_others_that_have_them_is_contended() -> None:
    peak = CpuPeak(waiting(SECONDS), 1, "naps", blocking=True).measure()
    assert peak.measured is not None
    assert peak.measured.contended
    assert 0 < peak.flops_per_second <= OPERATIONS / SECONDS


@pytest.mark.usefixtures("neighbours")
def test_one_product_that_had_its_core_is_enough() -> None:
    """Between its neighbours' turns."""
    peak = CpuPeak(computing(SHORT), 1, "loops", blocking=True).measure()
    assert peak.measured is not None
    assert not peak.measured.contended
    assert 0 < peak.flops_per_second <= 2 * 2048**3 / SHORT * CLOCKS


@pytest.mark.usefixtures("neighbours")
def test_threads_that_spin_may_have_waited_for_a_core() -> None:
    peak = CpuPeak(computing(SHORT), 1, "loops", blocking=False).measure()
    assert peak.measured is not None
    assert peak.measured.contended


def test_one_that_is_given_is_not_measured() -> None:
    def make_product(_: int) -> Callable[[], object]:
        raise AssertionError("it is measured")

    peak = CpuPeak(make_product, 1, "loops", blocking=True, given=3e12)
    assert peak.measure() == PeakFlops(3e12, "given with --peak-flops")


def test_the_largest_is_kept() -> None:
    seconds = iter((SECONDS, 50 * SECONDS))

    def make_product(size: int) -> Callable[[], object]:
        return computing(next(seconds))(size)

    peak = CpuPeak(make_product, 1, "loops", blocking=True)
    first, second = peak.measure(), peak.measure()
    assert first.measured is not None
    assert (first.measured.count, first.measured.least_flops_per_second) == (1, first.flops_per_second)
    assert second.measured is not None
    assert second.flops_per_second == first.flops_per_second
    assert second.measured.count == 2
    assert 0 < second.measured.least_flops_per_second <= OPERATIONS / (50 * SECONDS) * CLOCKS


@pytest.mark.usefixtures("neighbours")
def test_a_peak_is_contended_only_where_every_measurement_was() -> None:
    products: list[Callable[[], object]] = []
    peak = CpuPeak(lambda _: products[-1], 1, "naps and loops", blocking=True)
    contended = []
    for product in (waiting(SECONDS), computing(SHORT), waiting(SECONDS)):
        products.append(product(512))
        measured = peak.measure().measured
        contended.append(measured is not None and measured.contended)
    assert contended == [True, False, False]


def test_larger_products_are_tried_while_they_are_short() -> None:
    sizes: list[int] = []

    def make_product(size: int) -> Callable[[], object]:
        sizes.append(size)
        return computing(SECONDS if size > 1000 else 0)(size)

    CpuPeak(make_product, 1, "loops", blocking=True).measure()
    assert sizes[0] == 512
    assert sizes == sorted(sizes)
    assert [size > 1000 for size in sizes].count(True) <= 1
