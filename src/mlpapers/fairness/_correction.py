"""Offsets for the difference between the constraints as the posteriors see them and as the labels do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlpapers.fairness.constraints import ConstraintSystem
from mlpapers.fairness.solver import FairLPResult

__all__ = ["corrected"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_MAX_ROUNDS = 4
_DAMPED_FROM = 3
_STOP = 2e-4


def corrected(
    solution: FairLPResult,
    solve: Callable[[Array], FairLPResult],
    system: ConstraintSystem,
    A: Array,
    cell: Codes,
    y: Codes,
    weights: Array,
    *,
    shrink: bool,
) -> tuple[FairLPResult, Array]:
    r"""Solve again with bounds moved by what the rows miss on the labels.

    .. math:: e_k = E_w[f (A^{emp}_k - A_k)], \qquad
              \mathrm{SE}_k^2 = \sum_i w_i^2 (f_i (A^{emp}-A)_{ik} - e_k)^2,

    :math:`A^{emp}` having the indicators 1{S=m, Y=y} for the posteriors. Shrinking multiplies e_k by
    :math:`e_k^2 / (e_k^2 + \mathrm{SE}_k^2)`.

    Parameters
    ----------
    solution : FairLPResult
        With the plain bounds.
    solve : callable
        Bounds (Kc,) -> FairLPResult.
    system : ConstraintSystem
    A : ndarray of shape (n, Kc)
    cell, y : ndarray of shape (n,) of int
    weights : ndarray of shape (n,), of sum 1
    shrink : bool

    Returns
    -------
    solution : FairLPResult
    offsets : ndarray of shape (Kc,)
        The e that was subtracted from the bounds.
    """
    difference = system.functionals[:, cell, y].T - A
    offsets = np.zeros(len(system.b))
    for number in range(1, _MAX_ROUNDS + 1):
        missed = solution.f[:, None] * difference
        e = weights @ missed
        if shrink:
            noise = (weights**2) @ (missed - e) ** 2
            e = np.divide(e**3, e**2 + noise, out=np.zeros_like(e), where=e != 0)
        step = e - offsets
        if np.abs(step).max(initial=0.0) < _STOP:
            break
        offsets = offsets + (0.5 if number >= _DAMPED_FROM else 1.0) * step
        solution = solve(system.b - offsets)
    return solution, offsets
