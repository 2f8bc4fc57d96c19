"""The linear program of fair classification, solved exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real
from mlpapers.fairness._boundary import Program, approach
from mlpapers.fairness._checks import check_weights
from mlpapers.fairness._crossover import crossover
from mlpapers.fairness._edges import MAX_EDGES, descend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SOLVERS", "FairLPResult", "solve_fair_lp"]

SOLVERS = ("auto", "ipm", "sifting", "highs")
Array = NDArray[np.float64]
# Scores and rows this far from 1 are solved in other units: tolerances and starting points are absolute.
_FAR = 2.0**20
# What counts as a violated row, relative to weights that sum to 1.
_INFEASIBLE = 1e-7
# Multipliers this close to optimal leave the crossover few samples to decide.
_INTERIOR = 1e-8
# With so many rows, and fewer samples than this many for each, the interior point's systems of one equation
# per row cost more than linear programs over a few hundred samples.
_MANY_ROWS = 800
_SAMPLES_PER_ROW = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class FairLPResult(Result):
    r"""An optimal randomised classifier on a sample, and the multipliers that make it a threshold rule.

    Parameters
    ----------
    multipliers : ndarray of shape (Kc,)
        One per constraint, non-negative.
    f : ndarray of shape (n,)
        P(Yhat = 1) at each sample; all but a few entries are 0 or 1.
    free : ndarray of shape (p,)
        The free scalars u.
    primal : float
        :math:`E_w[s f]`.
    dual : float
        :math:`\lambda \cdot b + E_w[(s - A \lambda)_+]`, never below the optimum.
    gap : float
        dual - primal.
    n_fractional : int
        Entries of f strictly between 0 and 1.
    n_iter : int
        Interior-point iterations plus rounds of the crossover, or pivots from a warm start.
    status : {"optimal", "infeasible", "stalled"}
    """

    multipliers: Array
    f: Array
    free: Array
    primal: float
    dual: float
    gap: float
    n_fractional: int
    n_iter: int
    status: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per constraint: its number and multiplier."""
        return pd.DataFrame({"row": np.arange(len(self.multipliers)), "multiplier": self.multipliers})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the multipliers as bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.bar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        ax.bar(np.arange(len(self.multipliers)), self.multipliers, **options)
        ax.set_xlabel("constraint")
        ax.set_ylabel("multiplier")
        return ax


def solve_fair_lp(
    score: ArrayLike,
    A: ArrayLike,
    b: ArrayLike,
    C: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    method: str = "auto",
    tol: float = 1e-9,
    max_iter: int = 100,
    warm_start: ArrayLike | None = None,
) -> FairLPResult:
    r"""Maximise the score of a randomised classifier under linear constraints, exactly.

    .. math:: \max_{f \in [0,1]^n,\, u} E_w[s f] \quad \text{subject to} \quad
              E_w[f A_k] + (C u)_k \le b_k \quad (k = 1, \dots, K_c),

    whose dual is :math:`\min_{\lambda \ge 0,\, C^T \lambda = 0} \lambda \cdot b + E_w[(s - A\lambda)_+]`. An
    optimal f is 1 where :math:`s > A\lambda`, 0 where :math:`s < A\lambda`, and fractional at no more than
    :math:`K_c + p` samples. An interior-point method whose linear systems have size :math:`K_c + p` finds
    :math:`\lambda`; linear programs over the few undecided samples make it exact. Time
    :math:`O(n K_c^2)` per iteration, memory :math:`O(n K_c)`.

    Parameters
    ----------
    score : array of shape (n,)
        s, for the cost-sensitive risk eta - c.
    A : array of shape (n, Kc)
    b : array of shape (Kc,)
    C : array of shape (Kc, p), optional
        Coefficients of free scalars; None for none.
    sample_weight : array of shape (n,), optional
        w; normalised to sum 1.
    method : {"auto", "ipm", "sifting", "highs"}, default="auto"
        "ipm" is the interior point and the crossover; from `warm_start` it looks at the samples near the
        boundary first. "sifting" is the crossover alone, from `warm_start` or from 0. "auto" descends along
        the edges of the dual from `warm_start`, for up to 64 rows; else it is "sifting" for 800 rows and more
        with at most 4 samples each, and "ipm" otherwise and wherever the others end short of the optimum.
        "highs" is a general solver on the full program, for reference.
    tol : float, default=1e-9
        Duality gap per unit of weight; per unit of the score too, where that is beyond a million or below a
        millionth.
    max_iter : int, default=100
        Interior-point iterations at most.
    warm_start : array of shape (Kc,), optional
        Multipliers of a neighbouring problem.

    Returns
    -------
    result : FairLPResult
        `status` is "infeasible" where no f satisfies the rows, "stalled" where the gap stays above `tol`.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or an unknown method.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.fairness import linear_constraints, make_gaussian_groups
    >>> X, _, _, truth = make_gaussian_groups(2000, n_groups=2, random_state=0)
    >>> joint = truth.joint(X)
    >>> score = joint[:, :, 1].sum(axis=1) - 0.5
    >>> for tolerance in (0.2, 0.05, 0.0):
    ...     rows = linear_constraints(joint, np.eye(2), tolerance=tolerance)
    ...     print(tolerance, round(solve_fair_lp(score, rows.A, rows.b, rows.C).primal, 3))
    0.2 0.144
    0.05 0.132
    0.0 0.108
    """
    check_choice("method", method, SOLVERS)
    tol = check_real("tol", tol, low=0.0, closed="neither")
    max_iter = check_int("max_iter", max_iter, minimum=1)
    s, rows, bounds, free = _check_program(score, A, b, C)
    weights = check_weights(sample_weight, len(s))
    start = _check_start(warm_start, len(bounds))
    if not len(bounds):
        return _result(
            s, rows, bounds, free, weights, np.zeros(0), (s > 0).astype(float), np.zeros(0), 0, tol
        )
    of_score, of_rows = _unit(s), _unit(rows)
    far = bool(of_score != 1.0 or (of_rows != 1.0).any())
    if far:
        # In other units the multipliers are of_score / of_rows times as large.
        s, rows, bounds, free = s * of_score, rows * of_rows, bounds * of_rows, free * of_rows[:, None]
        start = None if start is None else start * (of_score / of_rows)
    if method == "highs":
        result = _solve_highs(s, rows, bounds, free, weights, tol)
    else:
        result = _solve_exactly(s, rows, bounds, free, weights, start, method, tol, max_iter)
    if not far:
        return result
    return replace(
        result,
        multipliers=result.multipliers * (of_rows / of_score),
        primal=result.primal / float(of_score),
        dual=result.dual / float(of_score),
        gap=result.gap / float(of_score),
    )


def _unit(values: Array) -> Array:
    """Return the power of two that brings each column to about 1, and 1 where the solver takes it."""
    size = np.maximum(values.max(axis=0, initial=0.0), -values.min(axis=0, initial=0.0))
    far = (size > 0.0) & ((size < 1.0 / _FAR) | (size > _FAR))
    return np.where(far, np.exp2(-np.floor(np.log2(np.where(far, size, 1.0)))), 1.0)


def _solve_exactly(
    s: Array,
    A: Array,
    b: Array,
    C: Array,
    weights: Array,
    start: Array | None,
    method: str,
    tol: float,
    max_iter: int,
) -> FairLPResult:
    keep = _distinct_rows(A, b, C)
    if not len(keep):
        nothing = np.zeros(len(b)), (s > 0).astype(np.float64), np.zeros(C.shape[1])
        return _result(s, A, b, C, weights, *nothing, 0, tol)
    heavy = weights > 0
    all_heavy = bool(heavy.all())
    score = s if all_heavy else s[heavy]
    rows = A if all_heavy and len(keep) == len(b) else A[np.ix_(heavy, keep)]
    n = len(score)
    scale = (weights if all_heavy else weights[heavy]) * n
    c, bb, free = scale * score, b[keep] * n, C[keep]

    if start is not None and method == "auto" and len(keep) <= MAX_EDGES:
        corner = descend(np.ascontiguousarray(rows.T), score, scale, bb, free, start[keep])
        if corner is not None:
            lifted = _lifted(s, A, heavy, keep, corner.multipliers, corner.x)
            result = _result(s, A, b, C, weights, *lifted, corner.free / n, corner.n_pivots, tol)
            # Rounding may have led it astray; then the interior point starts from the same multipliers.
            if result.status == "optimal":
                return result

    sift = method == "sifting"
    if method == "auto":
        sift = len(keep) >= _MANY_ROWS and n <= _SAMPLES_PER_ROW * len(keep)

    lam = np.zeros(len(keep)) if start is None else np.maximum(start[keep], 0.0)
    interior: Array | None = None
    n_iter = 0
    if not sift:
        point = approach(
            Program(score, scale, rows, bb, free),
            None if start is None else lam,
            tol=max(tol, _INTERIOR),
            max_iter=max_iter,
        )
        lam, interior, n_iter = point.multipliers, point.f, point.n_iter
    vertex = crossover(c, score, scale, rows, bb, free, lam, tol=tol, start=interior)
    lifted = _lifted(s, A, heavy, keep, vertex.multipliers, vertex.f)
    result = _result(s, A, b, C, weights, *lifted, vertex.free / n, n_iter + vertex.n_rounds, tol)
    if sift and method == "auto" and result.status == "stalled":
        return _solve_exactly(s, A, b, C, weights, start, "ipm", tol, max_iter)
    return result


def _lifted(
    s: Array, A: Array, heavy: NDArray[np.bool_], keep: NDArray[np.int64], some: Array, f: Array
) -> tuple[Array, Array]:
    """Return multipliers of all rows and f of all samples from those that were solved with."""
    multipliers = np.zeros(A.shape[1])
    multipliers[keep] = some
    if len(f) == len(s):
        return multipliers, f
    # Weightless samples follow the rule like any new point.
    everyone = (s > A @ multipliers).astype(np.float64)
    everyone[heavy] = f
    return multipliers, everyone


def _solve_highs(s: Array, A: Array, b: Array, C: Array, weights: Array, tol: float) -> FairLPResult:
    """Solve with a general solver over all n variables."""
    n, p = len(s), C.shape[1]
    scale = weights * n
    bounds = np.vstack([np.tile([0.0, 1.0], (n, 1)), np.tile([-np.inf, np.inf], (p, 1))])
    answer = linprog(
        np.concatenate([-scale * s, np.zeros(p)]),
        A_ub=np.hstack([(scale[:, None] * A).T, C]),
        b_ub=n * b,
        bounds=bounds,
        method="highs",
    )
    if answer.status != 0:
        nothing = np.full(len(b), np.nan)
        return FairLPResult(
            multipliers=nothing,
            f=np.full(n, np.nan),
            free=np.full(p, np.nan),
            primal=np.nan,
            dual=np.nan,
            gap=np.nan,
            n_fractional=0,
            n_iter=int(answer.nit),
            status="infeasible" if answer.status == 2 else "stalled",
        )
    lam = np.maximum(-answer.ineqlin.marginals, 0.0)
    f = np.clip(answer.x[:n], 0.0, 1.0)
    return _result(s, A, b, C, weights, lam, f, answer.x[n:] / n, int(answer.nit), max(tol, 1e-7))


def _result(
    s: Array,
    A: Array,
    b: Array,
    C: Array,
    weights: Array,
    multipliers: Array,
    f: Array,
    free: Array,
    n_iter: int,
    tol: float,
) -> FairLPResult:
    primal = float((weights * s) @ f)
    dual = float(b @ multipliers + weights @ np.maximum(s - A @ multipliers, 0.0))
    excess = float(((weights * f) @ A + C @ free - b).max(initial=0.0))
    gap = dual - primal
    status = "optimal" if gap <= max(tol, 1e-12) else "stalled"
    if excess > _INFEASIBLE:
        status = "infeasible"
    return FairLPResult(
        multipliers=multipliers,
        f=f,
        free=free,
        primal=primal,
        dual=dual,
        gap=gap,
        n_fractional=int(((f > 0) & (f < 1)).sum()),
        n_iter=n_iter,
        status=status,
    )


def _distinct_rows(A: Array, b: Array, C: Array) -> NDArray[np.int64]:
    """Return the rows to solve with: of equal ones the tightest, and none that says nothing."""
    marks = np.column_stack([np.sqrt(np.arange(1.0, len(A) + 1.0)) @ A, C])
    kept: dict[bytes, list[int]] = {}
    for k in range(len(b)):
        if b[k] >= 0 and not marks[k].any() and not A[:, k].any():
            continue
        alike = kept.setdefault(marks[k].tobytes(), [])
        for position, other in enumerate(alike):
            if np.array_equal(A[:, k], A[:, other]):
                alike[position] = k if b[k] < b[other] else other
                break
        else:
            alike.append(k)
    return np.array(sorted(k for alike in kept.values() for k in alike), dtype=np.int64)


def _check_program(
    score: ArrayLike, A: ArrayLike, b: ArrayLike, C: ArrayLike | None
) -> tuple[Array, Array, Array, Array]:
    s, rows, bounds = (np.asarray(array, dtype=np.float64) for array in (score, A, b))
    free = np.zeros((len(bounds), 0)) if C is None else np.asarray(C, dtype=np.float64)
    if s.ndim != 1 or not len(s):
        raise ValueError(f"score must be a non-empty 1-D array; got shape {s.shape}")
    if bounds.ndim != 1:
        raise ValueError(f"b must be 1-D; got shape {bounds.shape}")
    if rows.shape != (len(s), len(bounds)):
        raise ValueError(f"A must have shape ({len(s)}, {len(bounds)}); got {rows.shape}")
    if free.ndim != 2 or len(free) != len(bounds):
        raise ValueError(f"C must have shape ({len(bounds)}, p); got {free.shape}")
    for name, array in (("score", s), ("A", rows), ("b", bounds), ("C", free)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    return s, rows, bounds, free


def _check_start(warm_start: ArrayLike | None, n_rows: int) -> Array | None:
    if warm_start is None:
        return None
    start = np.asarray(warm_start, dtype=np.float64)
    if start.shape != (n_rows,) or not np.isfinite(start).all():
        raise ValueError(f"warm_start must be {n_rows} finite numbers; got shape {start.shape}")
    return start
