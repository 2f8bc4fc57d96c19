"""From approximate multipliers to an exact vertex: small linear programs over the undecided samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from mlpapers.fairness._edges import MAX_EDGES, descend

__all__ = ["Vertex", "crossover", "small_program"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
# Price of a unit of infeasibility in the small programs, relative to weights that sum to 1.
PENALTY = 1e3
_MAX_ROUNDS = 60
# Rounds after which samples are no longer lumped together, so that the number of rounds is finite.
_LUMPED_ROUNDS = 25
_MAX_SINGLES = 3000
_N_LUMPS = 600
_WRONG_SIGN = 1e-9
_WHOLE = 1e-9
# Infeasibility that counts as none, relative to weights that sum to 1.
_FEASIBLE = 1e-9
# What rounding may leave of gap and rows of a small program, relative to its values.
_CERTIFIED = 1e-10


class Vertex(NamedTuple):
    """A solution: f (n,), multipliers (Kc,), free scalars (p,), dual value, infeasibility, rounds."""

    f: Array
    multipliers: Array
    free: Array
    dual: float
    excess: float
    n_rounds: int


class SmallSolution(NamedTuple):
    """Solution of a small program."""

    x: Array
    free: Array
    multipliers: Array
    excess: float


def small_program(
    c: Array, rows: Array, b: Array, C: Array, *, penalty: float, sums_to_one: Array | None = None
) -> SmallSolution:
    """Maximise c.x - penalty * e.1 subject to rows x + C u - e <= b, 0 <= x <= 1, e >= 0, u free.

    Parameters
    ----------
    c : ndarray of shape (N,)
    rows : ndarray of shape (Kc, N)
    b : ndarray of shape (Kc,)
    C : ndarray of shape (Kc, p)
    penalty : float
    sums_to_one : ndarray of shape (E, N), optional
        Equalities sums_to_one x = 1.

    Returns
    -------
    solution : SmallSolution
        With the multipliers of the rows, non-negative.
    """
    quick = _by_descent(c, rows, b, C, penalty, np.zeros((0, len(c))) if sums_to_one is None else sums_to_one)
    if quick is not None:
        return quick
    n_rows, n_free = C.shape
    size = len(c)
    cost = np.concatenate([-c, np.zeros(n_free), np.full(n_rows, penalty)])
    matrix = np.hstack([rows, C, -np.eye(n_rows)])
    bounds = np.vstack(
        [
            np.tile([0.0, 1.0], (size, 1)),
            np.tile([-np.inf, np.inf], (n_free, 1)),
            np.tile([0.0, np.inf], (n_rows, 1)),
        ]
    )
    equality: dict[str, Array] = {}
    if sums_to_one is not None:
        padding = np.zeros((len(sums_to_one), n_free + n_rows))
        equality = {"A_eq": np.hstack([sums_to_one, padding]), "b_eq": np.ones(len(sums_to_one))}
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    for method, options in (("highs-ds", tight), ("highs-ds", {}), ("highs-ipm", {})):
        answer = linprog(cost, A_ub=matrix, b_ub=b, bounds=bounds, method=method, options=options, **equality)
        if answer.status == 0:
            break
    else:
        raise RuntimeError(f"the linear program over {size} variables failed: {answer.message}")
    return SmallSolution(
        np.clip(answer.x[:size], 0.0, 1.0),
        answer.x[size : size + n_free],
        np.maximum(-answer.ineqlin.marginals, 0.0),
        float(answer.x[size + n_free :].sum()),
    )


def _by_descent(
    c: Array, rows: Array, b: Array, C: Array, penalty: float, sums_to_one: Array
) -> SmallSolution | None:
    """Return the solution where there are few rows and its certificate holds, None otherwise."""
    n_rows, n_sums = len(rows), len(sums_to_one)
    if n_rows + n_sums > MAX_EDGES:
        return None
    A, right = np.vstack([rows, sums_to_one]), np.concatenate([b, np.ones(n_sums)])
    free = np.vstack([C, np.zeros((n_sums, C.shape[1]))])
    start = np.zeros(len(A))
    corner = descend(A, c, np.ones(len(c)), right, free, start, n_equalities=n_sums, ceiling=penalty)
    if corner is None:
        return None
    lam = corner.multipliers
    primal = float(c @ corner.x) - penalty * float(corner.excess.sum())
    dual = float(lam @ right) + float(np.maximum(c - lam @ A, 0.0).sum())
    missed = A @ corner.x + free @ corner.free - corner.excess - right
    missed[n_rows:] = np.abs(missed[n_rows:])
    if not (
        dual - primal <= _CERTIFIED * (1.0 + abs(primal))
        and missed.max(initial=0.0) <= _CERTIFIED * (1.0 + float(np.abs(right).max(initial=0.0)))
    ):
        return None
    return SmallSolution(corner.x, corner.free, lam[:n_rows], float(corner.excess.sum()))


def crossover(
    c: Array,
    score: Array,
    scale: Array,
    A: Array,
    b: Array,
    C: Array,
    multipliers: Array,
    *,
    tol: float,
    start: Array | None = None,
) -> Vertex:
    """Turn multipliers close to optimal into an optimal vertex.

    Samples whose reduced score s_i - A_i lam is well away from 0 are decided by its sign; a linear program
    over the others (and the free scalars) gives new multipliers, and whoever they decide otherwise joins.
    Many undecided samples at once (ties) are lumped together, and lumps that come out fractional are taken
    apart.

    Parameters
    ----------
    c : ndarray of shape (n,)
        scale * score.
    score, scale : ndarray of shape (n,)
        Scores s and weights of mean 1.
    A : ndarray of shape (n, Kc)
    b : ndarray of shape (Kc,)
        Bounds, times n.
    C : ndarray of shape (Kc, p)
    multipliers : ndarray of shape (Kc,)
        Where to start.
    tol : float
        Gap, relative to weights that sum to 1, at which the multipliers count as optimal.
    start : ndarray of shape (n,), optional
        An interior solution that says which samples are undecided.
    """
    n, n_rows = A.shape
    lam = np.maximum(multipliers, 0.0)
    reduced = score - A @ lam
    n_near = min(400, max(50, 20 * n_rows))
    undecided = np.abs(reduced) <= 1e-7 * max(1.0, float(np.abs(score).max(initial=0.0)))
    best_dual, best_lam = np.inf, lam
    if start is not None:
        best_dual = _dual_value(lam, reduced, scale, b)
        # Loose enough not to depend on the last digits of the interior point, tight enough to name few.
        undecided |= (start > 1e-3) & (start < 1 - 1e-3)
    undecided[_nearest(reduced, n_near)] = True
    lump = np.full(n, -1, dtype=np.int64)
    _assign(lump, np.flatnonzero(undecided), A, 0)
    held = np.full(n, np.nan)
    f = np.zeros(n)
    for n_rounds in range(1, _MAX_ROUNDS + 1):
        members = np.flatnonzero(lump >= 0)
        lumps = np.unique(lump[members], return_inverse=True)[1]
        small, f = _solve_lumps(
            lumps, members, np.where(np.isnan(held), reduced > 0, held), c, scale, A, b, C
        )
        lam = small.multipliers
        reduced = score - A @ lam
        dual = _dual_value(lam, reduced, scale, b)
        if dual <= best_dual + 1e-3 * tol:
            best_dual, best_lam = min(dual, best_dual), lam
        size = np.bincount(lumps)[lumps]
        fractional = members[(size > 1) & (f[members] > 0) & (f[members] < 1)]
        wrong = np.where(f > 0.5, reduced < -_WRONG_SIGN, reduced > _WRONG_SIGN)
        wrong[members[size == 1]] = False
        wrong[fractional] = False
        wrong &= np.isnan(held)
        # A gap says nothing where the small program had to buy its feasibility.
        optimal = small.excess <= _FEASIBLE * n and best_dual - float(c @ f) / n <= 1e-2 * tol
        if not len(fractional) and (optimal or not wrong.any()):
            break
        if optimal:
            # Only lumps are left to be taken apart: hold what is whole, or ties are dealt out anew forever.
            whole = np.setdiff1d(members, np.union1d(fractional, members[size == 1]))
            held[whole] = f[whole]
            lump[whole] = -1
            wrong[:] = False
        joined = np.flatnonzero(wrong)
        nearest = _nearest(reduced, n_near)
        _assign(lump, np.union1d(joined, nearest[(lump[nearest] < 0) & np.isnan(held[nearest])]), A, n_rounds)
        for one in np.unique(lump[fractional]):
            _assign(lump, np.flatnonzero(lump == one), A, n_rounds)
    return Vertex(f, best_lam, small.free, best_dual, small.excess / n, n_rounds)


def _dual_value(lam: Array, reduced: Array, scale: Array, b: Array) -> float:
    return float(b @ lam + scale @ np.maximum(reduced, 0.0)) / len(reduced)


def _nearest(reduced: Array, count: int) -> Index:
    count = min(count, len(reduced))
    return np.argpartition(np.abs(reduced), count - 1)[:count] if count else np.zeros(0, dtype=np.int64)


def _assign(lump: Index, members: Index, A: Array, n_rounds: int) -> None:
    """Give `members` new lumps: one each where they are few, else equal parts in the order of their rows."""
    first = int(lump.max(initial=-1)) + 1
    if len(members) <= _MAX_SINGLES or n_rounds > _LUMPED_ROUNDS:
        lump[members] = first + np.arange(len(members))
        return
    order = members[np.argsort(A[members] @ np.cos(np.arange(A.shape[1])), kind="stable")]
    lump[order] = first + np.arange(len(order)) * _N_LUMPS // len(order)


def _sums(lumps: Index, values: Array, count: int) -> Array:
    return np.bincount(lumps, weights=values, minlength=count).astype(np.float64)


def _solve_lumps(
    lumps: Index,
    members: Index,
    decided_f: Array,
    c: Array,
    scale: Array,
    A: Array,
    b: Array,
    C: Array,
) -> tuple[SmallSolution, Array]:
    f = decided_f.astype(np.float64)
    f[members] = 0.0
    count = int(lumps.max(initial=-1)) + 1
    weighted = scale[members][:, None] * A[members]
    rows = np.stack([_sums(lumps, column, count) for column in weighted.T])
    decided = (scale * f) @ A
    small = small_program(_sums(lumps, c[members], count), rows, b - decided, C, penalty=PENALTY)
    x = np.where(small.x < _WHOLE, 0.0, np.where(small.x > 1 - _WHOLE, 1.0, small.x))
    f[members] = x[lumps]
    return small._replace(x=x), np.asarray(f, dtype=np.float64)
