"""The peak rate of the processor's cores together, measured with matrix products."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from trt_server.devices.machine_memory import HIDDEN
from trt_server.devices.peak import PeakFlops, PeakMeasurements, given_peak

log = logging.getLogger(__name__)

# A small product can end before another program gets the core; a large one keeps many cores busy.
_SIZES = (512, 768, 1024, 1536, 2048)
# Where a product takes less time than this, the next larger size is tried as well.
_SHORT_SECONDS = 1e-3
# The rate is steady once the best is no more than 1 % above the best of this many rounds ago.
_STEADY_ROUNDS = 12
_STEADY_GROWTH = 1.01
_MAX_SECONDS = 0.5
# Beside other busy programs: the scheduler gives a core to a thread that has slept before those that ran.
_PAUSE_SECONDS = 0.002
# The share of all threads' time, during the best product, in which they were running; and the share of the
# whole measurement's time in which other programs were. Measured on two cores, alone and beside one to eight
# busy programs: with a share of 0.97 or more the best product was near the idle machine's, with 0.8 or less
# far below it. The speed-up over one thread is no such test: it cannot tell other programs from two threads
# that share a physical core.
_CLEAR_SHARE = 0.95
_OTHERS_SHARE = 0.05

MakeProduct = Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class _Timed:
    """One timed product.

    Attributes:
        share: The share of all threads' time in which they were running; 0 where that is not known.
    """

    flops_per_second: float
    share: float


class CpuPeak:
    """The largest rate of all measurements so far."""

    def __init__(
        self,
        make_product: MakeProduct,
        threads: int,
        what: str,
        *,
        blocking: bool,
        given: float | None = None,
    ) -> None:
        """Prepare measurements; none is made yet.

        Args:
            make_product: Given a size, returns a function that multiplies two square matrices of that size
                with `threads` threads.
            threads: The number of threads.
            what: A description of these products, for the source of the peak.
            blocking: Whether a thread that waits for others leaves its core. Where threads spin instead,
                their processor time does not tell whether they had a core to themselves.
            given: FLOP/s that are the peak, and nothing is measured; None: they are not known.
        """
        self._given = None if given is None else given_peak(given)
        self._make_product = make_product
        self._threads = threads
        self._blocking = blocking
        self._source = f"measured: {what}, {threads} {'thread' if threads == 1 else 'threads'}"
        self._peak: PeakFlops | None = None

    def measure(self) -> PeakFlops:
        """Measure once more, for half a second at most and much less where the cores are free.

        A peak that is given is returned as it is.

        Several sizes are timed in turn, and the fastest single product counts. The measurement is contended
        where the threads were running for less than 0.95 of that product's time and other processes for more
        than 0.05 of the whole measurement's.
        """
        if self._given is not None:
            return self._given
        start, usage = time.perf_counter(), _Usage(self._threads)
        products = self._products()
        best = max((self._timed(*product) for product in products), key=_rate)
        bests: list[_Timed] = []
        while time.perf_counter() - start < _MAX_SECONDS:
            best = max(best, *(self._timed(*product) for product in products), key=_rate)
            bests.append(best)
            if usage.is_contended(best):
                time.sleep(_PAUSE_SECONDS)
            elif _is_steady(bests):
                break
        measured = PeakMeasurements(1, best.flops_per_second, usage.is_contended(best))
        peak = PeakFlops(best.flops_per_second, self._source, measured)
        _log(peak, time.perf_counter() - start)
        self._peak = peak if self._peak is None else self._peak.joined(peak)
        return self._peak

    def _products(self) -> list[tuple[int, Callable[[], object]]]:
        """Return sizes and their products, each run twice already: a first run is slower than the rest."""
        products: list[tuple[int, Callable[[], object]]] = []
        for size in _SIZES:
            products.append((size, self._make_product(size)))
            fastest = max((self._timed(*products[-1]) for _ in range(2)), key=_rate)
            if 2 * size**3 / fastest.flops_per_second >= _SHORT_SECONDS:
                break
        return products

    def _timed(self, size: int, product: Callable[[], object]) -> _Timed:
        used, start = time.process_time(), time.perf_counter()
        product()
        seconds = time.perf_counter() - start
        share = (time.process_time() - used) / (seconds * self._threads)
        return _Timed(2 * size**3 / seconds, share if self._blocking else 0.0)


class _Usage:
    """How much of the cores' time this process and others have used since this object was made."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._start, self._own, self._all = time.perf_counter(), time.process_time(), _busy_seconds()

    def is_contended(self, best: _Timed) -> bool:
        if best.share >= _CLEAR_SHARE:
            return False
        seconds = time.perf_counter() - self._start
        others = _busy_seconds() - self._all - (time.process_time() - self._own)
        # Far below 0, the system does not count other programs' time (a sandbox): best.share alone decides.
        return abs(others) > _OTHERS_SHARE * seconds * self._threads


def _busy_seconds() -> float:
    """Return the processor time, in seconds, that all programs used and that the machine's host took."""
    try:
        times = psutil.cpu_times()
    except HIDDEN:
        # /proc is hidden, and others with it: best.share alone decides.
        return time.process_time()
    # A guest's time is in the user's.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(getattr(times, name) for name in times._fields if name not in idle))


def _rate(timed: _Timed) -> float:
    return timed.flops_per_second


def _is_steady(bests: Sequence[_Timed]) -> bool:
    if len(bests) <= _STEADY_ROUNDS:
        return False
    before = bests[-1 - _STEADY_ROUNDS].flops_per_second
    return bests[-1].flops_per_second <= before * _STEADY_GROWTH


def _log(peak: PeakFlops, seconds: float) -> None:
    rate = peak.flops_per_second / 1e12
    if peak.measured is not None and peak.measured.contended:
        log.warning(
            "peak %.4g TFLOP/s (%s) in %.2f s, while other programs had the cores: too low, and MFU too high",
            *(rate, peak.source, seconds),
        )
    else:
        log.info("peak %.4g TFLOP/s (%s) in %.2f s", rate, peak.source, seconds)
