"""How a point moves, given a gradient estimate: Frank-Wolfe, pairwise, momentum, sliding, projection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._arguments import project_or_refuse
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._run import Move, Run
from mlpapers.optim._sliding import proximal_step
from mlpapers.optim._state import Stateful

__all__ = ["FrankWolfe", "Momentum", "Pairwise", "Projection", "Sliding", "Step"]

Array = NDArray[np.float64]

# Vertices are kept while they are at most this many: an active set of thousands helps nobody.
_ACTIVE = 512


class Step(Stateful):
    """Base: `advance` moves the run's point along an estimate."""

    def __init__(self, run: Run, estimator: Estimator) -> None:
        self.run, self.estimator = run, estimator

    @property
    def is_exploring(self) -> bool:
        """Whether the run's point is on trial only, so that its gap ends nothing."""
        return False

    def advance(self, v: Array) -> None:
        """Move ``run.x``; set gamma, distance, dx and gap of the run."""
        raise NotImplementedError

    def point(self) -> Array:
        """Return the point that the run stands for: where queries are made, unless a rule says otherwise."""
        return self.run.x

    def active_set(self) -> tuple[Array, Array] | None:
        """Return vertices and weights whose mixture is the point, or None."""
        return None

    def _towards(self, s: Array, gamma: float, v: Array) -> None:
        run = self.run
        away = s - run.x
        run.gap = max(float(-(v @ away)), 0.0)
        if run.t == 0:
            run.first_gap = run.gap
        run.distance = math.sqrt(float(away @ away))
        run.gamma = gamma
        run.dx = gamma * away
        before, run.x = run.x, (s.copy() if gamma == 1.0 else run.x + run.dx)
        run.move = Move(run.x, before, gamma, s)


class FrankWolfe(Step):
    """x + gamma (s - x) with s = lmo(v); gamma open-loop, constant, or short: min(1, gap / Cf)."""

    kept = ("vertices", "weights", "Cf")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        self.vertices: Array = run.x[None].copy()
        self.weights: Array = np.ones(1)
        self.tracked = run.constraint.is_polytope
        self.Cf = math.nan

    def advance(self, v: Array) -> None:
        run = self.run
        s = run.lmo(v)
        gamma = self._gamma(s, v)
        self._towards(s, gamma, v)
        self._track(s, gamma)

    def _gamma(self, s: Array, v: Array) -> float:
        run = self.run
        if run.settings.step != "short":
            return self.estimator.gamma()
        Cf = getattr(self.estimator, "Cf", math.nan)
        gap = float(v @ (run.x - s))
        if math.isnan(Cf) or Cf <= 0.0:
            return min(1.0, 2.0 / (run.t + 2.0))
        return min(1.0, max(gap, 0.0) / Cf)

    def _track(self, s: Array, gamma: float) -> None:
        if not self.tracked or gamma == 0.0:
            return
        if gamma == 1.0:
            self.vertices, self.weights = s[None].copy(), np.ones(1)
            return
        self.weights = self.weights * (1.0 - gamma)
        same = self._same(s)
        if same.size:
            self.weights[same[0]] += gamma
            return
        self.vertices = np.vstack([self.vertices, s])
        self.weights = np.append(self.weights, gamma)
        if len(self.weights) > _ACTIVE:
            self.tracked = False
            self.vertices, self.weights = self.vertices[:0], self.weights[:0]

    def _same(self, s: Array) -> NDArray[np.int64]:
        """Return which vertices are equal to s."""
        # Few agree in one coordinate; one at which s is large tells most vertices from each other.
        j = int(s.argmax() if s.max() > 0.0 else s.argmin())
        close = np.flatnonzero(self.vertices[:, j] == s[j])
        return close[(self.vertices[close] == s).all(axis=1)]

    def active_set(self) -> tuple[Array, Array] | None:
        return (self.vertices, self.weights) if self.tracked else None

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.tracked = self.run.constraint.is_polytope and len(self.weights) > 0


class Pairwise(FrankWolfe):
    """Weight moves from the worst vertex in use to the best of all; bad vertices are dropped.

    The step along s - a is <v, a - s>/Cf, with Cf the curvature along recent moves, at most the weight of a.
    """

    def advance(self, v: Array) -> None:
        run = self.run
        s = run.lmo(v)
        worst = int((self.vertices @ v).argmax())
        a, most = self.vertices[worst].copy(), float(self.weights[worst])
        along = s - a
        run.gap = max(float(v @ (run.x - s)), 0.0)
        if run.t == 0:
            run.first_gap = run.gap
        size = float(np.linalg.norm(along))
        Cf = getattr(self.estimator, "Cf", math.nan)
        wanted = self.run.open_loop(run.t) if math.isnan(Cf) or Cf <= 0.0 else float(-(v @ along)) / Cf
        gamma = min(max(wanted, 0.0), most)
        run.gamma, run.distance = max(gamma, 1e-12), max(size, 1e-300)
        run.dx = gamma * along
        run.x = run.x + run.dx
        self.weights = self.weights.copy()
        self.weights[worst] -= gamma
        same = self._same(s)
        if same.size:
            self.weights[same[0]] += gamma
        elif gamma > 0.0:
            self.vertices, self.weights = np.vstack([self.vertices, s]), np.append(self.weights, gamma)
        kept = self.weights > 0.0
        self.vertices, self.weights = self.vertices[kept], self.weights[kept]


class Momentum(Step):
    """The three sequences of Acc-SZOFW; gradients are estimated at z."""

    kept = ("x", "y")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        self.x = self.y = run.x

    def advance(self, v: Array) -> None:
        run = self.run
        t = run.t + 1
        eta = run.settings.step if isinstance(run.settings.step, float) else 2.0 / (t + 2.0)
        theta, alpha = 1.0 / (t + 1.0), 1.0 / (t + 2.0)
        z = run.x
        w = run.lmo(v)
        run.gap = max(float(v @ (z - w)), 0.0)
        if run.t == 0:
            run.first_gap = run.gap
        # gamma' = (1 + theta) eta; above 1 the sequence x would leave the set.
        self.x = self.x + min(1.0, (1.0 + theta) * eta) * (w - self.x)
        self.y = z + eta * (w - z)
        run.distance, run.gamma = float(np.linalg.norm(w - z)), eta
        run.x = (1.0 - alpha) * self.y + alpha * self.x
        run.dx = run.x - z


class Sliding(Step):
    """Conditional gradient sliding: u near argmin <v, u> + L/2 |u - x|^2 over C, by Frank-Wolfe [1]_.

    L is 1/(2 lr) of ``options["lr"]``, or learned from <change of v, dx>/|dx|^2.

    References
    ----------
    .. [1] Lan and Zhou, "Conditional gradient sliding for convex optimization", SIAM J. Optim. 26(2), 2016.
    """

    kept = ("L", "v_old")

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        self.L = math.nan
        self.v_old: Array | None = None

    def advance(self, v: Array) -> None:
        run = self.run
        L = self._curvature(v)
        u, used, gap, _ = proximal_step(run.constraint, run.x, v, 2.0 * L, tolerance=1.0 / (run.t + 1.0))
        run.n_lmo += used
        run.gap = gap
        if run.t == 0:
            run.first_gap = gap
        run.dx = u - run.x
        run.distance = float(np.linalg.norm(run.dx))
        run.gamma = 1.0
        run.x, self.v_old = u, v.copy()

    def _curvature(self, v: Array) -> float:
        run = self.run
        lr = run.settings.option("lr", None)
        if lr is None and isinstance(run.settings.step, float):
            lr = run.settings.step
        if lr is not None:
            return 0.5 / lr
        if run.dx is None or self.v_old is None:
            # The first step crosses the set in the direction of v, as Frank-Wolfe would.
            self.L = float(np.linalg.norm(v)) / max(run.D, 1e-300) or 1.0
            return self.L
        size = float(run.dx @ run.dx)
        if size > 0.0:
            seen = abs(float((v - self.v_old) @ run.dx)) / size
            self.L = max(0.9 * self.L, seen)
        return self.L


class Projection(Sliding):
    """x = project(x - v / (3 L)), for the projected baseline only."""

    def __init__(self, run: Run, estimator: Estimator) -> None:
        super().__init__(run, estimator)
        project_or_refuse(f"method={run.settings.method!r}", run.constraint, run.x)

    def advance(self, v: Array) -> None:
        run = self.run
        L = self._curvature(v)
        u = run.constraint._project((run.x - v / (3.0 * L))[None])[0]
        s = run.constraint._lmo(v[None])[0]
        run.gap = max(float(v @ (run.x - s)), 0.0)
        if run.t == 0:
            run.first_gap = run.gap
        run.dx = u - run.x
        run.distance, run.gamma = float(np.linalg.norm(run.dx)), 1.0
        run.x, self.v_old = u, v.copy()
