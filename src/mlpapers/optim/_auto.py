"""The regime-free method: a variance ledger for steps of conditional gradient sliding.

A Frank-Wolfe step can use a gradient only as far as its own curvature term; a sliding step, which spends
linear minimisations instead of queries, uses all of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._cycles import AutoEstimator
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._metric import Metric
from mlpapers.optim._run import Run
from mlpapers.optim._sliding import LARGEST_MATRIX, proximal_step, takes_matrix
from mlpapers.optim._starts import Starts
from mlpapers.optim._steps import Step

__all__ = ["AutoStep"]

Array = NDArray[np.float64]

# How many times as long as the last move a step of the matrix model may be.
_REACH = 1.5
# By how much L may grow at once; how often in the first step, from a tenth of the diameter to 1e-10 of it.
_GROWTH, _BACKTRACKS = 4.0, 16


class AutoStep(Step):
    """Accelerated sliding: u = argmin <v, u> + L/2 |u - z|^2 over C, then z a little beyond u.

    The first L is found by backtracking on the functions of the first estimate, later ones are the largest
    recent curvature along the moves. Over sets whose vertices or edges are coordinates, a matrix learned from
    the moves takes its place, and z is u. Elsewhere the extrapolation is that of FISTA, restarted where it
    runs against the model's step, never more than the least curvature l along the moves allows,
    (1 - sqrt(l/L))/(1 + sqrt(l/L)), and cut back to C: no point outside is ever a center of queries.
    """

    kept = ("L", "v_old", "u", "theta", "least", "corners")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        assert isinstance(estimator, AutoEstimator)
        self.parent = estimator
        self.starts = Starts(run)
        self.has_matrix = run.d <= LARGEST_MATRIX and takes_matrix(run.constraint)
        self.aside: dict[str, Any] | None = None
        self.L = math.nan
        self._begin(run.x)

    def _begin(self, x: Array) -> None:
        self.run.x = self.u = x
        self.theta = 1.0
        self.least = math.inf
        self.v_old: Array | None = None
        self.corners: Array | None = None
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
        model = self.L if B is None else B
        u, used, gap, self.corners = proximal_step(
            self.run.constraint, z, v, model, tolerance=1e-4, corners=self.corners
        )
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
            self.L *= _GROWTH
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
        # Momentum wants one model for all steps; a matrix that is still being learned makes it unstable.
        if self.has_matrix:
            return u
        along = u - self.u
        if float((z - u) @ along) > 0.0 or self.run.t < 2:
            self.theta = 1.0
        after = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * self.theta**2))
        # Where f is known to bend at least so much, more momentum than this overshoots.
        root = math.sqrt(min(self.least / self.L, 1.0)) if self.L > 0.0 else 0.0
        momentum = min((self.theta - 1.0) / after, (1.0 - root) / (1.0 + root))
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
            # An estimate that is far off looks like curvature; steps shortened by it would look so even more.
            is_known = run.t > 1 and self.L > 0.0
            self.L = min(max(0.9 * self.L, seen), _GROWTH * self.L) if is_known else seen
            self.least = min(self.least, seen)
            if self.metric is not None:
                self.metric.learn(
                    run.dx, self.parent.change, self.parent.change_error, self.L, bent=self.starts.is_open
                )
