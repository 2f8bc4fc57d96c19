"""What deletions will cost, predicted before they are made."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.validation import check_int
from mlpapers.unlearning._account import make_account
from mlpapers.unlearning._engine import Engine, Model
from mlpapers.unlearning._rows import Rows

__all__ = ["plan_deletions"]

# Rows whose steps are measured; more would not change a prediction.
_SAMPLE = 1000


def plan_deletions(
    engine: Engine, model: Model, rows: Rows, n_deletions: int, batch_size: int = 1
) -> pd.DataFrame:
    r"""Predict bounds, epsilon, re-anchors and seconds of deleting rows drawn at random.

    A row with slopes c and weighted curvature S moves the parameters by

    .. math:: \Delta = H^{-1} A (I - S A^\top H^{-1} A)^{-1} c,

    A being the row once per output. This is computed for a sample, and requests take rows of it in a random
    order: a few long rows may cost more than all others, so that a mean row would predict nothing. Steps of
    different rows are taken as orthogonal in the metric M, so that their energies
    :math:`q = \Delta^\top M \Delta` add up, and the residual bound grows as

    .. math:: \rho_t = \rho_{t-1} + L_3 B \Big(\frac{q_t}2 + \sqrt{q_t \textstyle\sum_{s<t} q_s}\Big)

    until it meets the budget and the model is re-anchored, where the sum begins anew. Seconds come from
    timing one pass of each kind here.

    Parameters
    ----------
    engine : Engine
    model : Model
    rows : Rows
    n_deletions : int
        At most the number of remaining rows minus one.
    batch_size : int, default=1

    Returns
    -------
    frame : DataFrame with one row per request

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    """
    check_int("n_deletions", n_deletions, minimum=1, maximum=rows.n_alive - 1)
    check_int("batch_size", batch_size, minimum=1, maximum=n_deletions)
    settings, setting = engine.settings, engine.setting
    fast, anchor = _time_passes(engine, model, rows, batch_size)
    costs = [_steps(engine, model, rows, problem) for problem in range(len(model.solutions))]
    order = np.random.default_rng(0).permutation(len(costs[0].energy))
    rate = setting.loss.constants.L3 * engine.B
    trained = math.hypot(*(solution.residual for solution in model.solutions))
    target = min(trained, settings.tol * max(1.0, rows.n_alive * engine.B))
    every_request_exact = (
        settings.certificate == "exact"
        or settings.update == "descent"
        or settings.weight_role == "retain"
        or settings.value_update == "recompute"
    )

    current = list(model.solutions)
    moved = [0.0] * len(current)
    deleted = since_anchor = n_anchors = 0
    seconds = 0.0
    table = []
    while deleted < n_deletions:
        k = min(batch_size, n_deletions - deleted)
        chosen = order[np.arange(deleted, deleted + k) % len(order)]
        deleted, since_anchor = deleted + k, since_anchor + k
        grown = []
        for i, (solution, cost) in enumerate(zip(current, costs)):
            energy = float(cost.energy[chosen].sum())
            before = 0.0 if every_request_exact else solution.residual
            stale = 0.0 if settings.strict or every_request_exact else moved[i]
            residual = before + rate * (0.5 * energy + math.sqrt(energy * stale))
            moved[i] += energy
            grown.append(
                replace(
                    solution,
                    residual=residual + float(cost.first_order[chosen].sum()),
                    slack=solution.slack + float(cost.slack[chosen].sum()),
                    dual=math.inf,
                )
            )
        account = make_account(settings, setting, grown, exact=model.exact and rate == 0.0, fresh=False)
        seconds += fast
        due = settings.reanchor_every is not None and since_anchor >= settings.reanchor_every
        if due or not account.within:
            grown = [replace(solution, residual=target, slack=0.0, dual=math.inf) for solution in grown]
            account = make_account(settings, setting, grown, exact=False, fresh=False)
            seconds += anchor
            n_anchors += 1
            since_anchor, moved = 0, [0.0] * len(moved)
        current = grown
        table.append((deleted, account.residual_bound, account.epsilon_spent, n_anchors, seconds))
    return pd.DataFrame(
        table, columns=["deletions", "residual_bound", "epsilon_spent", "reanchors", "seconds"]
    )


@dataclass(frozen=True)
class _Steps:
    """What deleting each of m rows costs: energy, first-order residual, log-Jacobian bound."""

    energy: NDArray[np.float64]
    first_order: NDArray[np.float64]
    slack: NDArray[np.float64]


def _steps(engine: Engine, model: Model, rows: Rows, problem: int) -> _Steps:
    """Measure the Newton step of each row of a sample, deleted alone."""
    loss, solution = engine.loss, model.solutions[problem]
    alive = np.flatnonzero(rows.alive)
    chosen = alive[np.linspace(0, len(alive) - 1, min(_SAMPLE, len(alive))).astype(np.int64)]
    X, w, K = rows.X[chosen], rows.w[chosen], loss.n_outputs
    y, scores = engine.targets(rows.y[chosen], problem), loss.scores(X, solution.theta)
    slopes = loss.slope(scores, y).reshape(-1, K) * w[:, None]
    curvatures = loss.curvature(scores, y).reshape(-1, K, K) * w[:, None, None]
    first_order = np.zeros(len(chosen))
    if rows.multipliers is not None:
        s = rows.multipliers[chosen]
        first_order = np.abs(1.0 - s) * np.linalg.norm(slopes, axis=1) * np.linalg.norm(X, axis=1)
        slopes = slopes * s[:, None]
    p = len(solution.hessian)
    inverse = solution.factor.solve(np.eye(p))
    blocks = inverse.reshape(K, -1, K, X.shape[1])
    own = np.stack([[np.einsum("id,id->i", X @ blocks[a, :, b], X) for b in range(K)] for a in range(K)])
    without = np.linalg.solve(np.eye(K) - curvatures @ np.moveaxis(own, 2, 0), slopes[:, :, None])
    steps: NDArray[np.float64] = (without * X[:, None, :]).reshape(len(chosen), p) @ inverse
    moved = steps.reshape(len(chosen), K, -1)
    energy = np.einsum("iad,iad->i", moved @ model.gram, moved)
    energy -= w * np.square(np.einsum("iad,id->ia", moved, X)).sum(axis=1)
    leverage = (p - engine.settings.alpha * float(np.trace(inverse))) / rows.n_alive
    eta = loss.constants.c * engine.B * np.linalg.norm(steps, axis=1)
    # The first-order term and the leading square of the log-Jacobian bound, for small steps.
    return _Steps(np.maximum(energy, 0.0), first_order, eta * leverage + 1.5 * p * eta**2)


def _time_passes(engine: Engine, model: Model, rows: Rows, batch_size: int) -> tuple[float, float]:
    """Return the seconds of one request and of one re-anchor, from trying each without keeping the result."""
    positions = np.flatnonzero(rows.alive)[:batch_size]
    unlimited = Engine(
        replace(engine.settings, perturbation="none", reanchor_every=None, accounting="gaussian"), engine.B
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        taken = rows.take(positions)
        unlimited.remove(
            model, rows, positions, taken, None, lambda: [solution.b for solution in model.solutions]
        )
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    for problem, solution in enumerate(model.solutions):
        objective = engine.objective(rows, rows.w, problem, solution.b)
        # At zero for the tolerance, where the model stands, and after a chord step or two.
        for _ in range(4):
            objective.gradient(solution.theta)
        objective.hessian(solution.theta)
    return min(times), time.perf_counter() - started
