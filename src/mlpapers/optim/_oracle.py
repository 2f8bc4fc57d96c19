"""The counting oracle: every value of every f_i is charged once, and never beyond the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpapers.core.parallel import chunk_slices
from mlpapers.optim._directions import Block, CoordinateBlock
from mlpapers.optim._points import Known, Point, all_rows
from mlpapers.optim.finite_sum import FiniteSum

__all__ = ["BudgetExhaustedError", "Oracle", "Probe", "all_finite", "distinct", "unseen"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


# How far "auto" differences draw points towards the center at most, as a share of the way; below this power
# of eps they have too few digits.
_DRAWN, _COARSEST = 0.1, 0.75
# From one in so many functions on, marking all is faster than sorting those drawn (n = 2e3 to 1e6, one core).
_DENSE = 300


def distinct(idx: Ints, n: int) -> Ints:
    """Return the different entries of `idx`, all below `n`, in increasing order."""
    if _DENSE * len(idx) < n:
        return _sorted_once(idx)
    seen = np.zeros(n, dtype=bool)
    seen[idx] = True
    return np.flatnonzero(seen)


@njit(cache=True)
def _sorted_once(idx: Ints) -> Ints:
    ordered = np.sort(idx)
    count = min(len(ordered), 1)
    for i in ordered:
        if i != ordered[count - 1]:
            ordered[count] = i
            count += 1
    return ordered[:count]


def unseen(idx: Ints, known: NDArray[np.bool_]) -> Ints:
    """Return the different entries of `idx` that are not marked in `known`, in increasing order."""
    new, ordered = _unseen(idx, known)
    return new if ordered else np.sort(new)


@njit(cache=True)
def _unseen(idx: Ints, known: NDArray[np.bool_]) -> tuple[Ints, bool]:
    new = np.empty(len(idx), dtype=np.int64)
    count, ordered = 0, True
    for i in idx:
        if not known[i]:
            known[i] = True
            ordered = ordered and (count == 0 or new[count - 1] < i)
            new[count] = i
            count += 1
    for i in new[:count]:
        known[i] = False
    return new[:count], ordered


@lru_cache(maxsize=8)
def _relative_radius(dtype: np.dtype[Any] | None, central: bool) -> float:
    eps = float(np.finfo(dtype or np.float64).eps)
    return eps ** (1.0 / 3.0) if central else math.sqrt(eps)


@njit(cache=True)
def all_finite(values: Array) -> bool:
    """Tell whether no entry of a one-dimensional array is infinite or NaN."""
    finite = True
    for value in values:
        finite = finite and bool(np.isfinite(value))
    return finite


class BudgetExhaustedError(Exception):
    """What was asked for costs more than what is left of the budget; nothing was evaluated."""


class Oracle:
    """Counts the queries of a FiniteSum.

    Parameters
    ----------
    fun : FiniteSum
    d : int
    max_queries : int or None
    fd : {"forward", "central"}
    mu : float or "auto"
        Radius of the differences.
    chunk_size : int
    n_jobs : int or None
    on_nan : {"raise", "skip"}
    contraction : (ndarray, float) or None
        Center and inradius r of the feasible set: queries are then made at (1 - a) x + a center + mu u with
        a = mu / r, which never leaves it.
    reach : float
        With a contraction, the largest absolute coordinate of points, by which "auto" is scaled.
    """

    def __init__(
        self,
        fun: FiniteSum,
        d: int,
        *,
        max_queries: int | None,
        fd: str = "forward",
        mu: float | str = "auto",
        chunk_size: int = 65536,
        n_jobs: int | None = None,
        on_nan: str = "raise",
        contraction: tuple[Array, float] | None = None,
        reach: float = 1.0,
    ) -> None:
        self.fun, self.d, self.n = fun, d, fun.n_functions
        self.max_queries, self.fd, self.mu = max_queries, fd, mu
        self.chunk_size, self.n_jobs, self.on_nan = chunk_size, n_jobs, on_nan
        self.contraction, self.reach = contraction, reach
        self.n_queries = 0
        self.n_bad = 0
        #: Finite differences seen, counted where others are dropped.
        self.n_good = 0

    @property
    def remaining(self) -> float:
        """Queries left."""
        return math.inf if self.max_queries is None else self.max_queries - self.n_queries

    @property
    def central(self) -> bool:
        """Whether differences are central."""
        return self.fd == "central"

    @property
    def cost(self) -> int:
        """Queries of one difference where no value is shared."""
        return 2

    def require(self, count: int) -> None:
        """Raise BudgetExhaustedError, which ends the run, where `count` queries cannot be paid."""
        if count > self.remaining:
            raise BudgetExhaustedError

    def charge(self, count: int) -> None:
        """Count `count` queries, or raise BudgetExhaustedError."""
        self.require(count)
        self.n_queries += count

    def at(self, x: Array, parts: Sequence[tuple[float, Point]] = ()) -> Probe:
        """Return the functions around x, which is a mixture of `parts` if there are any."""
        return Probe(self, x, parts)

    def point(self, x: Array) -> Point:
        """Return what evaluates differences around x."""
        return self.fun._point(x, self.chunk_size, self.n_jobs)

    def radius(self, x: Array, probe: Probe) -> float:
        """Return mu for differences at x."""
        if not isinstance(self.mu, str):
            return float(self.mu)
        if self.fun.dtype is None:
            # The precision of the objective is known from its first value only.
            probe.base(np.zeros(1, dtype=np.int64))
        if self.contraction is not None:
            return self._inner_radius()
        return self.radius_of(float(np.maximum.reduce(np.abs(x))))

    def _inner_radius(self) -> float:
        """Return mu that keeps all points inside: one for all, since an old point is asked with a new mu."""
        assert self.contraction is not None
        room = self.contraction[1]
        mu = min(self.radius_of(self.reach), _DRAWN * room)
        eps = float(np.finfo(self.fun.dtype or np.float64).eps)
        if mu < eps**_COARSEST * max(1.0, self.reach):
            raise ValueError(
                f"query_domain must be 'free' for this constraint: the ball around its center has radius "
                f"{room:g}, which leaves differences of {self.fun.dtype} too few digits"
            )
        return mu

    def radius_of(self, size: float) -> float:
        """Return mu at a point whose largest absolute coordinate is `size`."""
        if not isinstance(self.mu, str):
            return float(self.mu)
        return _relative_radius(self.fun.dtype, self.central) * max(1.0, size)


class Probe:
    """The functions around one point, with the values that are known there."""

    def __init__(self, oracle: Oracle, x: Array, parts: Sequence[tuple[float, Point]] = ()) -> None:
        self.oracle, self.x = oracle, x
        self.known: NDArray[np.bool_] | None = None
        self.n_known = 0
        self.values = np.zeros(0)
        self.point = oracle.point(x)
        if parts and oracle.contraction is None:
            self.point.follow(parts)
        self.mu = oracle.radius(x, self)
        if oracle.contraction is not None:
            center, room = oracle.contraction
            share = self.mu / room
            self.point = oracle.point((1.0 - share) * x + share * center)
            self.known, self.n_known = None, 0

    def base(self, idx: Ints) -> Array:
        """Return f_i here; values that are known cost nothing."""
        n = self.oracle.n
        everything = idx is all_rows(n)
        if self.n_known < n and everything:
            self._complete()
        if self.n_known == n:
            return self.values if everything else self.values[idx]
        _, known = self._held()
        wanted = unseen(idx, known)
        if wanted.size:
            self.oracle.charge(len(wanted))
            values = self.point.base(wanted)
            self._check(values, wanted)
            self.values[wanted] = values
            known[wanted] = True
            self.n_known += len(wanted)
        return self.values[idx]

    def _held(self) -> Known:
        if self.known is None:
            self.known, self.values = np.zeros(self.oracle.n, dtype=bool), np.zeros(self.oracle.n)
        return self.values, self.known

    def _complete(self) -> None:
        """Ask all that is not known here."""
        n = self.oracle.n
        self.oracle.charge(n - self.n_known)
        values, known = self._held()
        self.point.complete(values, known)
        self._check(values, all_rows(n))
        known[:] = True
        self.n_known = n

    def middle(self, old: Probe, idx: Ints) -> Array:
        """Return f_i of different functions halfway to the point of `old`; nothing is remembered."""
        oracle = self.oracle
        oracle.charge(len(idx))
        if oracle.contraction is None:
            values = self.point.middle(old.point, idx)
        else:
            values = oracle.at(0.5 * (self.x + old.x)).point.base(idx)
        self._check(values, idx)
        return values

    def unknown(self, idx: Ints) -> int:
        """Return how many of the functions have no known value here."""
        if self.n_known == self.oracle.n:
            return 0
        if idx is all_rows(self.oracle.n):
            return len(idx) - self.n_known
        if self.known is None:
            return len(distinct(idx, self.oracle.n))
        return len(unseen(idx, self.known))

    def differences(self, idx: Ints, block: Block, mu: float | None = None) -> Array:
        """Return D_i(x; u) of the pairs, shape (m,); NaN for a bad pair that is to be skipped."""
        mu = self.mu if mu is None else mu
        if self.oracle.central:
            self.oracle.charge(2 * len(idx))
            out = self.point.pairs(idx, block, mu, None) / (2.0 * mu)
        else:
            base = self.base(idx)
            self.oracle.charge(len(idx))
            out = self.point.pairs(idx, block, mu, base) / mu
        self._check(out, idx)
        if self.oracle.on_nan == "skip":
            self.oracle.n_good += int(np.isfinite(out).sum())
        return out

    def changes(self, old: Probe, drawn: Ints, block: Block) -> tuple[Array, Array]:
        """Return D_i(x; u) of pairs, and how much it exceeds that at the point of `old`, each of shape (m,).

        The directions of the block belong to the functions `drawn`, to each the same number one after
        another. Bad pairs that are to be skipped are NaN.
        """
        oracle, g = self.oracle, len(block) // len(drawn)
        fused = self.point.is_compiled and isinstance(block, CoordinateBlock) and not oracle.central
        if not fused or oracle.on_nan == "skip" or 2 * (len(block) + len(drawn)) > oracle.remaining:
            idx = np.repeat(drawn, g)
            new = self.differences(idx, block)
            return new, new - old.differences(idx, block, self.mu)
        held = (self._held(), old._held())
        new, change, asked, asked_old = self.point.changes(old.point, drawn, block, self.mu, *held)  # type: ignore[arg-type]
        self.n_known, old.n_known = self.n_known + asked, old.n_known + asked_old
        oracle.charge(2 * len(block) + asked + asked_old)
        if not all_finite(change):
            idx = np.repeat(drawn, g)
            self._check(new, idx)
            self._check(change, idx)
        return new, change

    def means(self, block: Block, rows: Ints, mu: float | None = None) -> tuple[Array, Array]:
        """Return mean and mean square over the functions `rows` of D_i(x; u_j), each of shape (l,)."""
        oracle, m = self.oracle, len(rows)
        mu = self.mu if mu is None else mu
        scale = 2.0 * mu if oracle.central else mu
        base = None if oracle.central else self.base(rows)
        oracle.charge((2 if oracle.central else 1) * m * len(block))
        if oracle.on_nan == "skip":
            return self._means_of_good(block, rows, base, mu, scale)
        mean, square = self.point.moments(block, rows, mu, base)
        if not all_finite(mean):
            j = int(np.flatnonzero(~np.isfinite(mean))[0])
            bad = self.point.table(block.take(slice(j, j + 1)), rows, mu, base)[0]
            self._check(bad, rows)
        with np.errstate(over="ignore"):
            return mean / scale, square / scale**2

    def _means_of_good(
        self, block: Block, rows: Ints, base: Array | None, mu: float, scale: float
    ) -> tuple[Array, Array]:
        mean, square = np.empty(len(block)), np.empty(len(block))
        for some in chunk_slices(len(block), max(1, self.oracle.chunk_size // len(rows))):
            table = self.point.table(block.take(some), rows, mu, base) / scale
            good = np.isfinite(table)
            self.oracle.n_bad += int(table.size - good.sum())
            self.oracle.n_good += int(good.sum())
            table = np.where(good, table, 0.0)
            count = np.maximum(good.sum(axis=1), 1)
            mean[some], square[some] = table.sum(axis=1) / count, (table * table).sum(axis=1) / count
        return mean, square

    def _check(self, values: Array, idx: Ints) -> None:
        if all_finite(values):
            return
        bad = ~np.isfinite(values)
        if self.oracle.on_nan == "raise":
            j = int(np.flatnonzero(bad)[0])
            raise FloatingPointError(
                f"the objective is not finite: row {j} of the points asked for, function i = {int(idx[j])}; "
                "options={'on_nan': 'skip'} drops such pairs"
            )
        self.oracle.n_bad += int(bad.sum())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        known = np.zeros(0, dtype=np.int64) if self.known is None else np.flatnonzero(self.known)
        return {
            "x": self.x,
            "known": known,
            "values": self.values[known],
            "mu": self.mu,
            "point": self.point.state(),
        }

    @classmethod
    def restored(cls, oracle: Oracle, state: dict[str, Any]) -> Probe:
        """Return the probe that a checkpoint kept, without asking for its values again."""
        given, oracle.mu = oracle.mu, float(state["mu"])
        try:
            probe = cls(oracle, np.asarray(state["x"], dtype=np.float64))
        finally:
            oracle.mu = given
        probe.point.restore(state["point"])
        known = np.asarray(state["known"], dtype=np.int64)
        if known.size:
            probe.known, probe.values = np.zeros(oracle.n, dtype=bool), np.zeros(oracle.n)
            probe.known[known], probe.n_known = True, known.size
            probe.values[known] = np.asarray(state["values"], dtype=np.float64)
        return probe
