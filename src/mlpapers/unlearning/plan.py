"""What deletions will cost, predicted before they are made."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.validation import check_int
from mlpapers.unlearning._account import make_account
from mlpapers.unlearning._engine import Engine, Model
from mlpapers.unlearning._rows import Rows

__all__ = ["plan_deletions"]

# Rows whose typical step is measured; more would not change a prediction.
_SAMPLE = 1000


def plan_deletions(
    engine: Engine, model: Model, rows: Rows, n_deletions: int, batch_size: int = 1
) -> pd.DataFrame:
    r"""Predict bounds, epsilon, re-anchors and seconds of deleting typical rows.

    One row moves the parameters by :math:`\Delta = H^{-1} x c / (1 - \bar h)` with mean leverage
    :math:`\bar h = (p - \alpha\, \mathrm{tr} H^{-1})/n`. Steps of different rows are taken as independent, so
    the energy of t of them is :math:`t\, \overline{\Delta^\top M \Delta}` (q below) and the residual bound
    after requests of k rows grows as

    .. math:: \rho_t = \rho_{t-1} + L_3 B k q\, \big(\tfrac12 + \sqrt{t - 1}\big)

    until it meets the budget and the model is re-anchored. Seconds come from timing one pass of each kind
    here.

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
    energies = [_mean_step(engine, model, rows, problem) for problem in range(len(model.solutions))]
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
    deleted = since_anchor = n_anchors = n_steps = 0
    seconds = 0.0
    table = []
    while deleted < n_deletions:
        k = min(batch_size, n_deletions - deleted)
        deleted, since_anchor, n_steps = deleted + k, since_anchor + k, n_steps + 1
        stale = 0.0 if settings.strict or every_request_exact else math.sqrt(n_steps - 1.0)
        grown = []
        for solution, (energy, first_order, slack) in zip(current, energies):
            before = 0.0 if every_request_exact else solution.residual
            residual = before + rate * k * energy * (0.5 + stale) + k * first_order
            grown.append(
                replace(solution, residual=residual, slack=solution.slack + k * slack, dual=math.inf)
            )
        account = make_account(settings, setting, grown, exact=model.exact and rate == 0.0, fresh=False)
        seconds += fast
        due = settings.reanchor_every is not None and since_anchor >= settings.reanchor_every
        if due or not account.within:
            grown = [replace(solution, residual=target, slack=0.0, dual=math.inf) for solution in grown]
            account = make_account(settings, setting, grown, exact=False, fresh=False)
            seconds += anchor
            n_anchors += 1
            since_anchor = n_steps = 0
        current = grown
        table.append((deleted, account.residual_bound, account.epsilon_spent, n_anchors, seconds))
    return pd.DataFrame(
        table, columns=["deletions", "residual_bound", "epsilon_spent", "reanchors", "seconds"]
    )


def _mean_step(engine: Engine, model: Model, rows: Rows, problem: int) -> tuple[float, float, float]:
    """Return the mean energy, first-order residual and log-Jacobian bound of deleting one row of a sample."""
    loss, solution = engine.loss, model.solutions[problem]
    alive = np.flatnonzero(rows.alive)
    chosen = alive[np.linspace(0, len(alive) - 1, min(_SAMPLE, len(alive))).astype(np.int64)]
    X, w = rows.X[chosen], rows.w[chosen]
    y = engine.targets(rows.y[chosen], problem)
    C = loss.slope(loss.scores(X, solution.theta), y)
    C = C.reshape(len(chosen), -1) * w[:, None]
    p = len(solution.hessian)
    inverse = solution.factor.solve(np.eye(p))
    leverage = (p - engine.settings.alpha * float(np.trace(inverse))) / rows.n_alive
    gradients = (C[:, :, None] * X[:, None, :]).reshape(len(chosen), -1)
    first_order = 0.0
    if rows.multipliers is not None:
        s = rows.multipliers[chosen]
        first_order = float(np.mean(np.abs(1.0 - s) * np.linalg.norm(gradients, axis=1)))
        gradients = gradients * s[:, None]
    steps: NDArray[np.float64] = gradients @ inverse / max(1.0 - leverage, 1e-3)
    moved = steps.reshape(len(chosen), -1, X.shape[1])
    energy = float(np.mean(np.einsum("iad,de,iae->i", moved, model.gram, moved, optimize=True)))
    eta = loss.constants.c * engine.B * np.linalg.norm(steps, axis=1)
    # The first-order term and the leading square of the log-Jacobian bound, for small steps.
    slack = float(np.mean(eta * leverage + 1.5 * p * eta**2))
    return energy, first_order, slack


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
