"""What the sales at one price tell of its demand: samples censored at a level, stored or in a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Blocks up to this many periods are stored; later epochs of longer ones go into a histogram.
STORED = 2**22
CHUNK = 2**20
_N_BINS = 2**16
_N_BUCKETS = 2048


@njit(cache=True)
def lower_sum(v, rank):  # type: ignore[no-untyped-def]
    """Return the sum of the `rank` smallest of `v` and the next smallest (the largest where none is left).

    One pass counts values in buckets, a second one gathers the bucket that the rank falls into: a few
    nanoseconds a value, where a partition of everything takes tens.
    """
    low, high = v[0], v[0]
    for value in v:
        low, high = min(low, value), max(high, value)
    if rank >= v.size:
        return v.sum(), high
    if low == high:
        return rank * low, low
    scale = (_N_BUCKETS - 1) / (high - low)
    if not np.isfinite(scale):  # values that differ by less than buckets can tell
        scale = 0.0
    counts = np.zeros(_N_BUCKETS, dtype=np.int64)
    for value in v:
        counts[int((value - low) * scale)] += 1
    bucket, before = 0, 0
    while before + counts[bucket] <= rank:
        before += counts[bucket]
        bucket += 1
    gathered, total, k = np.empty(counts[bucket]), 0.0, 0
    for value in v:
        where = int((value - low) * scale)
        if where < bucket:
            total += value
        elif where == bucket:
            gathered[k] = value
            k += 1
    ordered = np.sort(gathered)
    return total + ordered[: rank - before].sum(), ordered[rank - before]


@njit(cache=True)
def censored(sales, levels, cap):  # type: ignore[no-untyped-def]
    """Return min(sale, cap) of the periods with at least `cap` on hand, and how many of them reach it."""
    kept, full = np.empty(sales.size), 0
    k = 0
    for i in range(sales.size):
        if levels[i] >= cap:
            value = min(sales[i], cap)
            full += value >= cap
            kept[k] = value
            k += 1
    return kept[:k], full


@njit(cache=True)
def count_sales(sales, cap, top, counts, sums):  # type: ignore[no-untyped-def]
    """Add the sales below `cap` to a histogram over [0, top]; return how many reach `cap`."""
    full, scale = 0, counts.size / top
    for value in sales:
        if value >= cap:
            full += 1
        else:
            bin = min(max(int(value * scale), 0), counts.size - 1)
            counts[bin] += 1
            sums[bin] += value
    return full


def partial_mean(v: Array, t: float) -> float:
    """Return the integral of the empirical quantile function of `v` from 0 to t."""
    m = v.size
    whole = min(int(t * m), m)
    total, following = lower_sum(v, whole)
    return float((total + (t * m - whole) * following) / m) if whole < m else float(total / m)


def upper_quantile(v: Array, u: float) -> float:
    """Return the empirical u-quantile of `v`."""
    rank = min(max(math.ceil(u * v.size) - 1, 0), v.size - 1)
    return float(lower_sum(v, rank)[1])


@dataclass(frozen=True, eq=False)
class Sample:
    """Demand below a cap, every value stored.

    Attributes
    ----------
    v : ndarray of shape (size,)
        min(demand, cap).
    full : float
        Share of the sample at the cap.
    """

    v: Array
    full: float

    @property
    def size(self) -> int:
        """Number of periods."""
        return self.v.size

    def partial_mean(self, t: float) -> float:
        """Return the integral of the quantile function from 0 to t."""
        return partial_mean(self.v, t)

    def quantile(self, u: float) -> float:
        """Return the u-quantile."""
        return upper_quantile(self.v, u)


@dataclass(frozen=True, eq=False)
class BinnedSample:
    """Demand below a cap in a histogram that also keeps every bin's sum.

    A partial mean is exact but for the bin in which it ends: the error is at most the bin's width times the
    bin's share of the sample.
    """

    counts: NDArray[np.int64]
    sums: Array
    at_cap: int
    cap: float
    width: float

    @property
    def size(self) -> int:
        """Number of periods."""
        return int(self.counts.sum()) + self.at_cap

    @property
    def full(self) -> float:
        """Share of the sample at the cap."""
        return self.at_cap / self.size

    def partial_mean(self, t: float) -> float:
        """Return the integral of the quantile function from 0 to t."""
        cumulative, rank = self.counts.cumsum(), t * self.size
        bin = int(np.searchsorted(cumulative, rank, side="right"))
        if bin == self.counts.size:
            return float((self.sums.sum() + (rank - cumulative[-1]) * self.cap) / self.size)
        rest = rank - (cumulative[bin] - self.counts[bin])
        mean = self.sums[bin] / self.counts[bin]
        return float((self.sums[:bin].sum() + rest * mean) / self.size)

    def quantile(self, u: float) -> float:
        """Return the u-quantile, rounded up to the end of its bin."""
        bin = int(np.searchsorted(self.counts.cumsum(), u * self.size, side="left"))
        return min((bin + 1) * self.width, self.cap) if bin < self.counts.size else self.cap


@dataclass(eq=False)
class _Epoch:
    """A long epoch with one target, in bins; periods with more on hand count as censored at the target."""

    cap: float
    n: int
    at_cap: int
    counts: NDArray[np.int64]
    sums: Array


class SalesRecord:
    """Everything seen at one price during one block.

    Parameters
    ----------
    n : int
        Periods of the block.
    top : float
        Upper end of the histograms' range.
    """

    def __init__(self, n: int, top: float) -> None:
        self.top = top
        self.n = 0
        self.sold = 0.0
        self.stocked = 0.0
        self._sales, self._levels = np.empty(min(n, STORED)), np.empty(min(n, STORED))
        self._n_stored = 0
        self._targets: list[float] = []
        self._epochs: list[_Epoch] = []

    def fill(self, target: float, n: int) -> Iterator[tuple[Array, Array]]:
        """Yield arrays for the sales and levels of n periods with one target; each is noted when filled."""
        self._targets.append(target)
        begin, end = self._n_stored, self._n_stored + n
        if end <= self._sales.size:
            yield self._sales[begin:end], self._levels[begin:end]
            self._n_stored = end
            self._add(self._sales[begin:end], self._levels[begin:end])
            return
        epoch = _Epoch(target, 0, 0, np.zeros(_N_BINS, dtype=np.int64), np.zeros(_N_BINS))
        self._epochs.append(epoch)
        sales, levels = np.empty(min(n, CHUNK)), np.empty(min(n, CHUNK))
        while epoch.n < n:
            size = min(n - epoch.n, CHUNK)
            yield sales[:size], levels[:size]
            epoch.n += size
            epoch.at_cap += count_sales(sales[:size], target, self.top, epoch.counts, epoch.sums)
            self._add(sales[:size], levels[:size])

    def _add(self, sales: Array, levels: Array) -> None:
        self.n += sales.size
        self.sold += float(sales.sum())
        self.stocked += float(levels.sum())

    def sample(self, cap: float) -> Sample | BinnedSample:
        """Return the demand below `cap` of all periods that had at least that much on hand."""
        v, full = censored(self._sales[: self._n_stored], self._levels[: self._n_stored], cap)
        if not self._epochs:
            return Sample(v, full / v.size)
        width = self.top / _N_BINS
        counts, sums = np.zeros(_N_BINS, dtype=np.int64), np.zeros(_N_BINS)
        at_cap = int(count_sales(v, cap, self.top, counts, sums))
        last = min(int(cap / width), _N_BINS - 1)
        for epoch in self._epochs:
            if epoch.cap >= cap:
                counts[: last + 1] += epoch.counts[: last + 1]
                sums[: last + 1] += epoch.sums[: last + 1]
                at_cap += epoch.at_cap + int(epoch.counts[last + 1 :].sum())
        return BinnedSample(counts, sums, at_cap, cap, width)

    def typical(self) -> Sample | BinnedSample:
        """Return the sample below the largest cap that at least half of the periods still tell of."""
        if not self._epochs:
            levels = self._levels[: self._n_stored]
            return self.sample(float(lower_sum(levels, levels.size // 2)[1]))
        stored = self._levels[: self._n_stored]
        for cap in sorted(self._targets, reverse=True):
            told = np.count_nonzero(stored >= cap) + sum(e.n for e in self._epochs if e.cap >= cap)
            if 2 * told >= self.n:
                break
        return self.sample(cap)
