"""The regime-free method: a variance ledger for steps of conditional gradient sliding.

A Frank-Wolfe step can use a gradient only as far as its own curvature term; a sliding step, which spends
linear minimisations instead of queries, uses all of it. Each estimate is bought where it is cheapest: anew on
m functions, or as an increment on the last one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._dvr import Increment
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._run import Run
from mlpapers.optim._sliding import proximal_step
from mlpapers.optim._steps import Step

__all__ = ["AutoEstimator", "AutoStep"]

Array = NDArray[np.float64]

# Share of the squared gradient mapping that the estimate's squared error may have.
_ACCURACY = 0.5
# An increment may use this share of the room that is left below the target.
_ROOM = 0.9


class AutoEstimator(Estimator):
    """Chooses, for each step, the cheaper of a fresh estimate and an increment that reach the target."""

    kept = (*Estimator.kept, "sigma2", "delta2", "mapping2", "share")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.sigma2 = 0.0
        self.delta2 = math.nan
        self.mapping2 = math.nan
        self.share = 1.0

    @property
    def least_cost(self) -> int:
        return self.start_cost() or self.run.oracle.cost

    def estimate(self) -> Array:
        run, n = self.run, self.run.n
        if self.x_old is None:
            m = n if run.settings.init == "full" else min(n, run.settings.m0)
            self._fresh(m)
            self.x_old = run.x
            return self.v
        eta2 = max(_ACCURACY * self.mapping2 / self.share, np.finfo(float).tiny)
        wanted = self.sigma2 / (eta2 + self.sigma2 / n) if self.sigma2 > 0.0 else 1.0
        fresh = max(wanted, 1.0) * (run.directions.span + 1)
        room = _ROOM * (eta2 - self.V)
        assert run.dx is not None
        move = float(run.dx @ run.dx)
        pairs = math.inf
        if room > 0.0 and not math.isnan(self.delta2):
            pairs = max(run.directions.span * self.delta2 * move / room, self._least_pairs())
        g = run.settings.directions_per_sample
        if 2.0 * (1.0 + 1.0 / g) * pairs < fresh:
            self._increment(math.ceil(pairs), move)
        else:
            before = self.v
            self._fresh(min(n, max(1, math.ceil(wanted))))
            if move > 0.0:
                change = self.v - before
                seen = float(change @ change) / move
                if math.isnan(self.delta2):
                    self.delta2 = seen
                else:
                    self.delta2 = max(0.7 * self.delta2, min(seen, self.delta2))
        self.x_old = run.x
        return self.v

    def _least_pairs(self) -> float:
        """Return the smallest batch worth a step: some of a pass, and of what was spent already."""
        run = self.run
        whole = float(run.n * run.directions.span)
        return max(run.directions.span, whole / 64.0, min(whole, 256.0), run.oracle.n_queries / 500.0)

    def _fresh(self, m: int) -> None:
        run = self.run
        cost = self.full_cost(m)
        if cost > run.oracle.remaining:
            if self.x_old is not None:
                # Near the optimum a step on what the rest of the budget buys would undo many good ones.
                run.oracle.charge(cost)
            m, run.shrunk = max(1, int(run.oracle.remaining * m // cost)), True
        self.v, variance = run.full(run.probe(run.x), m)
        if not math.isnan(variance):
            self.sigma2 = variance
        self.V = self.sigma2 * max(1.0 / m - 1.0 / run.n, 0.0)
        self.rho, self.batch, self.stage = 1.0, m, "fresh"

    def _increment(self, pairs: int, move: float) -> None:
        run, span = self.run, self.run.directions.span
        increment = Increment(run, self.x_old, pairs)  # type: ignore[arg-type]
        size = max(increment.size, 1)
        self.V += increment.noise * span / size
        if move > 0.0:
            self.delta2 = 0.7 * self.delta2 + 0.3 * increment.noise / move
        self.v = self.v + increment.change
        R = span * increment.noise_here / size
        if self.V + R > 0.0:
            k = self.V / (self.V + R)
            self.v = self.v + k * (increment.here - self.v)
            self.V = k * R
        self.rho, self.batch, self.stage = 0.0, increment.size, "increment"


class AutoStep(Step):
    """Accelerated sliding: u = argmin <v, u> + L/2 |u - z|^2 over C, then z a little beyond u.

    L is the largest recent curvature along the moves. The extrapolation is that of FISTA, restarted where it
    runs against the model's step, and cut back to C: no point outside is ever a center of queries.
    """

    kept = ("L", "v_old", "u", "theta")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        self.L = math.nan
        self.v_old: Array | None = None
        self.u = run.x
        self.theta = 1.0

    def advance(self, v: Array) -> None:
        run, estimator = self.run, self.estimator
        self._learn(v)
        z = run.x
        u, used, gap = proximal_step(run.constraint, z, v, self.L, tolerance=1e-4)
        run.n_lmo += used
        run.gap = gap
        if run.t == 0:
            run.first_gap = gap
        move = u - z
        size = float(np.linalg.norm(move))
        run.distance, run.gamma = size, 1.0
        assert isinstance(estimator, AutoEstimator)
        estimator.mapping2 = (self.L * size) ** 2
        moved = np.abs(move) > 1e-3 * np.abs(move).max(initial=0.0)
        estimator.share = max(float(moved.mean()), 1.0 / run.d)
        run.x = self._extrapolate(z, u)
        run.dx = run.x - z
        self.u, self.v_old = u, v.copy()

    def point(self) -> Array:
        return self.u

    def _extrapolate(self, z: Array, u: Array) -> Array:
        along = u - self.u
        if float((z - u) @ along) > 0.0 or self.run.t < 2:
            self.theta = 1.0
        after = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * self.theta**2))
        momentum = (self.theta - 1.0) / after
        self.theta = after
        for _ in range(4):
            if momentum == 0.0:
                break
            beyond = u + momentum * along
            if self.run.constraint.contains(beyond, 1e-12):
                return beyond
            momentum *= 0.5
        return u

    def _learn(self, v: Array) -> None:
        run = self.run
        if run.dx is None or self.v_old is None:
            self.L = float(np.linalg.norm(v)) / max(0.1 * run.D, 1e-300) or 1.0
            return
        size = float(run.dx @ run.dx)
        if size > 0.0:
            seen = abs(float((v - self.v_old) @ run.dx)) / size
            self.L = max(0.9 * self.L, seen) if run.t > 1 else seen
