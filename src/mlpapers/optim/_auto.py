"""The regime-free method: a variance ledger for steps of conditional gradient sliding.

A Frank-Wolfe step can use a gradient only as far as its own curvature term; a sliding step, which spends
linear minimisations instead of queries, uses all of it. Estimates are bought in cycles, one anew and then
increments on it, at the least cost per step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._dvr import Increment
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._metric import Metric
from mlpapers.optim._run import Run
from mlpapers.optim._sliding import proximal_step, takes_matrix
from mlpapers.optim._starts import Starts
from mlpapers.optim._steps import Step

__all__ = ["AutoEstimator", "AutoStep"]

Array = NDArray[np.float64]

# Share of the squared gradient mapping that the estimate's squared error may have. Near 1 the noise in the
# mapping feeds itself.
_ACCURACY = 0.5
# Shares of the allowed error that a fresh estimate may use up; the rest is room for increments on it.
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
_LONGEST_CYCLE = 100.0
# A descent from a point that others led to begins with one in so many functions.
_ANEW = 8
# How many times as long as the last move a step of the matrix model may be.
_REACH = 1.5
# Above, the eigenvectors of a step's matrix take longer than most objectives.
_LARGEST_MATRIX = 256
# From a tenth of the diameter down to 1e-10 of it.
_BACKTRACKS = 16


class AutoEstimator(Estimator):
    """Chooses, for each step, the cheaper of a fresh estimate and an increment that reach the target.

    Attributes
    ----------
    mapping2, share : float
        Squared gradient mapping of the last step, and the share of coordinates that it moved.
    sample : int
        Functions of every estimate while a start is on trial, 0 otherwise.
    change, change_error : ndarray of shape (d,), float
        How the gradient changed along the last move, and the mean squared error of that.
    """

    kept = (*Estimator.kept, "sigma2", "delta2", "mapping2", "share", "sample", "began_anew")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.sigma2 = 0.0
        self.delta2 = math.nan
        self.mapping2 = math.nan
        self.share = 1.0
        self.sample = 0
        self.began_anew = False
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
                    self.delta2 = max(0.7 * self.delta2, min(seen, self.delta2))
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
            return 1
        return min(n, max(1, math.ceil(self.sigma2 / (error + self.sigma2 / n))))

    def _sampling_error(self, m: int) -> float:
        return self.sigma2 * max(1.0 / m - 1.0 / self.run.n, 0.0)

    def _least_pairs(self) -> float:
        """Return the smallest batch worth a step."""
        whole = float(self.run.n * self.run.directions.span)
        return max(self.run.directions.span, whole / 64.0, min(whole, 256.0))

    def _fresh(self, m: int) -> None:
        run = self.run
        cost = self.full_cost(m)
        if cost > run.oracle.remaining:
            m, run.shrunk = max(1, int(run.oracle.remaining * m // cost)), True
        self.v, variance = run.full(run.probe(run.x), m)
        if not math.isnan(variance):
            self.sigma2 = variance
        self.V = self._sampling_error(m)
        self.rho, self.batch, self.stage = 1.0, m, "fresh"

    def _increment(self, pairs: int, move: float) -> None:
        run, span = self.run, self.run.directions.span
        increment = Increment(run, self.x_old, pairs)  # type: ignore[arg-type]
        size = max(increment.size, 1)
        self.change, self.change_error = increment.change, increment.noise * span / size
        self.V += self.change_error
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

    The first L is found by backtracking on the functions of the first estimate, later ones are the largest
    recent curvature along the moves. Over sets whose vertices or edges are coordinates, a matrix learned from
    the moves takes its place. The extrapolation is that of FISTA, restarted where it runs against the model's
    step, and cut back to C: no point outside is ever a center of queries.
    """

    kept = ("L", "v_old", "u", "theta")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        assert isinstance(estimator, AutoEstimator)
        self.parent = estimator
        self.starts = Starts(run)
        self.has_matrix = run.d <= _LARGEST_MATRIX and takes_matrix(run.constraint)
        self.aside: dict[str, Any] | None = None
        self.L = math.nan
        self._begin(run.x)

    def _begin(self, x: Array) -> None:
        self.run.x = self.u = x
        self.theta = 1.0
        self.v_old: Array | None = None
        self.metric = Metric(self.run.d) if self.has_matrix else None

    def advance(self, v: Array) -> None:
        run = self.run
        if self.starts.phase == "trial":
            self._try(v)
            return
        z = run.x
        if self.v_old is None:
            u, gap = self._first(z, v)
        else:
            self._learn(v)
            u, gap = self._slide(z, v)
        run.gap = gap
        if run.t == 0:
            run.first_gap = gap
        move = u - z
        run.distance, run.gamma = float(np.linalg.norm(move)), 1.0
        self.parent.mapping2 = float(np.sum(self._model(move) ** 2))
        moved = np.abs(move) > 1e-3 * np.abs(move).max(initial=0.0)
        self.parent.share = max(float(moved.mean()), 1.0 / run.d)
        run.x = self._extrapolate(z, u)
        run.dx = run.x - z
        self.u, self.v_old = u, v.copy()
        self._explore(z)

    def _model(self, move: Array) -> Array:
        """Return the model's change of the gradient along a move."""
        B = None if self.metric is None else self.metric.B
        return self.L * move if B is None else B @ move

    @property
    def is_exploring(self) -> bool:
        return self.starts.is_trying

    def _explore(self, z: Array) -> None:
        """Where the function is not convex, try other starts now and then."""
        starts = self.starts
        starts.look(z)
        if not starts.is_due():
            return
        if starts.phase == "probation":
            if starts.judge(self.u):
                self.aside = None
            else:
                self._return()
            return
        run = self.run
        z, dx = run.x, run.dx
        run.x = starts.begin(self.u)
        self.aside = (
            None
            if starts.has_climbed
            else {
                "step": self._own_state(),
                "estimator": self.parent.state(),
                "run": {"x": z, "dx": dx, "gamma": run.gamma, "distance": run.distance},
            }
        )
        self.parent.sample = starts.sample

    def _try(self, v: Array) -> None:
        """One Frank-Wolfe step of a trial, and what follows from its end."""
        run, starts = self.run, self.starts
        gamma = starts.step(v)
        self._towards(run.lmo(starts.mean), gamma, v)
        chosen = starts.arrive(run.x)
        if starts.phase == "trial":
            assert chosen is not None
            run.x = chosen
            return
        self.parent.sample = 0
        if chosen is None:
            self._return()
            return
        if starts.phase == "descent":
            self.aside = None
        self.parent.forget()
        self._begin(chosen)

    def _return(self) -> None:
        """Go on with the descent that was set aside, or anew from the best point."""
        run = self.run
        if self.aside is None:
            assert self.starts.winner is not None
            self.parent.forget()
            self._begin(self.starts.winner)
            return
        for name, value in self.aside["run"].items():
            setattr(run, name, value)
        # Which values are still known must not depend on a checkpoint in between.
        run._probes.clear()
        self.parent.restore(self.aside["estimator"])
        self._restore_own(self.aside["step"])
        self.aside = None

    def _slide(self, z: Array, v: Array) -> tuple[Array, float]:
        B = None if self.metric is None else self.metric.B
        u, used, gap = proximal_step(self.run.constraint, z, v, self.L if B is None else B, tolerance=1e-4)
        self.run.n_lmo += used
        if B is not None and self.run.dx is not None:
            # What the moves taught about the curvature does not reach much farther than they did.
            size = float(np.linalg.norm(u - z))
            reach = _REACH * float(np.linalg.norm(self.run.dx))
            if size > reach:
                u = z + (reach / size) * (u - z)
        return u, gap

    def _first(self, z: Array, v: Array) -> tuple[Array, float]:
        """Return the first step: a tenth of the diameter, shortened until the model bounds the sample."""
        run = self.run
        longest = float(np.linalg.norm(v)) / max(0.1 * run.D, 1e-300) or 1.0
        # A descent that begins later knows the curvature, and must not leave the valley that it is in.
        self.L = longest if math.isnan(self.L) else max(longest, self.L)
        rows, probe = run.last_rows, run.probe(z)
        for _ in range(_BACKTRACKS):
            u, gap = self._slide(z, v)
            move = u - z
            cost = len(rows) + probe.unknown(rows)
            if gap == 0.0:
                break
            if cost > run.oracle.remaining:
                run.shrunk = True
                break
            change = float(np.mean(run.oracle.at(u).base(rows) - probe.base(rows)))
            # Rounding may hide what a tiny step changes; NaN is for the next estimate to report.
            if not change > float(v @ move) + 0.5 * self.L * float(move @ move) + 1e-12 * abs(change):
                break
            self.L *= 4.0
        return u, gap

    def point(self) -> Array:
        return self.starts.best(self.u)

    def _own_state(self) -> dict[str, Any]:
        return {**super().state(), "metric": None if self.metric is None else self.metric.state()}

    def _restore_own(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if self.metric is not None:
            self.metric.restore(state["metric"])

    def state(self) -> dict[str, Any]:
        return {**self._own_state(), "starts": self.starts.state(), "aside": self.aside}

    def restore(self, state: dict[str, Any]) -> None:
        self._restore_own(state)
        self.starts.restore(state["starts"])
        self.aside = state["aside"]

    def _extrapolate(self, z: Array, u: Array) -> Array:
        along = u - self.u
        if float(self._model(z - u) @ along) > 0.0 or self.run.t < 2:
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
        assert run.dx is not None
        assert self.v_old is not None
        size = float(run.dx @ run.dx)
        if size > 0.0:
            seen = abs(float((v - self.v_old) @ run.dx)) / size
            self.L = max(0.9 * self.L, seen) if run.t > 1 else seen
            if self.metric is not None:
                self.metric.learn(
                    run.dx, self.parent.change, self.parent.change_error, self.L, bent=self.starts.is_open
                )
