"""The rule as the paper writes it: one signed multiplier per group, thresholds that depend on the person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_choice, check_real
from mlpapers.fairness._checks import MEASURES, check_tolerance, constraint_blocks
from mlpapers.fairness.constraints import LinearConstraints, check_joint, rate_functionals
from mlpapers.fairness.solver import FairLPResult

__all__ = ["paper_functional", "paper_multipliers", "paper_rule"]

Array = NDArray[np.float64]


def paper_multipliers(result: FairLPResult, constraints: LinearConstraints) -> pd.Series:
    r"""Return the paper's signed multipliers, one per notion and group.

    For the mean difference :math:`\lambda_g = \lambda_{g,1} - \lambda_{g,2}` of the two one-sided rows, for
    the mean ratio the opposite; accuracy parity changes the sign, since the paper compares error rates.

    Parameters
    ----------
    result : FairLPResult
    constraints : LinearConstraints
        Those that were solved, with the reference "overall".

    Returns
    -------
    multipliers : Series indexed by (block, group)

    Raises
    ------
    ValueError
        For pairwise constraints and the ratio form "inverse", which the paper does not have.

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Theorems 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> import mlpapers.fairness as mf
    >>> X, _, _, truth = mf.make_gaussian_groups(2000, n_groups=2, random_state=0)
    >>> joint = truth.joint(X)
    >>> rows = mf.linear_constraints(joint, np.eye(2), tolerance=0.05)
    >>> solved = mf.solve_fair_lp(joint[:, :, 1].sum(axis=1) - 0.5, rows.A, rows.b, rows.C)
    >>> mf.paper_multipliers(solved, rows).round(3).tolist()
    [0.0, -0.38]
    """
    options = constraints.options
    ratio = options.measure == "ratio"
    if options.reference == "pairwise" or (ratio and options.ratio_form == "inverse"):
        raise ValueError(
            "constraints must have reference='overall', and as a ratio the form 'complement' or 'lower'; got "
            f"reference={options.reference!r}, ratio_form={options.ratio_form!r}"
        )
    labels = constraints.labels
    sign = np.where((labels["side"] == "first") == ratio, -1.0, 1.0)
    sign = np.where(labels["block"] == "accuracy_parity", -sign, sign)
    signed = labels[["block", "group"]].assign(multiplier=sign * result.multipliers)
    return signed.groupby(["block", "group"], sort=False)["multiplier"].sum()


def paper_functional(
    multipliers: Array,
    membership: NDArray[Any],
    base_rates: Array,
    *,
    blocks: tuple[str, ...],
    measure: str,
    tolerance: float,
) -> Array:
    r"""Return W (M, 2) with Q(x) = sum of gamma_{m,y}(x) W[m, y] for the paper's signed multipliers.

    For cells as groups this is Theorem 2 or 3; for overlapping groups
    :math:`Q = \sum_g \lambda_g (R_g - t r)`, with the opposite sign for accuracy parity.
    """
    t = 1.0 if measure == "difference" else 1.0 - tolerance
    W = np.zeros_like(base_rates)
    for block, lam in zip(blocks, multipliers.reshape(len(blocks), -1)):
        R, _, r, _ = rate_functionals(block, base_rates, membership)
        sign = -1.0 if block == "accuracy_parity" else 1.0
        W += sign * (np.tensordot(lam, R, axes=1) - t * lam.sum() * r)
    return W


def paper_rule(
    joint: ArrayLike,
    multipliers: ArrayLike,
    *,
    constraint: Any,
    measure: str = "difference",
    tolerance: float = 0.0,
    cost: float = 0.5,
    eta: ArrayLike | None = None,
    base_rates: ArrayLike | None = None,
) -> Array:
    r"""Evaluate the Bayes-optimal fair rule of the paper, literally.

    .. math:: H(x) = \eta(x) - c - Q(x), \qquad
              Q(x) = \sum_m \sum_y b_m^y (\lambda_m - t \Lambda a_m) \frac{P(S=m, Y=y \mid x)}{p_{m,y}},

    :math:`\Lambda = \sum_m \lambda_m`, t = 1 for the mean difference and 1 - tolerance for the mean ratio;
    (a, b) are the coefficients of Table 2. The rule predicts 1 where H > 0.

    Parameters
    ----------
    joint : array of shape (n, M, 2)
        Posteriors; the groups are the cells.
    multipliers : array of shape (M,) or (blocks * M,)
        Signed, of any size.
    constraint : str or tuple of str
    measure : {"difference", "ratio"}, default="difference"
    tolerance : float, default=0.0
        Enters through t only.
    cost : float, default=0.5
        c.
    eta : array of shape (n,), optional
        P(Y = 1 | x) of a model of its own; default the sum over the cells.
    base_rates : array of shape (M, 2), optional
        p_{m,y}; default the means of `joint`.

    Returns
    -------
    H : ndarray of shape (n,)

    Raises
    ------
    ValueError
        For arrays of other shapes, posteriors that do not sum to 1, or a cell whose base rate is 0.

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Theorems 2 and 3, Table 2.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.fairness import paper_rule
    >>> joint = np.array([[[0.1, 0.6], [0.1, 0.2]], [[0.2, 0.1], [0.4, 0.3]]])
    >>> paper_rule(joint, [0.0, 0.0], constraint="demographic_parity").round(2).tolist()
    [0.3, -0.1]
    >>> paper_rule(joint, [0.3, 0.0], constraint="demographic_parity").round(2).tolist()
    [0.18, 0.02]
    """
    blocks = constraint_blocks(constraint)
    check_choice("measure", measure, MEASURES)
    t = 1.0 if measure == "difference" else 1.0 - check_tolerance(tolerance)
    c = check_real("cost", cost, low=0.0, high=1.0, closed="neither")
    gamma = check_joint(joint)
    p = gamma.mean(axis=0) if base_rates is None else np.asarray(base_rates, dtype=np.float64)
    if p.shape != gamma.shape[1:]:
        raise ValueError(f"base_rates must have shape {gamma.shape[1:]}; got {p.shape}")
    if not (np.isfinite(p) & (p > 0)).all():
        raise ValueError(f"base_rates must be positive, the rule divides by them; got {p.tolist()}")
    lam = np.asarray(multipliers, dtype=np.float64).ravel()
    if lam.shape != (len(blocks) * len(p),) or not np.isfinite(lam).all():
        raise ValueError(f"multipliers must be {len(blocks) * len(p)} finite numbers; got shape {lam.shape}")
    score = gamma[:, :, 1].sum(axis=1) if eta is None else np.asarray(eta, dtype=np.float64)
    if score.shape != gamma.shape[:1] or not np.isfinite(score).all():
        raise ValueError(f"eta must be {len(gamma)} finite numbers; got shape {score.shape}")
    normalised = gamma / p  # P(S=m, Y=y | x) / p_{m,y}
    Q = np.zeros(len(gamma))
    for block, lam_block in zip(blocks, lam.reshape(len(blocks), -1)):
        a, b = table_coefficients(block, p)
        Q += np.einsum("nmy,my,m->n", normalised, b, lam_block - t * lam_block.sum() * a)
    return score - c - Q


def table_coefficients(notion: str, p: Array) -> tuple[Array, Array]:
    """Return (a_m (M,), b_m^y (M, 2)) of the paper's Table 2."""
    p_m = p.sum(axis=1)
    given_m = p / p_m[:, None]  # P(Y=y | m)
    y = np.array([0.0, 1.0])
    if notion == "demographic_parity":
        return p_m, given_m
    if notion == "equal_opportunity":
        return p[:, 1] / p[:, 1].sum(), np.tile(y, (len(p), 1))
    if notion == "predictive_equality":
        return p[:, 0] / p[:, 0].sum(), np.tile(1.0 - y, (len(p), 1))
    return p_m, given_m * (1.0 - 2.0 * y)
