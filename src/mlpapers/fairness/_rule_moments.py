"""What many threshold rules near one another select, in one pass over the samples."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["rule_moments"]

Array = NDArray[np.float64]
# Room for the rounding of a sum of a few products.
_SLACK = 1e-9


@njit(cache=True)
def rule_moments(functionals: Array, flat: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """Return E_w[s f_r] (R,) and E_w[gamma f_r] (D, R) of the rules f_r = 1{s > gamma . W_r}.

    Rules differ where the first one's margin is smaller than any difference of thresholds can be, so only
    these samples are put to all of them.

    Parameters
    ----------
    functionals : ndarray of shape (R, D)
        W.
    flat : ndarray of shape (n, D)
        gamma.
    score, weights : ndarray of shape (n,)
    """
    n_rules, width = functionals.shape
    objective, moments = np.zeros(n_rules), np.zeros((width, n_rules))
    spread = np.zeros(width)
    for r in range(n_rules):
        for j in range(width):
            spread[j] = max(spread[j], abs(functionals[r, j] - functionals[0, j]))
    total, sums = 0.0, np.zeros(width)
    for i in range(len(score)):
        threshold = reach = 0.0
        for j in range(width):
            threshold += flat[i, j] * functionals[0, j]
            reach += abs(flat[i, j]) * spread[j]
        first = score[i] > threshold
        if first:
            total += weights[i] * score[i]
            for j in range(width):
                sums[j] += weights[i] * flat[i, j]
        if abs(score[i] - threshold) > reach + _SLACK:
            continue
        for r in range(1, n_rules):
            threshold = 0.0
            for j in range(width):
                threshold += flat[i, j] * functionals[r, j]
            if (score[i] > threshold) != first:
                change = -weights[i] if first else weights[i]
                objective[r] += change * score[i]
                for j in range(width):
                    moments[j, r] += change * flat[i, j]
    for r in range(n_rules):
        objective[r] += total
        for j in range(width):
            moments[j, r] += sums[j]
    return objective, moments
