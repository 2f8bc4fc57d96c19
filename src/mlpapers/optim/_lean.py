r"""Steps whose cost does not depend on d: what the fixed schedule does, on the coordinates that it touches.

Over an L1 ball or a simplex a step adds one coordinate, :math:`x \leftarrow (1 - \gamma) x + \gamma s e_k`.
With x held as a scale times y it changes one number; the estimate v changes at the b + l coordinates that
were asked for; tournaments over the sizes of v and y answer the linear minimisation and the radius of the
differences; and sums with structure follow the moves. Left is each sweep's permutation, O(d) once in d
directions.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._dvr import FixedDVR
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._run import Run
from mlpapers.optim._steps import Step
from mlpapers.optim._tournament import Tournament
from mlpapers.optim.constraints.balls import L1Ball
from mlpapers.optim.constraints.simplices import Simplex

__all__ = ["LeanDVR", "LeanStep", "LeanSum", "ScaledPoint", "is_lean"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Below this scale y is multiplied out again, long before it overflows.
_LEAST_SCALE = 1e-100
# Vertices are told while they are at most this many.
_ACTIVE = 512


class ScaledPoint:
    """x = scale * y, which moves towards a multiple of a coordinate vector by changing two numbers.

    Attributes
    ----------
    y : ndarray of shape (d,)
    scale : float
    k, added : int, float
        The coordinate of y that the last move changed, and by how much.
    before : float
        The scale before the last move.
    """

    def __init__(self, x: Array) -> None:
        self.y = x.copy()
        self.scale = self.before = 1.0
        self.k, self.added = 0, 0.0
        self.tops = Tournament(np.abs(self.y))
        self.square = float(x @ x)

    @property
    def size(self) -> float:
        """Largest absolute coordinate of x."""
        return self.scale * float(self.tops.keys[self.tops.winner])

    def blend(self, k: int, s: float, gamma: float) -> float:
        """Move to (1 - gamma) x + gamma s e_k; return the factor by which y was multiplied out, mostly 1."""
        factor = 1.0
        self.before = self.scale
        self.scale *= 1.0 - gamma
        if self.scale < _LEAST_SCALE:
            factor = self.before
            self.y *= factor
            self.tops = Tournament(np.abs(self.y))
            self.square *= factor * factor
            self.before, self.scale = 1.0, 1.0 - gamma
        self.k, self.added = k, gamma * s / self.scale
        self.square += self.added * (2.0 * float(self.y[k]) + self.added)
        self.y[k] += self.added
        self.tops.change(np.array([k]), np.abs(self.y[k : k + 1]))
        return factor

    def at(self, k: Ints, *, old: bool) -> Array:
        """Return coordinates `k` of x, or of x before the last move."""
        if not old:
            return self.scale * self.y[k]
        return self.before * (self.y[k] - np.where(k == self.k, self.added, 0.0))

    def dense(self) -> Array:
        """Return x."""
        return self.scale * self.y


class LeanSum(Protocol):
    """A sum that follows a :class:`ScaledPoint` and answers differences along coordinates at it."""

    def follow(self, factor: float) -> None:
        """Take in the point's last move; y was multiplied by `factor` before it."""

    def differences(self, idx: Ints, k: Ints, mu: float, *, old: bool) -> Array:
        """Return f_i(x + mu e_k) - f_i(x) of the pairs, at the point or at that before its last move."""

    def mean_difference(self, k: int, rows: Ints, mu: float) -> float:
        """Return the mean over `rows` of f_i(x + mu e_k) - f_i(x)."""


def is_lean(run: Run, given: dict[str, Any]) -> bool:
    """Tell whether the run is of the kind that this module makes cheap, and nothing looks at whole points."""
    s = run.settings
    sized = None not in (s.batch_size, s.n_directions, s.refresh_prob) or s.constant_rate
    plain = (
        s.method == "dvr" and s.schedule == "fixed" and s.memory == "project" and s.directions == "coordinate"
    )
    watched = any(given[name] is not None for name in ("tol", "target_fun", "checkpoint", "resume"))
    oracle = run.oracle
    simple = oracle.contraction is None and not oracle.central and oracle.on_nan == "raise"
    return (
        plain
        and sized
        and simple
        and not watched
        and given["return_"] == "last"
        and s.directions_per_sample == 1
        and (isinstance(s.step, float) or s.step in ("open-loop", "constant"))
        and run.open_loop(0) < 1.0
        and isinstance(run.constraint, L1Ball | Simplex)
        and FixedDVR(run)._plan()[0] < 1.0
        and oracle.fun._follows
    )


class LeanDVR(FixedDVR):
    """The fixed schedule on touched coordinates.

    Attributes
    ----------
    point : ScaledPoint
    along : float
        <v, y>, kept up to date.
    touched : int
        Coordinates and functions handled since the start, the measure of what the steps cost.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.touched = 0
        self.point = ScaledPoint(run.x)
        self.signed = isinstance(run.constraint, L1Ball)
        self.sum: LeanSum = run.oracle.fun._lean(self.point)
        # Values known at the last two points, by the number of the step in which they became known.
        self.known = np.full((2, run.n), -1)

    def estimate(self) -> Array:
        run, s = self.run, self.run.settings
        if self.x_old is None:
            v = super().estimate()
            self.race = Tournament(self._keys(np.arange(run.d)))
            self.along = float(v @ self.point.y)
            if s.init != "zero":
                self.known[0, run.last_rows] = 0
            return v
        rho, b, l = self._plan()
        self.mu = run.oracle.radius_of(self.point.size)
        self._increment(b)
        count = self._refreshes(rho, l)
        if count:
            count = self._refresh(count)
        self.rho, self.stage = rho, "refresh" if count else "increment"
        return self.v

    def _keys(self, k: Ints) -> Array:
        return np.abs(self.v[k]) if self.signed else -self.v[k]

    def _charge_bases(self, idx: Ints, t: int) -> None:
        distinct = np.unique(idx)
        new = distinct[self.known[t % 2, distinct] != t]
        self.run.oracle.charge(len(new))
        self.known[t % 2, new] = t

    def _increment(self, b: int) -> None:
        run = self.run
        if 4 * b > run.oracle.remaining:
            b, run.shrunk = int(run.oracle.remaining // 4), True
            if b == 0:
                run.oracle.require(4)
        idx, k = run.draw_functions(b), run.directions.pairs(b).k  # type: ignore[attr-defined]
        change = np.zeros(b)
        for old, sign in ((False, 1.0), (True, -1.0)):
            self._charge_bases(idx, run.t - old)
            run.oracle.charge(b)
            change += sign * self._checked(self.sum.differences(idx, k, self.mu, old=old), idx)
        where, which = np.unique(k, return_inverse=True)
        self._add(
            where, np.bincount(which, change * (run.directions.scale / (b * self.mu))).astype(np.float64)
        )
        self.batch = b
        self.touched += 2 * b

    def _refresh(self, l: int) -> int:
        """Replace the next l components by exact ones; return how many the budget paid."""
        run = self.run
        rows = run.subsample(self._functions())
        fixed = int((self.known[run.t % 2, rows] != run.t).sum())
        if fixed + l * len(rows) > run.oracle.remaining:
            l, run.shrunk = int((run.oracle.remaining - fixed) // len(rows)), True
            if l < 1:
                return 0
        k = run.directions.refresh(l).k  # type: ignore[attr-defined]
        self._charge_bases(rows, run.t)
        run.oracle.charge(l * len(rows))
        delta = np.array([self.sum.mean_difference(int(j), rows, self.mu) for j in k]) / self.mu
        self._add(k, self._checked(delta, k) - self.v[k])
        run.n_full_gradients += len(rows) == run.n and l == run.d
        self.touched += l * len(rows)
        return l

    def _add(self, k: Ints, change: Array) -> None:
        """Change v at different coordinates, and what depends on it."""
        self.v[k] += change
        self.along += float(change @ self.point.y[k])
        self.race.change(k, self._keys(k))
        self.touched += len(k)

    @staticmethod
    def _checked(values: Array, idx: Ints) -> Array:
        if not np.isfinite(values).all():
            j = int(np.flatnonzero(~np.isfinite(values))[0])
            raise FloatingPointError(
                f"the objective is not finite: row {j} of the pairs, index {int(idx[j])}"
            )
        return values


class LeanStep(Step):
    """A Frank-Wolfe step along one coordinate of a scaled point."""

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        assert isinstance(estimator, LeanDVR)
        self.parent = estimator
        self.radius = float(getattr(run.constraint, "radius", 1.0))
        self.mass: dict[tuple[int, float], float] | None = {}
        self.start, self.rest = run.x.copy(), 1.0

    def advance(self, v: Array) -> None:
        run, parent, point = self.run, self.parent, self.parent.point
        run.n_lmo += 1
        k = parent.race.winner
        s = -self.radius if parent.signed and v[k] >= 0.0 else self.radius
        gamma = parent.gamma()
        here = float(point.at(np.array([k]), old=False)[0])
        run.gap = max(point.scale * parent.along - float(v[k]) * s, 0.0)
        if run.t == 0:
            run.first_gap = run.gap
        run.distance = math.sqrt(max(s * s - 2.0 * s * here + point.scale**2 * point.square, 0.0))
        run.gamma = gamma
        factor = point.blend(k, s, gamma)
        parent.along = factor * parent.along + point.added * float(v[k])
        parent.sum.follow(factor)
        parent.touched += 1
        self._track(k, s, gamma, factor)

    def point(self) -> Array:
        return self.parent.point.dense()

    def _track(self, k: int, s: float, gamma: float, factor: float) -> None:
        if self.mass is None:
            return
        if factor != 1.0:
            self.rest *= factor
            self.mass = {vertex: mass * factor for vertex, mass in self.mass.items()}
        self.mass[k, s] = self.mass.get((k, s), 0.0) + gamma / self.parent.point.scale
        if len(self.mass) > _ACTIVE:
            self.mass = None

    def active_set(self) -> tuple[Array, Array] | None:
        if self.mass is None:
            return None
        vertices = np.zeros((1 + len(self.mass), self.run.d))
        vertices[0] = self.start
        for row, (k, s) in enumerate(self.mass, start=1):
            vertices[row, k] = s
        return vertices, self.parent.point.scale * np.array([self.rest, *self.mass.values()])
