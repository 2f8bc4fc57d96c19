"""Randomised rules that keep the constraints where many samples sit on the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpapers.fairness._crossover import small_program
from mlpapers.fairness._rule_moments import rule_moments
from mlpapers.fairness.constraints import ConstraintSystem

__all__ = ["BlindMixture", "CellMixture", "LiteralRule", "Rule", "blind_mixture", "cell_mixture"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_PENALTY = 1e2
_N_QUANTILES = 64
_NEGLIGIBLE = 1e-9


class Rule(Protocol):
    """P(Yhat = 1) from posteriors, eta and (where the rule sees them) cells."""

    def probabilities(self, joint: Array, eta: Array, codes: Codes | None) -> Array:
        """Return the probability of predicting 1 at each row."""
        ...

    def parts(self) -> list[tuple[float, Any]]:
        """Return the (weight, rule) pairs that make it up."""
        ...


@dataclass(frozen=True, eq=False)
class LiteralRule:
    """1 where H > 0, 1/2 where H = 0."""

    functional: Array  # (M, 2)
    cost: float
    multipliers: Array

    def probabilities(self, joint: Array, eta: Array, codes: Codes | None) -> Array:  # noqa: ARG002
        """Return 0, 1/2 or 1 by the sign of H."""
        H = eta - self.cost - np.tensordot(joint, self.functional, axes=2)
        return 0.5 * (1.0 + np.sign(H))

    def parts(self) -> list[tuple[float, Any]]:
        """Return the one rule."""
        return [(1.0, self.multipliers)]


@dataclass(frozen=True, eq=False)
class BlindMixture:
    """Deterministic rules 1{eta - c > Q}, each with a weight; "always" and "never" are plain shares."""

    weights: Array  # (R,)
    multipliers: Array  # (R, Kc)
    functionals: Array  # (R, M, 2)
    always: float
    never: float
    cost: float

    def probabilities(self, joint: Array, eta: Array, codes: Codes | None) -> Array:  # noqa: ARG002
        """Return the weight of the rules that say 1."""
        Q = joint.reshape(len(joint), -1) @ self.functionals.reshape(len(self.weights), -1).T
        return np.clip(((eta - self.cost)[:, None] > Q) @ self.weights + self.always, 0.0, 1.0)

    def parts(self) -> list[tuple[float, Any]]:
        """Return multipliers, "always" and "never" with their weights."""
        constants = [(self.always, "always"), (self.never, "never")]
        return [
            *((float(w), lam) for w, lam in zip(self.weights, self.multipliers)),
            *((w, name) for w, name in constants if w > 0),
        ]


@dataclass(frozen=True, eq=False)
class CellMixture:
    """For every cell, rules 1{eta > t} or 1{eta <= t} with weights that sum to 1."""

    cell: Codes  # (R,)
    threshold: Array  # (R,)
    above: NDArray[np.bool_]  # (R,)
    weights: Array  # (R,)
    n_cells: int

    def probabilities(self, joint: Array, eta: Array, codes: Codes | None) -> Array:  # noqa: ARG002
        """Return the weight of the rules of the row's cell that say 1."""
        assert codes is not None
        result = np.zeros(len(eta))
        for m in range(self.n_cells):
            rows = np.flatnonzero(codes == m)
            mine = np.flatnonzero(self.cell == m)
            says = (eta[rows, None] > self.threshold[mine]) == self.above[mine]
            result[rows] = says @ self.weights[mine]
        return np.clip(result, 0.0, 1.0)

    def parts(self) -> list[tuple[float, Any]]:
        """Return (weight, (cell, ">" or "<=", threshold of eta))."""
        return [
            (float(w), (int(m), ">" if above else "<=", float(t)))
            for w, m, above, t in zip(self.weights, self.cell, self.above, self.threshold)
        ]


def blind_mixture(
    system: ConstraintSystem,
    multipliers: Array,
    joint: Array,
    eta: Array,
    weights: Array,
    cost: float,
    optimum: float,
) -> BlindMixture:
    """Mix threshold rules near the optimal multipliers so that the rows hold and the objective is greatest.

    One rule alone is used where it keeps the rows and reaches the optimum.

    Parameters
    ----------
    system : ConstraintSystem
    multipliers : ndarray of shape (Kc,)
        Optimal ones.
    joint, eta, weights : ndarrays of shape (n, M, 2), (n,), (n,)
        The sample on which the rows are evaluated.
    cost : float
    optimum : float
        Value of the linear program.
    """
    pool = _pool(multipliers)
    functionals = np.tensordot(pool, system.functionals, axes=1)
    objective, moments = rule_moments(
        functionals.reshape(len(pool), -1), joint.reshape(len(joint), -1), eta - cost, weights
    )
    flat = system.functionals.reshape(len(system.b), len(moments))
    rows = flat @ moments  # (Kc, R)
    if objective[0] >= optimum - _NEGLIGIBLE and _keeps_rows(rows[:, 0], system):
        return BlindMixture(np.ones(1), pool[:1], functionals[:1], 0.0, 0.0, cost)
    everyone = np.tensordot(weights, joint, axes=1).ravel()
    rows = np.column_stack([rows, flat @ everyone, 0.0 * system.b])
    objective = np.concatenate([objective, [weights @ (eta - cost), 0.0]])
    solution = small_program(
        objective, rows, system.b, system.C, penalty=_PENALTY, sums_to_one=np.ones((1, len(objective)))
    )
    share = np.where(solution.x > _NEGLIGIBLE, solution.x, 0.0)
    share /= share.sum()
    used = np.flatnonzero(share[:-2])
    return BlindMixture(share[used], pool[used], functionals[used], float(share[-2]), float(share[-1]), cost)


def _keeps_rows(values: Array, system: ConstraintSystem) -> bool:
    """Whether a rule with these E_w[f A] satisfies the rows for some value of the free scalars."""
    if not system.C.shape[1]:
        return bool(np.all(values <= system.b + _NEGLIGIBLE))
    single = small_program(
        np.zeros(1),
        values[:, None],
        system.b,
        system.C,
        penalty=1.0,
        sums_to_one=np.ones((1, 1)),
    )
    return single.excess <= _NEGLIGIBLE


def _pool(multipliers: Array) -> Array:
    """Return the optimal multipliers, shrunk ones, and ones with one entry moved up or down."""
    steps = np.array([1e-3, 1e-2, 1e-1])
    pool = [multipliers, *((1.0 - t) * multipliers for t in steps)]
    for k in np.flatnonzero(multipliers > 0):
        for step in steps * max(float(multipliers[k]), 1e-2):
            for sign in (1.0, -1.0):
                moved = multipliers.copy()
                moved[k] = max(moved[k] + sign * step, 0.0)
                pool.append(moved)
    return np.array(pool).reshape(len(pool), len(multipliers))


def cell_mixture(
    system: ConstraintSystem,
    multipliers: Array,
    joint: Array,
    eta: Array,
    codes: Codes,
    weights: Array,
    cost: float,
    optimum: float,
) -> CellMixture:
    """Choose for every cell a mixture of thresholds of eta(x, s), by one linear program.

    The pool of a cell is the optimal rule, 1{eta > c} and its negation, 64 quantiles, never and always: a
    point of the cell's ROC hull each. Where a cell sits strictly inside its hull at the optimum, the optimal
    score vanishes in all of it and only a mixture can say what to do. The optimal rules alone are used where
    they keep the rows and reach the `optimum`.
    """
    n_cells = joint.shape[1]
    W = system.combine(multipliers)
    cells: list[Codes] = []
    thresholds: list[Array] = []
    directions: list[NDArray[np.bool_]] = []
    objective: list[Array] = []
    rows: list[Array] = []
    for m in range(n_cells):
        members = np.flatnonzero((codes == m) & (weights > 0))
        threshold, above = _cell_pool(eta[members], W[m], cost)
        says = ((eta[members, None] > threshold) == above).astype(np.float64)
        mass = weights[members]
        objective.append((mass * (eta[members] - cost)) @ says)
        moments = (mass[:, None] * joint[members, m, :]).T @ says  # (2, R)
        rows.append(system.functionals[:, m, :] @ moments)
        cells.append(np.full(len(threshold), m, dtype=np.int64))
        thresholds.append(threshold)
        directions.append(above)
    cell = np.concatenate(cells)
    first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
    values, gains = np.hstack(rows), np.concatenate(objective)
    if gains[first].sum() >= optimum - _NEGLIGIBLE and _keeps_rows(values[:, first].sum(axis=1), system):
        share = np.zeros(len(cell))
        share[first] = 1.0
    else:
        solution = small_program(
            gains,
            values,
            system.b,
            system.C,
            penalty=_PENALTY,
            sums_to_one=(cell == np.arange(n_cells)[:, None]).astype(np.float64),
        )
        share = np.where(solution.x > _NEGLIGIBLE, solution.x, 0.0)
    share /= np.bincount(cell, weights=share, minlength=n_cells)[cell]
    used = np.flatnonzero(share)
    return CellMixture(
        cell[used], np.concatenate(thresholds)[used], np.concatenate(directions)[used], share[used], n_cells
    )


def _cell_pool(eta: Array, W: Array, cost: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return thresholds of eta and their directions; the optimal rule of the cell comes first."""
    # In the cell, eta - c - Q = (1 + W_0 - W_1) eta - c - W_0.
    slope, offset = 1.0 + W[0] - W[1], cost + W[0]
    flat = (-np.inf if offset < 0 else np.inf, True)
    best = flat if slope == 0.0 else (offset / slope, slope > 0)
    shares = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
    quantiles = np.unique(np.quantile(eta, shares)) if len(eta) else np.zeros(0)
    threshold = np.concatenate([[best[0], cost, cost, np.inf, -np.inf], quantiles])
    above = np.ones(len(threshold), dtype=bool)
    above[0], above[2] = best[1], False
    return threshold, above
