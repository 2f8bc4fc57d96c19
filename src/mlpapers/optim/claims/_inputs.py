"""Problems and measurements that the claims share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mlpapers.core.paper import Scale
from mlpapers.optim.constraints import ConstraintSet, L1Ball, L2Ball
from mlpapers.optim.datasets import make_outlier_classification
from mlpapers.optim.finite_sum import FiniteSum
from mlpapers.optim.linear import LinearFiniteSum
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.result import FWResult
from mlpapers.optim.separable import QuadraticFiniteSum, SeparableFiniteSum

Array = NDArray[np.float64]


class LogQuadratic(SeparableFiniteSum):
    """f_i(x) = sum_k H_ik log(1 + (x_k - b_ik)^2), which is not convex."""

    def term(self, r: Array) -> Array:
        return np.log1p(r * r)

    def term_slope(self, r: Array) -> Array:
        return 2.0 * r / (1.0 + r * r)


def replications(scale: Scale, seed: int) -> list[int]:
    """Return the seeds whose median is taken."""
    return [3 * seed + r for r in range(3)] if scale == "full" else [seed]


def stationary(kind: type[SeparableFiniteSum], n: int, d: int, seed: int) -> SeparableFiniteSum:
    """Return a problem whose constants do not drift with n or d; its set is the unit L2 ball."""
    rng = np.random.default_rng([seed, n, d])
    m = rng.normal(size=d)
    m /= np.linalg.norm(m)
    b = 2.0 * m + 0.5 * rng.normal(size=(n, d)) / np.sqrt(d)
    return kind(rng.uniform(0.5, 1.5, size=(n, d)), b)


def quadratic_excess(total: SeparableFiniteSum) -> Callable[[Array], float]:
    """Return x -> f(x) - f* of a quadratic on the unit ball, from the secular equation."""
    h = total.H.mean(axis=0)
    c = (total.H * total.b).mean(axis=0)

    def norm(multiplier: float) -> float:
        return float(np.linalg.norm(c / (h + multiplier))) - 1.0

    multiplier = brentq(norm, 0.0, float(np.linalg.norm(c)) + 1.0, xtol=1e-15) if norm(0.0) > 0.0 else 0.0
    best = c / (h + multiplier)
    least = float(0.5 * h @ (best * best) - c @ best)
    return lambda x: float(0.5 * h @ (x * x) - c @ x) - least


def true_gap(total: FiniteSum, constraint: ConstraintSet, x: Array) -> float:
    """Return the Frank-Wolfe gap from the exact gradient."""
    g = total.gradient(x)
    return float(g @ (x - constraint.lmo(g)))


def run_until(
    total: FiniteSum,
    reached: Callable[[Any], bool],
    *,
    seed: int,
    max_queries: int | None,
    constraint: ConstraintSet | None = None,
    **settings: Any,
) -> FWResult:
    """Run from e_1 on the unit ball until `reached(state)`; checks cost no queries."""
    assert total.dim is not None
    x0 = np.zeros(total.dim)
    x0[0] = 1.0
    return minimize_fw_zo(
        total,
        x0,
        L2Ball(1.0) if constraint is None else constraint,
        max_queries=max_queries,
        certificate="none",
        random_state=seed,
        callback=reached,
        **settings,
    )


def queries_to_value(kind: str, n: int, d: int, eps: float, seed: int, **settings: Any) -> FWResult:
    """Return the run that reaches f - f* <= eps on the quadratic family."""
    total = stationary(QuadraticFiniteSum, n, d, seed)
    excess = quadratic_excess(total)
    limit = 400 * n * d
    return run_until(
        total, lambda state: excess(state.x) <= eps, seed=seed, max_queries=limit, method=kind, **settings
    )


def value_after(kind: str, n: int, d: int, steps: int, seed: int, **settings: Any) -> float:
    """Return f - f* after `steps` steps on the quadratic family."""
    total = stationary(QuadraticFiniteSum, n, d, seed)
    run = run_until(
        total, lambda _: False, seed=seed, max_queries=None, max_iter=steps, method=kind, **settings
    )
    return quadratic_excess(total)(run.x)


def queries_to_gap(kind: str, n: int, d: int, eps: float, seed: int, **settings: Any) -> FWResult:
    """Return the run that reaches a gap <= eps on the non-convex family."""
    total, C = stationary(LogQuadratic, n, d, seed), L2Ball(1.0)

    def reached(state: Any) -> bool:
        # The exact gap is looked at where the estimate lets it be near, in long runs every 2 % of the steps.
        near = state.gap_estimate <= 4.0 * eps and state.n_iter % max(1, state.n_iter // 50) == 0
        return near and true_gap(total, C, state.x) <= eps

    return run_until(total, reached, seed=seed, max_queries=400 * n * d, method=kind, **settings)


def median_queries(
    measure: Callable[..., FWResult], kind: str, seeds: Sequence[int], *args: Any, **settings: Any
) -> float:
    """Return the median number of queries; infinity for runs that did not get there."""
    runs = [measure(kind, *args, seed, **settings) for seed in seeds]
    return float(np.median([run.n_queries if run.status == 4 else np.inf for run in runs]))


def slope(sizes: Sequence[float], queries: Sequence[float]) -> float:
    """Return the least-squares slope of log queries on log size."""
    return float(np.polyfit(np.log(sizes), np.log(queries), 1)[0])


def reference(
    total: LinearFiniteSum, constraint: ConstraintSet, x: Array, L: float, steps: int = 20_000
) -> Array:
    """Return a minimiser by restarted accelerated projection, to a gap of 1e-13."""
    z, t = x, 1.0
    for step in range(steps):
        new = constraint.project(z - total.gradient(z) / L)
        if (z - new) @ (new - x) > 0.0:
            t = 1.0
        after = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * t * t))
        z, x, t = new + (t - 1.0) / after * (new - x), new, after
        if step % 50 == 49 and true_gap(total, constraint, x) <= 1e-13:
            break
    return x


@functools.cache
def sparse_logistic(
    seed: int, n: int = 1000, d: int = 30, radius: float = 12.0
) -> tuple[LinearFiniteSum, L1Ball, float]:
    """Return logistic regression with a sparse truth, its ball and its least value."""
    rng = np.random.default_rng([seed, 9])
    A = rng.normal(size=(n, d))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    w = np.zeros(d)
    k = max(5, d // 10)
    w[rng.choice(d, k, replace=False)] = rng.normal(scale=3.0, size=k)
    y = np.where(rng.random(n) < 1.0 / (1.0 + np.exp(-4.0 * (A @ w))), 1.0, -1.0)
    total, ball = LinearFiniteSum(A, y, "logistic"), L1Ball(radius)
    L = 0.25 * float(np.linalg.eigvalsh(A.T @ A / n)[-1])
    return total, ball, total.mean(reference(total, ball, np.zeros(d), L))


@functools.cache
def robust_regression(
    seed: int, n: int = 4000, d: int = 100, radius: float = 15.0
) -> tuple[LinearFiniteSum, L1Ball, float]:
    """Return correntropy regression with gross outliers, its ball, and its largest curvature."""
    A, y, _ = make_outlier_classification(n, d, random_state=seed + 10_000)
    return LinearFiniteSum(A, y, "welsch"), L1Ball(radius), float(np.linalg.eigvalsh(A.T @ A / n)[-1])


def excess_after(
    total: FiniteSum, ball: ConstraintSet, least: float, budget: int, seed: int, **settings: Any
) -> float:
    """Return f - f* after `budget` queries from 0."""
    assert total.dim is not None
    result = minimize_fw_zo(
        total, np.zeros(total.dim), ball, max_queries=budget, random_state=seed, **settings
    )
    assert result.fun is not None
    return result.fun - least
