"""Three estimates of the variance of an incomplete U-statistic, and which of them to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from mlpapers.core.validation import check_int
from mlpapers.valuation._ustatistic import jackknife_sums

__all__ = [
    "VarianceEstimate",
    "double_monte_carlo",
    "infinitesimal_jackknife",
    "ks_distance",
    "pick_and_freeze",
    "recommend_variance",
]

# Evaluations below which pick-and-freeze is known to under-cover.
PF_MIN_EVALUATIONS = 1000
_LARGE_BUDGET = 10_000
# Fewer families than this leave the variance between them to chance.
_MIN_FAMILIES = 10


@dataclass(frozen=True, eq=False)
class VarianceEstimate:
    r"""Variance :math:`V = s^2 \zeta_1 / n + \zeta_{tot} / B` of T incomplete U-statistics.

    Parameters
    ----------
    variance : ndarray of shape (T,)
        V.
    zeta1 : ndarray of shape (T,)
        :math:`\zeta_1 = Var(E[h | Z_1])`, what one sample point decides.
    zeta_tot : ndarray of shape (T,)
        :math:`\zeta_{tot} = Var(h)` over sample points and random numbers.
    clipped : ndarray of shape (T,) of bool
        Whether the estimate of :math:`\zeta_1` was negative and set to 0.
    """

    variance: NDArray[np.float64]
    zeta1: NDArray[np.float64]
    zeta_tot: NDArray[np.float64]
    clipped: NDArray[np.bool_]


def infinitesimal_jackknife(
    h: ArrayLike, tuples: ArrayLike, n: int, *, targets: ArrayLike | None = None
) -> VarianceEstimate:
    r"""Variance from the B evaluations already made: no further ones.

    With :math:`N_{bi} = 1[i \in S_b]` and
    :math:`c_i = \frac1B \sum_b (N_{bi} - \bar N_i)(h_b - \hat\theta)`,

    .. math::
        V = \max\Big(\sum_i c_i^2 - n \frac sn \Big(1 - \frac sn\Big) \frac{\zeta_{tot}}B, 0\Big)
            \frac{n-1}n \Big(\frac n{n-s}\Big)^2 + \frac{\zeta_{tot}}B .

    The subtracted term is what :math:`\sum c_i^2` would be from Monte Carlo noise alone; the factor corrects
    for drawing without replacement. :math:`\zeta_1` is read off V.

    Parameters
    ----------
    h : array-like of shape (T, B)
        Kernel values of T targets for B subsets.
    tuples : array-like of shape (B, s + 1) of int
        Subsets in the first s columns. The last is the spare that stands in where the target is in the
        subset.
    n : int
        Points of the sample.
    targets : array-like of shape (T,) of int, optional
        Training index of each target, which is then valued by the other n - 1 points; -1, the default, for a
        target outside the sample.

    Returns
    -------
    VarianceEstimate

    Raises
    ------
    ValueError
        If s is larger than n / 2.
    """
    values = np.atleast_2d(np.asarray(h, dtype=np.float64))
    members = np.ascontiguousarray(tuples, dtype=np.int64)
    s, n_subsets = members.shape[1] - 1, len(members)
    index = np.full(len(values), -1) if targets is None else np.asarray(targets, dtype=np.int64)
    if 2 * s > n:
        raise ValueError(f"subset_size must be at most n / 2 = {n / 2:g} for the jackknife; got {s}")
    sums = np.empty(len(values))
    jackknife_sums(values - values.mean(axis=1, keepdims=True), members, index, n, sums)
    zeta_tot = values.var(axis=1, ddof=1)
    others = n - (index >= 0)
    if np.any(others <= s):
        raise ValueError(
            f"X must have more than {s + 1} rows for subsets of size {s} without the target; got {n}"
        )
    raw = sums - s * (1.0 - s / others) * zeta_tot / n_subsets
    spread = np.maximum(raw, 0.0) * (others - 1.0) / others * (others / (others - s)) ** 2
    return VarianceEstimate(spread + zeta_tot / n_subsets, spread * others / s**2, zeta_tot, raw < 0.0)


def double_monte_carlo(
    inner: ArrayLike,
    zeta_tot: ArrayLike,
    n: ArrayLike,
    size: int,
    n_subsets: int,
    *,
    bias_correct: bool = False,
) -> VarianceEstimate:
    r"""Variance from families of subsets that share one sample point: the spread of the family means.

    With :math:`S_b^2` the sample variance of the means of the families and :math:`S_w^2` the mean of the
    sample variances inside them, :math:`\zeta_1 = S_b^2`, which is too large by :math:`S_w^2 / n_{inner}` on
    average (so intervals are conservative); corrected, :math:`\zeta_1 = \max(S_b^2 - S_w^2 / n_{inner}, 0)`.

    Parameters
    ----------
    inner : array-like of shape (T, n_outer, n_inner)
        Kernel values of T targets, a row per family.
    zeta_tot : array-like of shape (T,)
        Variance of the kernel.
    n : int or array-like of shape (T,)
        Points of the sample, without the target.
    size, n_subsets : int
        s and B of the U-statistic.
    bias_correct : bool, default=False

    Returns
    -------
    VarianceEstimate
    """
    values = np.asarray(inner, dtype=np.float64)
    between = values.mean(axis=2).var(axis=1, ddof=1)
    if bias_correct:
        between = between - values.var(axis=2, ddof=1).mean(axis=1) / values.shape[2]
    return _assemble(between, zeta_tot, n, size, n_subsets)


def pick_and_freeze(
    pairs: ArrayLike, zeta_tot: ArrayLike, n: ArrayLike, size: int, n_subsets: int
) -> VarianceEstimate:
    r"""Variance from pairs of subsets that share one sample point: their covariance.

    .. math::
        \zeta_1 = \frac1N \sum_r Y_r Y'_r - \Big(\frac1N \sum_r \frac{Y_r + Y'_r}2\Big)^2,

    unbiased to O(1/N), clipped at 0.

    Parameters
    ----------
    pairs : array-like of shape (T, N, 2)
        Kernel values of T targets, a row per pair.
    zeta_tot, n, size, n_subsets
        As in :func:`double_monte_carlo`.

    Returns
    -------
    VarianceEstimate
    """
    values = np.asarray(pairs, dtype=np.float64)
    # Shifting both by one constant leaves the covariance unchanged and keeps its digits.
    shifted = values - values.mean(axis=(1, 2), keepdims=True)
    zeta1 = (shifted[:, :, 0] * shifted[:, :, 1]).mean(axis=1)
    return _assemble(zeta1, zeta_tot, n, size, n_subsets)


def _assemble(
    raw: NDArray[np.float64], zeta_tot: ArrayLike, n: ArrayLike, size: int, n_subsets: int
) -> VarianceEstimate:
    zeta1, total = np.maximum(raw, 0.0), np.asarray(zeta_tot, dtype=np.float64)
    return VarianceEstimate(size**2 * zeta1 / np.asarray(n) + total / n_subsets, zeta1, total, raw < 0.0)


def recommend_variance(n: int, s: int, budget: int) -> dict[str, Any]:
    """Say which variance estimate to take, as arguments of `UStatisticShapley`.

    - No evaluations to spare, or too few for 10 families: "ij" reuses those of the estimate itself.
    - Up to 2000: "dmc", uncorrected, with families of s or more; its bias errs on the safe side and vanishes
      as families grow, while the others under-cover. Up to 10000 the same.
    - From 10000 on: "dmc" corrected, which is unbiased, and steadier than "pf" at equal cost.

    "ij" needs s <= n / 2; where that fails, "dmc" is returned for any budget.

    Parameters
    ----------
    n : int
        Points of the sample.
    s : int
        Subset size.
    budget : int
        Kernel evaluations per target that can be spent on the variance, beyond those of the estimate.

    Returns
    -------
    dict
        ``variance`` and, for "dmc", ``n_outer``, ``n_inner`` (their product within the budget where it allows
        10 families) and ``bias_correct``.

    Raises
    ------
    ValueError, TypeError
        Unless n >= 2, 1 <= s <= n - 1, budget >= 0 are integers.

    Examples
    --------
    >>> recommend_variance(n=1000, s=31, budget=0)
    {'variance': 'ij'}
    >>> recommend_variance(n=1000, s=31, budget=2000)
    {'variance': 'dmc', 'n_outer': 64, 'n_inner': 31, 'bias_correct': False}
    """
    n = check_int("n", n, minimum=2)
    s = check_int("s", s, minimum=1, maximum=n - 1)
    budget = check_int("budget", budget, minimum=0)
    n_inner = max(s, 2)
    n_outer = budget // n_inner
    if n_outer < _MIN_FAMILIES and 2 * s <= n:
        return {"variance": "ij"}
    corrected = budget >= _LARGE_BUDGET and n_outer >= _MIN_FAMILIES
    return {
        "variance": "dmc",
        "n_outer": max(n_outer, _MIN_FAMILIES),
        "n_inner": n_inner,
        "bias_correct": corrected,
    }


def ks_distance(sample: ArrayLike) -> float:
    r"""Return :math:`\sup_x |F_m(x) - \Phi(x)|`, the Kolmogorov-Smirnov distance of m numbers to N(0, 1)."""
    z = np.sort(np.asarray(sample, dtype=np.float64))
    steps = np.arange(len(z) + 1) / len(z)
    normal = ndtr(z)
    return float(max((steps[1:] - normal).max(), (normal - steps[:-1]).max()))
