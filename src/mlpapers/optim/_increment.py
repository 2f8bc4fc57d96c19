"""What a batch of pairs of a function and a direction says about two points."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpapers.optim._directions import Block, CoordinateBlock, FrameBlock
from mlpapers.optim._oracle import all_finite, distinct
from mlpapers.optim._run import Run

__all__ = ["Increment"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Pairs, and numbers of their directions, in memory at the same time; what they say is summed up.
_PAIRS, _NUMBERS = 2**16, 2**23


class Increment:
    """What one batch of pairs said: the change of the gradient, and what comes free with it.

    Parameters
    ----------
    run : Run
    x_old : ndarray of shape (d,)
    b : int
        Pairs wanted.
    v : ndarray of shape (d,), optional
        A gradient estimate, around which `variance` is taken; without one, or with random directions, it
        contains how much the components of the gradient differ.

    Attributes
    ----------
    change : ndarray of shape (d,)
        Unbiased estimate of grad f(x) - grad f(x_old).
    size : int
        Pairs used.
    rows : ndarray of int
        The different functions drawn, in increasing order.
    """

    def __init__(self, run: Run, x_old: Array, b: int, v: Array | None = None) -> None:
        g = run.settings.directions_per_sample
        m = max(1, -(-b // g))
        limit = run.oracle.remaining
        # A batch that the budget cannot pay is cut to what it can: all base values may be new.
        per_function = 4 * g if run.oracle.central else 2 * (1 + g)
        if m * per_function > limit:
            m, run.shrunk = int(limit // per_function), True
            if m == 0:
                run.oracle.require(per_function)
        self._run, self._v = run, v
        self._is_random = run.directions.is_random
        span = 0 if self._is_random else run.directions.span
        self.size, self.rows = 0, np.arange(0)
        self._square = self._off = self._sum = 0.0
        self._counts, self._changes = np.zeros(span), np.zeros(span)
        self._sums, self._reference = np.zeros(span), np.zeros(span)
        self._change, self._here = np.zeros(run.d), np.zeros(run.d)
        probe, old = run.probe(run.x), run.probe(x_old)
        together = max(1, (_PAIRS if self._is_coordinate else min(_PAIRS, _NUMBERS // run.d)) // g)
        for block in run.directions.stream(m * g, together * g):
            drawn = run.draw_functions(len(block) // g)
            new, change = probe.changes(old, drawn, block)
            rows = distinct(drawn, run.n)
            self.rows = rows if not self.rows.size else np.union1d(self.rows, rows)
            self._take(block, new, change)
        scale = run.directions.scale / max(self.size, 1)
        if self._is_coordinate:
            self._change = self._changes.copy()
        self.change = scale * self._change

    @property
    def _is_coordinate(self) -> bool:
        return not self._is_random and self._run.directions.frame is None

    def _take(self, block: Block, new: Array, change: Array) -> None:
        if not all_finite(change):
            good = np.isfinite(change)
            new, change, block = new[good], change[good], block.take(good)
        self.size += len(change)
        if isinstance(block, CoordinateBlock | FrameBlock):
            known = np.zeros(0) if self._v is None else block.dots(self._v)
            totals = (self._counts, self._sums, self._changes, self._reference)
            square, around, total = _tally(block.k, new, known, change, *totals)
        else:
            square, around, total = float(change @ change), float(new @ new), float(new.sum())
            block.add(self._here, new)
        if not self._is_coordinate:
            block.add(self._change, change)
        self._square += square
        self._off += around
        self._sum += total

    @cached_property
    def spread(self) -> float:
        """Estimate of (1/n) sum |grad f_i(x) - grad f_i(x_old)|^2."""
        return self._mean(self._square)

    @cached_property
    def variance(self) -> float:
        """Estimate of (1/n) sum |grad f_i(x) - grad f(x)|^2."""
        if self._v is not None and not self._is_random:
            return self._mean(self._off)
        return self._mean(max(self._off - self._sum**2 / max(self.size, 1), 0.0))

    @cached_property
    def noise(self) -> float:
        """The spread without what differs between directions, which stratified pairs do not suffer from."""
        return self._within(self._square, self._changes)

    @cached_property
    def noise_here(self) -> float:
        """The variance without what differs between directions."""
        return self._within(self._off, self._sums)

    @cached_property
    def here(self) -> Array:
        """Estimate of grad f(x) from the same pairs."""
        directions = self._run.directions
        if self._is_random:
            return (directions.scale / max(self.size, 1)) * self._here
        seen = self._counts > 0.0
        means = np.divide(self._sums, self._counts, out=np.zeros(len(seen)), where=seen) + self._reference
        here = np.zeros(self._run.d)
        directions.everything().add(here, means)
        return here

    def _mean(self, total: float) -> float:
        return self._run.directions.scale * (total / self.size) if self.size else 0.0

    def _within(self, total: float, sums: Array) -> float:
        """Return the scaled variance around the means of the directions; around 0 where they are too few."""
        span = self._run.directions.span
        if self._is_random or 2 * span > self.size:
            return self._mean(total)
        between = float(np.sum(sums * sums / np.maximum(self._counts, 1.0)))
        return self._run.directions.scale * (max(total - between, 0.0) / (self.size - span))


@njit(cache=True)
def _tally(
    k: Ints,
    new: Array,
    known: Array,
    change: Array,
    counts: Array,
    sums: Array,
    changes: Array,
    reference: Array,
) -> tuple[float, float, float]:
    """Add the pairs to the sums of their directions, those of `new` as what they exceed `known` by.

    Return the sums of squares of `change` and of that excess, and the sum of the excess.
    """
    square, around, total = 0.0, 0.0, 0.0
    for j in range(len(k)):
        off = new[j] - known[j] if len(known) else new[j]
        reference[k[j]] = new[j] - off
        counts[k[j]] += 1.0
        sums[k[j]] += off
        changes[k[j]] += change[j]
        square += change[j] * change[j]
        around += off * off
        total += off
    return square, around, total
