"""Gradient estimators of the rivals; each returns v, an estimate of the gradient at the run's point."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.parallel import chunk_slices
from mlpapers.optim._run import Run
from mlpapers.optim._state import Stateful

__all__ = [
    "Estimator",
    "FullDifferences",
    "GaussianSmoothing",
    "Memory",
    "MomentumSmoothing",
    "Saga",
    "Spider",
    "StochasticMemory",
    "Storm",
]

Array = NDArray[np.float64]

# Random vectors are drawn in blocks of fixed size, so that results do not depend on the caller's chunks.
_BLOCK = 4096


class Estimator(Stateful):
    """Base: `estimate` returns v at ``run.x``; the attributes say what it did, NaN where it does not know."""

    kept: tuple[str, ...] = ("v", "x_old", "V", "rho", "batch", "stage")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.v = np.zeros(run.d)
        self.x_old: Array | None = None
        self.V = math.nan
        self.rho = math.nan
        self.batch = 0
        self.stage = ""

    @property
    def least_cost(self) -> int:
        """Queries without which no first step can be made."""
        return self.run.oracle.cost

    def estimate(self) -> Array:
        """Return the estimate at the run's point."""
        raise NotImplementedError

    def gamma(self) -> float:
        """Return the step size that goes with the estimate."""
        return self.run.open_loop(self.run.t)

    def start(self) -> Array:
        """Return the first estimate as `init` says: full, on m0 functions, or zero."""
        run, init = self.run, self.run.settings.init
        if init == "zero":
            self.v = np.zeros(run.d)
            return self.v
        m = run.n if init == "full" else min(run.n, run.settings.m0)
        self.v, _ = run.full(run.probe(run.x), m)
        self.batch = m
        return self.v

    def start_cost(self) -> int:
        """Return the queries of :meth:`start`."""
        run = self.run
        if run.settings.init == "zero":
            return 0
        return self.full_cost(run.n if run.settings.init == "full" else min(run.n, run.settings.m0))

    def full_cost(self, m: int) -> int:
        """Return the queries of all directions on m functions."""
        return m * self.run.row_cost

    def affordable(self, m: int) -> int:
        """Return m, or how many functions the rest of the budget pays for; the run notes that it was less."""
        cost, remaining = self.full_cost(m), self.run.oracle.remaining
        if cost <= remaining:
            return m
        self.run.shrunk = True
        return max(1, int(remaining * m // cost))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {**super().state(), "held": self.run.held(self.x_old)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        if self.x_old is not None:
            self.x_old = self.run.same(self.x_old, state.get("held"))


class FullDifferences(Estimator):
    """All n functions in all directions, every step."""

    stage = "full"

    @property
    def least_cost(self) -> int:
        return self.full_cost(self.run.n)

    def estimate(self) -> Array:
        run = self.run
        self.v, _ = run.full(run.probe(run.x), run.n)
        self.V, self.rho, self.batch, self.stage = 0.0, 1.0, run.n, "full"
        return self.v


class GaussianSmoothing(Estimator):
    """ZSCG: the mean of (f_i(x + mu u) - f_i(x))/mu u over m_t pairs, u standard Gaussian [1]_.

    Where queries must not leave C, u is uniform on the unit sphere, and the mean is taken d times.

    m_t is ``batch_size``, or d (t + 2), or d sqrt(T) with ``options={"nonconvex": True}``.

    References
    ----------
    .. [1] Balasubramanian and Ghadimi, "Zeroth-order (non)-convex stochastic optimization via conditional
       gradient and gradient updates", NeurIPS 2018.
    """

    def estimate(self) -> Array:
        run = self.run
        m = run.settings.batch_size or self._batch()
        if 2 * m > run.oracle.remaining:
            m, run.shrunk = max(1, int(run.oracle.remaining // 2)), True
        probe = run.probe(run.x)
        v = np.zeros(run.d)
        for some in chunk_slices(m, _BLOCK):
            size = some.stop - some.start
            idx = run.draw_functions(size)
            block, scale = run.directions.smoothing(size, bounded=run.oracle.contraction is not None)
            D = probe.differences(idx, block)
            block.add(v, np.nan_to_num(D) * (scale / m))
        self.v, self.batch, self.stage = v, m, "smoothing"
        return v

    def _batch(self) -> int:
        run = self.run
        if run.settings.option("nonconvex", False):
            return math.ceil(run.d * math.sqrt(run.settings.max_iter or run.t + 1))
        return run.d * (run.t + 2)


class MomentumSmoothing(Estimator):
    """SGFFW: v = (1 - r_t) v + r_t g with g from one function and few directions [1]_.

    ``options["variant"]``: "irdsa" (default, max(1, d // 4) Gaussian directions), "rdsa" (one), "kwsa" (all
    coordinates). Where queries must not leave C, unit directions take the place of Gaussian ones.

    References
    ----------
    .. [1] Sahu, Zaheer and Kar, "Towards gradient free and projection free stochastic optimization", AISTATS
       2019.
    """

    def gamma(self) -> float:
        return super().gamma() if isinstance(self.run.settings.step, float) else 2.0 / (self.run.t + 8.0)

    def estimate(self) -> Array:
        run, d = self.run, self.run.d
        variant = run.settings.option("variant", "irdsa")
        probe = run.probe(run.x)
        i = run.draw_functions(1)
        decay = (run.t + 8.0) ** (2.0 / 3.0)
        if variant == "kwsa":
            block = run.directions.everything()
            D, _ = probe.means(block, i)
            g = np.zeros(d)
            block.add(g, D)
            rate = 4.0 / decay
        else:
            m = 1 if variant == "rdsa" else max(1, d // 4)
            vectors, scale = run.directions.smoothing(m, bounded=run.oracle.contraction is not None)
            D, _ = probe.means(vectors, i)
            g = np.zeros(d)
            vectors.add(g, D * (scale / m))
            rate = 4.0 / ((1.0 + d / m) ** (1.0 / 3.0) * decay)
        rate = min(1.0, rate)
        self.v = (1.0 - rate) * self.v + rate * g
        self.rho, self.batch, self.stage = rate, len(D), variant
        return self.v


class Spider(Estimator):
    """SPIDER: a full estimate every q steps, between them increments of b functions [1]_.

    q and b are floor(sqrt n) unless ``batch_size`` is given. ``options["variant"]``: "cooge" (default, all
    coordinates) or "unige" (one random unit direction per function, times d; the checkpoint stays full).

    References
    ----------
    .. [1] Huang, Tao and Chen, "Accelerated stochastic gradient-free and projection-free methods", ICML 2020.
    """

    @property
    def least_cost(self) -> int:
        return self.full_cost(self.run.n)

    def estimate(self) -> Array:
        run = self.run
        q = max(1, math.isqrt(run.n))
        b = run.settings.batch_size or q
        probe = run.probe(run.x)
        if run.t % q == 0 or self.x_old is None:
            self.v, _ = run.full(probe, run.n)
            self.V, self.rho, self.batch, self.stage = 0.0, 1.0, run.n, "full"
        else:
            old = run.probe(self.x_old)
            if run.settings.option("variant", "cooge") == "unige":
                block, scale = run.directions.smoothing(b, bounded=True)
                idx = run.draw_functions(b)
                change = probe.differences(idx, block) - old.differences(idx, block, probe.mu)
                v = self.v.copy()
                block.add(v, np.nan_to_num(change) * (scale / b))
                self.v = v
            else:
                rows = np.sort(run.draw_functions(b))
                self.v = self.v + _mean_gradient(run, probe, rows) - _mean_gradient(run, old, rows, probe.mu)
            self.V, self.rho, self.batch, self.stage = math.nan, 0.0, b, "increment"
        self.x_old = run.x
        return self.v


class Storm(Estimator):
    """STORM: v = g(z; B) + (1 - r_t)(v - g(z_old; B)), r_t = (t + 1)^(-2/3), all coordinates, b functions."""

    def gamma(self) -> float:
        return self.run.open_loop(self.run.t + 1)

    def estimate(self) -> Array:
        run = self.run
        b = run.settings.batch_size or 64
        rows = np.sort(run.draw_functions(b))
        probe = run.probe(run.x)
        g = _mean_gradient(run, probe, rows)
        if self.x_old is None:
            self.v = g
        else:
            rate = (run.t + 1.0) ** (-2.0 / 3.0)
            old = _mean_gradient(run, run.probe(self.x_old), rows, probe.mu)
            self.v = g + (1.0 - rate) * (self.v - old)
            self.rho = rate
        self.x_old, self.batch, self.stage = run.x, b, "storm"
        return self.v


class Memory(Estimator):
    """JAGUAR: all functions, one coordinate a step, replaced in the memory h [1]_.

    The step is 4/(t + c d) with c = ``options["offset"]``, 2 by default (8 in the literature, slower).

    References
    ----------
    .. [1] Veprikov et al., "New aspects of black box conditional gradient: variance reduction and one point
       feedback", Chaos, Solitons & Fractals, 2024.
    """

    def gamma(self) -> float:
        run = self.run
        if isinstance(run.settings.step, float):
            return run.settings.step
        return min(1.0, 4.0 / (run.t + run.settings.option("offset", 2.0) * run.d))

    @property
    def least_cost(self) -> int:
        return self.start_cost() or 2 * self.run.n

    def estimate(self) -> Array:
        run = self.run
        if run.t == 0:
            return self.start()
        block = run.directions.block(run.frame_rng.integers(0, run.directions.span, size=1))
        delta, _ = run.probe(run.x).means(block, np.arange(run.n))
        self.v = self.v.copy()
        block.add(self.v, delta - block.dots(self.v))
        self.rho, self.batch, self.stage = 1.0 / run.d, run.n, "memory"
        return self.v


class StochasticMemory(Memory):
    """JAGUAR on a batch: g = (1 - r) g + r (h + d (delta - h_k) e_k), then h_k = delta."""

    kept = (*Estimator.kept, "h")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.h = np.zeros(run.d)

    @property
    def least_cost(self) -> int:
        return self.start_cost() or 2 * (self.run.settings.batch_size or 64)

    def estimate(self) -> Array:
        run = self.run
        if run.t == 0:
            self.h = self.start().copy()
            return self.v
        b = run.settings.batch_size or 64
        block = run.directions.block(run.frame_rng.integers(0, run.directions.span, size=1))
        delta, _ = run.probe(run.x).means(block, np.sort(run.draw_functions(b)))
        innovation = delta - block.dots(self.h)
        rate = min(1.0, 4.0 / (run.t + 8.0) ** (2.0 / 3.0))
        target = self.h.copy()
        block.add(target, run.directions.scale * innovation)
        self.v = (1.0 - rate) * self.v + rate * target
        block.add(self.h, innovation)
        self.rho, self.batch, self.stage = rate, b, "memory"
        return self.v


class Saga(Estimator):
    """First-order SAGA on gradients that the objective gives; one gradient of one f_i counts as one query."""

    kept = (*Estimator.kept, "table", "mean")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.table: Array | None = None
        self.mean = np.zeros(run.d)

    @property
    def least_cost(self) -> int:
        return self.run.n

    def estimate(self) -> Array:
        run = self.run
        grad = run.oracle.fun.grad
        assert grad is not None
        if self.table is None:
            run.oracle.charge(run.n)
            idx = np.arange(run.n)
            self.table = _as_array(grad(np.broadcast_to(run.x, (run.n, run.d)), idx))
            self.mean = self.table.mean(axis=0)
            self.v, self.batch, self.stage = self.mean.copy(), run.n, "full"
            return self.v
        b = run.settings.batch_size or max(1, math.isqrt(run.n))
        idx = run.subsample(b)
        run.oracle.charge(len(idx))
        new = _as_array(grad(np.broadcast_to(run.x, (len(idx), run.d)), idx))
        change = new - self.table[idx]
        self.v = self.mean + change.mean(axis=0)
        self.mean = self.mean + change.sum(axis=0) / run.n
        self.table[idx] = new
        self.batch, self.stage = len(idx), "saga"
        return self.v


def _mean_gradient(run: Run, probe: Any, rows: Any, mu: float | None = None) -> Array:
    """Return the mean over functions (repeats count) of differences in all directions."""
    block = run.directions.everything()
    mean, _ = probe.means(block, rows, mu)
    g = np.zeros(run.d)
    block.add(g, mean)
    return g


def _as_array(rows: Any) -> Array:
    return np.asarray(rows.detach().cpu().numpy() if hasattr(rows, "detach") else rows, dtype=np.float64)
