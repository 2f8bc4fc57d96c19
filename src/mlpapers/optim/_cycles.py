"""What to buy next: estimates in cycles, one anew and then increments on it, at the least cost per step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._estimators import Estimator
from mlpapers.optim._increment import Increment
from mlpapers.optim._run import Run

__all__ = ["AutoEstimator"]

Array = NDArray[np.float64]

# Share of the squared gradient mapping that the estimate's squared error may have. Near 1 the noise in the
# mapping feeds itself.
_ACCURACY = 0.5
# Shares of the allowed error that a fresh estimate may use up; the rest is room for increments on it.
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
_LONGEST_CYCLE = 100.0
# Of one function no variance is seen: one too small would never be mended.
_FEWEST = 2
# Batches of fewer pairs, or of a smaller part of all, cost more time than their queries are worth.
_FEWEST_PAIRS, _SMALLEST = 256.0, 64.0
# Share of a variance in the ledger that outlives one estimate.
_KEPT = 0.7
# A descent from a point that others led to begins with one in so many functions.
_ANEW = 8


class AutoEstimator(Estimator):
    """Chooses, for each step, the cheaper of a fresh estimate and an increment that reach the target.

    Attributes
    ----------
    sigma2, delta2 : float
        Variance of the functions' gradients, and of their changes per squared length of a move.
    mapping2, share : float
        Squared gradient mapping of the last step, and the share of coordinates that it moved.
    drawn, is_alike : int, bool
        Functions of the last fresh estimate, and whether all functions were seen to have one gradient.
    sample : int
        Functions of every estimate while a start is on trial, 0 otherwise.
    change, change_error : ndarray of shape (d,), float
        How the gradient changed along the last move, and the mean squared error of that.
    """

    kept = (
        *Estimator.kept,
        "sigma2",
        "delta2",
        "mapping2",
        "share",
        "sample",
        "began_anew",
        "drawn",
        "is_alike",
    )

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.sigma2 = 0.0
        self.delta2 = math.nan
        self.mapping2 = math.nan
        self.share = 1.0
        self.sample = 0
        self.began_anew = False
        self.drawn, self.is_alike = 1, False
        self.change, self.change_error = np.zeros(run.d), math.inf

    @property
    def least_cost(self) -> int:
        return self.start_cost() or self.run.oracle.cost

    def estimate(self) -> Array:
        run, n = self.run, self.run.n
        if self.sample:
            run.oracle.require(self.full_cost(self.sample))
            self._fresh(self.sample)
            self.stage = "trial"
            return self.v
        if self.x_old is None:
            first = run.settings.m0 if not self.began_anew else max(run.settings.m0, n // _ANEW)
            self._fresh(n if run.settings.init == "full" else min(n, first))
            self.x_old = run.x
            return self.v
        assert run.dx is not None
        move = float(run.dx @ run.dx)
        m, pairs = self._plan(_ACCURACY * self.mapping2 / self.share, move)
        if pairs:
            self._increment(pairs, move)
        else:
            before, error = self.v, self.V
            # Near the optimum a step on what the rest of the budget buys would undo many good ones.
            run.oracle.require(self.full_cost(m))
            self._fresh(m)
            self.change, self.change_error = self.v - before, error + self.V
            if move > 0.0:
                seen = float(self.change @ self.change) / move
                if math.isnan(self.delta2):
                    self.delta2 = seen
                else:
                    self.delta2 = max(_KEPT * self.delta2, min(seen, self.delta2))
        self.x_old = run.x
        return self.v

    def forget(self) -> None:
        """Begin anew at another point."""
        self.x_old, self.delta2, self.V = None, math.nan, math.nan
        self.began_anew = True

    def _plan(self, allowed: float, move: float) -> tuple[int, int]:
        r"""Return the functions of a fresh estimate, and the pairs of an increment or 0 for a fresh one.

        A fresh estimate of cost F leaves room R below the allowed squared error. K increments of c queries a
        pair, each of which adds q/b, fill it with b = K q/R pairs; the cycle costs

        .. math:: \frac{F + c K^2 q/R}{K + 1} \quad \text{a step, least near } K = \sqrt{F R/(c q)}.
        """
        run, span = self.run, self.run.directions.span
        each = 2.0 * (1.0 + 1.0 / run.settings.directions_per_sample)
        q = math.inf if math.isnan(self.delta2) else span * self.delta2 * move
        least, best = self._least_pairs(), math.inf
        m, pairs = run.n, 0.0
        for share in _SHARES:
            functions = self._functions(share * allowed)
            fresh = float(self.full_cost(functions))
            room = allowed - self._sampling_error(functions)
            cost, b = fresh, 0.0
            if each * q < fresh * room:
                K = max(min(math.sqrt(fresh * room / max(each * q, 1e-300)), _LONGEST_CYCLE), 1.0)
                if each * max(K * q, least * room) < fresh * room:
                    b = max(K * q / room, least)
                    K = max(min(K, room * b / max(q, 1e-300)), 1.0)
                    cost = (fresh + K * each * b) / (K + 1.0)
            if cost < best:
                best, m, pairs = cost, functions, b
        if pairs and self.V + q / pairs <= allowed:
            return m, math.ceil(pairs)
        return m, 0

    def _functions(self, error: float) -> int:
        """Return how many functions, drawn without replacement, leave at most a squared error."""
        n = self.run.n
        if not self.sigma2 > 0.0:
            return min(n, _FEWEST if self.is_alike else 2 * self.drawn)
        return min(n, max(_FEWEST, math.ceil(self.sigma2 / (error + self.sigma2 / n))))

    def _sampling_error(self, m: int) -> float:
        return self.sigma2 * max(1.0 / m - 1.0 / self.run.n, 0.0)

    def _least_pairs(self) -> float:
        """Return the smallest batch worth a step."""
        whole = float(self.run.n * self.run.directions.span)
        return max(self.run.directions.span, whole / _SMALLEST, min(whole, _FEWEST_PAIRS))

    def _fresh(self, m: int) -> None:
        run = self.run
        m = self.affordable(m)
        self.v, variance = run.full(run.probe(run.x), m)
        if not math.isnan(variance):
            # A sample may miss the few functions that matter: what was known of them is forgotten by degrees.
            self.sigma2 = variance if m == run.n else max(variance, _KEPT * self.sigma2)
        # Only all functions can prove that they are alike; of some, all may be where they are flat.
        self.is_alike = self.sigma2 == 0.0 and (m == run.n or self.is_alike)
        self.drawn = m
        self.V = self._sampling_error(m)
        self.rho, self.batch, self.stage = 1.0, m, "fresh"

    def _increment(self, pairs: int, move: float) -> None:
        run, span = self.run, self.run.directions.span
        increment = Increment(run, self.x_old, pairs)  # type: ignore[arg-type]
        size = max(increment.size, 1)
        self.change, self.change_error = increment.change, increment.noise * span / size
        self.V += self.change_error
        if move > 0.0:
            self.delta2 = _KEPT * self.delta2 + (1.0 - _KEPT) * increment.noise / move
        self.v = self.v + increment.change
        # A batch in which all functions happen to be flat does not prove that the others are.
        if increment.size:
            self.sigma2 = _KEPT * self.sigma2 + (1.0 - _KEPT) * increment.noise_here
        R = span * max(increment.noise_here, self.sigma2) / size
        if self.V + R > 0.0:
            k = self.V / (self.V + R)
            self.v = self.v + k * (increment.here - self.v)
            self.V = k * R
        self.rho, self.batch, self.stage = 0.0, increment.size, "increment"
