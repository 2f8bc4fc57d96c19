"""The fluid bound of network revenue management."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

_N_STARTS, _N_CHECKS = 20, 4096


@dataclass(frozen=True, eq=False)
class FluidSolution:
    """The deterministic relaxation: no policy earns more than `value` per period on average.

    Attributes
    ----------
    value : float
        Revenue per period.
    price : ndarray of shape (N,)
    usage : ndarray of shape (m,)
        Consumption per period.
    dual : ndarray of shape (m,)
        What one more unit of capacity per period is worth.
    """

    value: float
    price: Array
    usage: Array
    dual: Array


def solve_linear(A: Array, c: Array, low: Array, high: Array, a: Array, B: Array) -> FluidSolution:
    """Solve the concave quadratic program of linear demand lambda(p) = a - B p."""
    import cvxpy as cp

    p = cp.Variable(len(a))
    resources = [A @ (a - B @ p) <= c]
    limits = [a - B @ p >= 0, p >= low, p <= high]
    revenue = a @ p - cp.quad_form(p, cp.psd_wrap(0.5 * (B + B.T)))
    problem = cp.Problem(cp.Maximize(revenue), resources + limits)
    problem.solve(solver=cp.CLARABEL)
    if problem.status != cp.OPTIMAL:
        raise ValueError(
            f"capacity, price_lo and price_hi admit no prices: the fluid program is {problem.status}"
        )
    price = np.asarray(p.value, dtype=np.float64).clip(low, high)
    dual = np.maximum(np.asarray(resources[0].dual_value, dtype=np.float64), 0.0)
    return FluidSolution(float(problem.value), price, A @ (a - B @ price), dual)


def solve_nonlinear(
    A: Array, c: Array, low: Array, high: Array, demand: Callable[[Array], Array]
) -> FluidSolution:
    """Solve the program for any demand by SLSQP from 20 starting points; the best feasible end counts."""
    starts = np.random.default_rng(0).random((_N_STARTS, low.size))
    starts[0] = 0.5
    scale = high - low
    best: tuple[float, Array] | None = None
    constraints = [
        {"type": "ineq", "fun": lambda x: c - A @ demand(low + x * scale)},
        {"type": "ineq", "fun": lambda x: demand(low + x * scale)},
    ]
    for start in starts:
        end = minimize(
            lambda x: -float((low + x * scale) @ demand(low + x * scale)),
            start,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * low.size,
            constraints=constraints,
            options={"maxiter": 500, "ftol": 1e-13},
        )
        rate = demand(low + end.x.clip(0.0, 1.0) * scale)
        feasible = (A @ rate <= c + 1e-7).all() and (rate >= -1e-7).all()
        if feasible and (best is None or -end.fun > best[0]):
            best = (-float(end.fun), low + end.x.clip(0.0, 1.0) * scale)
    if best is None:
        raise ValueError("capacity, price_lo and price_hi admit no prices: the fluid program is infeasible")
    value, price = best
    usage = A @ demand(price)
    return FluidSolution(value, price, usage, _duals(A, c, low, high, demand, price, usage))


def _duals(
    A: Array, c: Array, low: Array, high: Array, demand: Callable[[Array], Array], price: Array, usage: Array
) -> Array:
    """Non-negative multipliers of the binding resources that leave the least gradient inside the box."""
    from scipy.optimize import nnls

    step = 1e-6 * (high - low)
    jacobian = np.stack(
        [
            (demand(price + step * unit) - demand(price - step * unit)) / (2.0 * step @ unit)
            for unit in np.eye(low.size)
        ],
        axis=1,
    )
    inside = (price > low + 1e-6 * (high - low)) & (price < high - 1e-6 * (high - low))
    binding = usage >= c - 1e-6
    dual = np.zeros(c.size)
    if inside.any() and binding.any():
        gradient = demand(price) + jacobian.T @ price
        dual[binding] = nnls((A @ jacobian)[binding][:, inside].T, gradient[inside])[0]
    return dual


def check_bound(
    fluid: FluidSolution, A: Array, c: Array, low: Array, high: Array, demand: Callable[[Array], Array]
) -> None:
    r"""Raise a ValueError where clipping negative demand at 0 earns more than the fluid bound.

    By weak duality the bound holds if :math:`p^\top\lambda^+ - \mu^\top(A\lambda^+ - c) \le V` for all
    prices; it is examined at the vertices of the box and at 4,096 points inside.
    """
    points = np.random.default_rng(0).random((_N_CHECKS, low.size))
    corners = np.array(list(itertools.islice(itertools.product((0.0, 1.0), repeat=low.size), 4096)))
    for x in np.vstack([corners, points]):
        p = low + x * (high - low)
        rate = np.maximum(demand(p), 0.0)
        bound = float(p @ rate - fluid.dual @ (A @ rate - c))
        if bound > fluid.value * (1.0 + 1e-6) + 1e-9:
            raise ValueError(
                f"demand is negative within price_lo..price_hi; at {p.tolist()}, clipped at 0, it earns "
                f"{bound:.6g} a period, more than the fluid bound {fluid.value:.6g}: narrow the prices"
            )
