"""Differences of the f_i around one point, in chunks; sums with structure answer them faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.optim._directions import Block, CoordinateBlock

if TYPE_CHECKING:
    from mlpapers.optim.finite_sum import FiniteSum

__all__ = ["Known", "Point", "all_rows"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
# Values f_i(x), and which of them are known.
Known = tuple[Array, NDArray[np.bool_]]


# From so many functions on, their values at one point are a batch of their own.
_MANY = 1024


@lru_cache(maxsize=4)
def all_rows(n: int) -> Ints:
    """Return 0, 1, ..., n - 1, which must not be changed: one array, so that it is known by identity."""
    rows = np.arange(n)
    rows.flags.writeable = False
    return rows


class Point:
    """The functions f_i around one point x, evaluated through ``values``.

    Parameters
    ----------
    fun : FiniteSum
    x : ndarray of shape (d,)
    chunk_size : int
        Rows evaluated at once.
    n_jobs : int or None
        Threads among which chunks are shared.
    """

    def __init__(self, fun: FiniteSum, x: Array, chunk_size: int, n_jobs: int | None = None) -> None:
        self.fun, self.x, self.chunk_size, self.n_jobs = fun, x, chunk_size, n_jobs

    @property
    def is_compiled(self) -> bool:
        """Whether :meth:`changes` answers for coordinates."""
        return False

    def changes(
        self, old: Point, idx: Ints, block: CoordinateBlock, step: float, here: Known, there: Known
    ) -> tuple[Array, Array, int, int]:
        """Return forward differences here, per `step`, and how much they exceed those at the point `old`.

        Each of the functions `idx` has as many coordinates of the block as each other, one after another.
        What is not known of their values is filled in; how many these were here and there comes last.
        """
        raise NotImplementedError

    def middle(self, old: Point, idx: Ints) -> Array:
        """Return f_i halfway to the point `old`."""
        point = self.fun._point(0.5 * (self.x + old.x), self.chunk_size, self.n_jobs)
        point.follow([(0.5, self), (0.5, old)])
        return point.base(idx)

    def follow(self, parts: Sequence[tuple[float, Point]]) -> None:
        """Take over what is known at the points of which this one is the mixture: (weight, point)."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""

    def base(self, idx: Ints) -> Array:
        """Return f_i(x) for i in idx."""
        x, values = self.x, self.fun.values

        def part(rows: slice) -> NDArray[Any]:
            some = idx[rows]
            return values(np.broadcast_to(x, (len(some), len(x))), some)

        return self._gather(part, len(idx))

    def complete(self, values: Array, known: NDArray[np.bool_]) -> None:
        """Put f_i(x) in `values` for all i that are not `known`."""
        rest = np.flatnonzero(~known)
        values[rest] = self.base(rest)

    def pairs(self, idx: Ints, block: Block, step: float, base: Array | None) -> Array:
        """Return f_i(x + step u) - f_i(x) for pairs (i, u); with base None f_i(x + step u) - f_i(x - step u).

        `base` holds the values f_i(x) of the pairs.
        """

        def part(rows: slice) -> Array:
            return self._pairs(idx[rows], block.take(rows), step, None if base is None else base[rows])

        return self._gather(part, len(idx))

    def moments(self, block: Block, rows: Ints, step: float, base: Array | None) -> tuple[Array, Array]:
        """Return, for each direction, mean and mean square of the differences over the functions `rows`.

        `base` holds f_i(x) of the rows, or None for central differences.
        """
        mean, square = np.empty(len(block)), np.empty(len(block))
        together = max(1, self.chunk_size // len(rows))
        for some in chunk_slices(len(block), together):
            table = self.table(block.take(some), rows, step, base)
            mean[some] = table.mean(axis=1)
            with np.errstate(over="ignore"):
                square[some] = (table * table).mean(axis=1)
        return mean, square

    def table(self, block: Block, rows: Ints, step: float, base: Array | None) -> Array:
        """Return the differences of every direction (axis 0) and every function in `rows` (axis 1)."""
        if len(rows) >= _MANY:
            directions = (block.take(slice(j, j + 1)) for j in range(len(block)))
            return np.array([self._along(direction, rows, step, base) for direction in directions])
        k = np.repeat(np.arange(len(block)), len(rows))
        idx = np.tile(rows, len(block))
        values = self.pairs(idx, block.take(k), step, None if base is None else np.tile(base, len(block)))
        return values.reshape(len(block), len(rows))

    def _along(self, block: Block, rows: Ints, step: float, base: Array | None) -> Array:
        """Return the differences of one direction and every function in `rows`, which share their points."""

        def values(shift: float) -> Array:
            X = self.x[None].copy()
            block.shift(X, shift)

            def part(some: slice) -> NDArray[Any]:
                # The objective may write into what it is given; `rows` may be the array of all.
                chosen = rows[some].copy()
                return self.fun.values(np.broadcast_to(X, (len(chosen), X.shape[1])), chosen)

            return self._gather(part, len(rows))

        return values(step) - (values(-step) if base is None else base)

    def _pairs(self, idx: Ints, block: Block, step: float, base: Array | None) -> Array:
        X = np.repeat(self.x[None], len(idx), axis=0)
        block.shift(X, step)
        ahead = self.fun.values(X, idx).astype(np.float64)
        if base is not None:
            return ahead - base
        block.shift(X, -2.0 * step)
        return ahead - self.fun.values(X, idx).astype(np.float64)

    def _gather(self, part: Any, m: int) -> Array:
        """Return part(slice) over slices of at most chunk_size, joined in order, as float64."""
        slices = chunk_slices(m, self.chunk_size)
        if len(slices) == 1:
            return np.asarray(part(slices[0]), dtype=np.float64)
        if self.n_jobs in (None, 1) or len(slices) < 2:
            parts = [part(rows) for rows in slices]
        else:
            parts = parallel_map(part, slices, n_jobs=self.n_jobs, prefer="threads")
        return np.concatenate(parts).astype(np.float64, copy=False) if parts else np.zeros(0)
