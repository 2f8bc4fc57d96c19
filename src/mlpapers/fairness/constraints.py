"""Fairness constraints as linear inequalities in the classifier."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_choice
from mlpapers.fairness._checks import (
    MEASURES,
    RATIO_FORMS,
    REFERENCES,
    FairnessWarning,
    check_tolerance,
    check_weights,
    constraint_blocks,
)

__all__ = [
    "ConstraintOptions",
    "ConstraintSystem",
    "LinearConstraints",
    "build_system",
    "check_joint",
    "check_options",
    "constraint_rows",
    "linear_constraints",
    "mean_rates",
    "rate_functionals",
    "usable_groups",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearConstraints:
    r"""Rows :math:`E_w[f A_k] + (C u)_k \le b_k` that a randomised classifier f has to satisfy.

    Parameters
    ----------
    A : ndarray of shape (n, Kc)
        One column per constraint, its values at the n samples.
    b : ndarray of shape (Kc,)
    C : ndarray of shape (Kc, p)
        Coefficients of the free scalars u, one for each notion where the reference is "pairwise"; p = 0
        otherwise.
    labels : DataFrame with the columns block, group, side
        What each constraint says: the notion, the group, and "first" or "second" of the group's rows.
    options : ConstraintOptions
        What the rows bound: (blocks, measure, tolerance, reference, ratio_form).
    """

    A: Array
    b: Array
    C: Array
    labels: pd.DataFrame
    options: ConstraintOptions


class ConstraintOptions(NamedTuple):
    """What is asked of the rates, checked."""

    blocks: tuple[str, ...]
    measure: str
    tolerance: float
    reference: str
    ratio_form: str


@dataclass(frozen=True, eq=False)
class ConstraintSystem:
    """The constraints as functionals of the joint posterior: row k is the sum of gamma_{m,y}(x) V[k, m, y].

    The functionals depend on base rates only, so the same ones serve new points.
    """

    functionals: Array  # (Kc, M, 2)
    b: Array  # (Kc,)
    C: Array  # (Kc, p)
    meaning: tuple[tuple[str, Any, str], ...]  # block, group and side of each row
    options: ConstraintOptions

    @property
    def labels(self) -> pd.DataFrame:
        """What the rows mean, as a table."""
        return pd.DataFrame(list(self.meaning), columns=["block", "group", "side"])

    def rows(self, joint: Array) -> Array:
        """Return A (n, Kc) at the points whose posteriors are `joint` (n, M, 2)."""
        width = joint.shape[1] * joint.shape[2]
        return joint.reshape(-1, width) @ self.functionals.reshape(-1, width).T

    def combine(self, multipliers: Array) -> Array:
        """Return W (M, 2) with Q(x) = sum_k multipliers_k A_k(x) = sum of gamma_{m,y}(x) W[m, y]."""
        return np.tensordot(multipliers, self.functionals, axes=1)


def check_options(
    constraint: Any, measure: Any, tolerance: Any, reference: Any, ratio_form: Any
) -> ConstraintOptions:
    """Return the five options of a constraint; ValueError names the first that is not allowed."""
    return ConstraintOptions(
        constraint_blocks(constraint),
        check_choice("measure", measure, MEASURES),
        check_tolerance(tolerance),
        check_choice("reference", reference, REFERENCES),
        check_choice("ratio_form", ratio_form, RATIO_FORMS),
    )


def check_joint(joint: ArrayLike) -> Array:
    """Return posteriors (n, M, 2) as float64; ValueError unless each sample's sum to 1."""
    array = np.asarray(joint, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 2:
        raise ValueError(f"joint must have shape (n, M, 2); got {array.shape}")
    if (array < 0).any() or not np.allclose(array.sum(axis=(1, 2)), 1.0, rtol=0.0, atol=1e-6):
        raise ValueError("joint must hold probabilities that sum to 1 for every sample")
    return array


def mean_rates(joint: Array, weights: Array) -> Array:
    """Return base rates p_{m,y} (M, 2): the weighted means of the posteriors."""
    return np.tensordot(weights, joint, axes=1)


def rate_functionals(
    notion: str, base_rates: Array, membership: NDArray[Any]
) -> tuple[Array, Array, Array, float]:
    r"""Return (R, k_g, r, k): the group rates and the population rate as affine functions of f.

    .. math:: \mathrm{rate}_g(f) = E\Big[f \sum_{m,y} R_{gmy} \gamma_{m,y}\Big] + k_g, \qquad
              \mathrm{rate}(f) = E\Big[f \sum_{m,y} r_{my} \gamma_{m,y}\Big] + k.

    Parameters
    ----------
    notion : str
        One of the four notions.
    base_rates : ndarray of shape (M, 2)
    membership : ndarray of shape (M, J)

    Returns
    -------
    R : ndarray of shape (J, M, 2); k_g : ndarray of shape (J,); r : ndarray of shape (M, 2); k : float
    """
    G = np.asarray(membership, dtype=np.float64)
    group_rates = base_rates.T @ G  # (2, J)
    positive = float(base_rates[:, 1].sum())
    negative = float(base_rates[:, 0].sum())
    ones = np.ones((len(G), 1))
    zero = np.zeros(G.shape[1])
    if notion == "demographic_parity":
        sign, event = np.array([1.0, 1.0]), group_rates.sum(axis=0)
        k_g, k, scale = zero, 0.0, 1.0
    elif notion == "equal_opportunity":
        sign, event = np.array([0.0, 1.0]), group_rates[1]
        k_g, k, scale = zero, 0.0, 1.0 / positive
    elif notion == "predictive_equality":
        sign, event = np.array([1.0, 0.0]), group_rates[0]
        k_g, k, scale = zero, 0.0, 1.0 / negative
    else:
        sign, event = np.array([-1.0, 1.0]), group_rates.sum(axis=0)
        k_g, k, scale = group_rates[0] / event, negative, 1.0
    R = (G / event).T[:, :, None] * sign
    return R, k_g, ones * sign * scale, k


def usable_groups(blocks: Sequence[str], events: Array) -> list[NDArray[np.bool_]]:
    """Return for each block which groups have mass in the events that it needs.

    `events` (J, 2) holds the mass of {group, Y = y}; only "equal_opportunity" and "predictive_equality" look
    at one label alone.
    """
    needed = {"equal_opportunity": events[:, 1], "predictive_equality": events[:, 0]}
    return [needed.get(block, events.sum(axis=1)) > 0 for block in blocks]


def build_system(
    base_rates: Array,
    membership: NDArray[Any],
    options: ConstraintOptions,
    *,
    names: Sequence[Any] | None = None,
    keep: Sequence[NDArray[np.bool_]] | None = None,
) -> ConstraintSystem:
    """Return the constraint rows, ordered by block, group, side.

    Parameters
    ----------
    base_rates : ndarray of shape (M, 2)
    membership : ndarray of shape (M, J)
    options : ConstraintOptions
    names : sequence of J names, optional
        What groups are called in the labels; default their numbers.
    keep : sequence of ndarray of shape (J,) of bool, optional
        For each block the groups to constrain; default all.
    """
    membership = np.asarray(membership)
    names = list(range(membership.shape[1])) if names is None else names
    keep = [np.ones(membership.shape[1], dtype=bool)] * len(options.blocks) if keep is None else keep
    functionals, b, C, sides = constraint_rows(base_rates, membership, options, keep)
    meaning = tuple((options.blocks[block], names[group], side) for block, group, side in sides)
    return ConstraintSystem(functionals, b, C, meaning, options)


def constraint_rows(
    base_rates: Array,
    membership: NDArray[Any],
    options: ConstraintOptions,
    keep: Sequence[NDArray[np.bool_]],
) -> tuple[Array, Array, Array, list[tuple[int, int, str]]]:
    """Return functionals (Kc, M, 2), b (Kc,), C (Kc, p) and the (block, group, side) of each row, by number.

    All but the last are affine in the tolerance.
    """
    rows: list[Array] = []
    bounds: list[float] = []
    free: list[float] = []
    sides: list[tuple[int, int, str]] = []
    for block, notion in enumerate(options.blocks):
        groups = np.flatnonzero(keep[block])
        if not len(groups):
            continue
        R, k_g, r, k = rate_functionals(notion, base_rates, membership[:, groups])
        for j, group in enumerate(groups.tolist()):
            for side, (row, bound, coefficient) in zip(
                ("first", "second"), _sides(R[j], float(k_g[j]), r, k, options)
            ):
                rows.append(row)
                bounds.append(bound)
                free.append(coefficient)
                sides.append((block, group, side))
    C = np.zeros((len(rows), len(options.blocks) if options.reference == "pairwise" else 0))
    if C.shape[1]:
        C[np.arange(len(rows)), [block for block, _, _ in sides]] = free
    functionals = np.array(rows).reshape((len(rows), len(membership), 2))
    return functionals, np.array(bounds, dtype=np.float64), C, sides


def _sides(
    R: Array, k_g: float, r: Array, k: float, options: ConstraintOptions
) -> list[tuple[Array, float, float]]:
    """Return (functional, bound, coefficient of u) of one group's rows."""
    delta, tau = options.tolerance, 1.0 - options.tolerance
    if options.reference == "pairwise":
        if options.measure == "difference":
            return [(-R, k_g, 1.0), (R, delta - k_g, -1.0)]
        return [(-R, k_g, tau), (R, -k_g, -1.0)]
    if options.measure == "difference":
        return [(R - r, delta - (k_g - k), 0.0), (r - R, delta + (k_g - k), 0.0)]
    lower = (tau * r - R, k_g - tau * k, 0.0)
    if options.ratio_form == "complement":
        return [lower, (R - tau * r, (1.0 - tau) - (k_g - tau * k), 0.0)]
    if options.ratio_form == "inverse":
        return [lower, (tau * R - r, k - tau * k_g, 0.0)]
    return [lower]


def linear_constraints(
    joint: ArrayLike,
    membership: ArrayLike,
    *,
    constraint: Any = "demographic_parity",
    measure: str = "difference",
    tolerance: float = 0.05,
    reference: str = "overall",
    ratio_form: str = "complement",
    sample_weight: ArrayLike | None = None,
) -> LinearConstraints:
    r"""Write group fairness as linear inequalities in the classifier f.

    Group rates are affine in f, :math:`\mathrm{rate}_g(f) = E[f R_g] + k_g` and
    :math:`\mathrm{rate}(f) = E[f r] + k`; with :math:`\tau` = 1 - tolerance the rows say

    - difference, overall: :math:`|\mathrm{rate}_g - \mathrm{rate}| \le` tolerance;
    - ratio, overall: "complement" :math:`\mathrm{rate}_g \ge \tau\,\mathrm{rate}` and
      :math:`1 - \mathrm{rate}_g \ge \tau (1 - \mathrm{rate})`; "inverse"
      :math:`\mathrm{rate}_g \ge \tau\,\mathrm{rate}` and :math:`\mathrm{rate} \ge \tau\,\mathrm{rate}_g`;
      "lower" the first alone;
    - pairwise: :math:`\max_g \mathrm{rate}_g - \min_g \mathrm{rate}_g \le` tolerance, or
      :math:`\min_g \mathrm{rate}_g \ge \tau \max_g \mathrm{rate}_g`, through one free scalar per notion.

    Parameters
    ----------
    joint : array of shape (n, M, 2)
        Posteriors P(S = m, Y = y | x_i).
    membership : array of shape (M, J)
        Which cells belong to which group.
    constraint : str or tuple of str, default="demographic_parity"
        "demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity",
        "equalized_odds", or several of them.
    measure : {"difference", "ratio"}, default="difference"
    tolerance : float in [0, 1], default=0.05
        0 is exactly fair. For a ratio the level is 1 - tolerance.
    reference : {"overall", "pairwise"}, default="overall"
        Groups against the population, or against each other.
    ratio_form : {"complement", "inverse", "lower"}, default="complement"
    sample_weight : array of shape (n,), optional

    Returns
    -------
    constraints : LinearConstraints

    Raises
    ------
    ValueError
        For unknown options, posteriors that do not sum to 1, or where no group is left.

    Warns
    -----
    FairnessWarning
        Where a group without mass in an event that a notion needs is left out.

    References
    ----------
    [1] Yang, Huang and Chang, "Bayes-optimal fair classification with multiple sensitive features",
    arXiv:2505.00631, Lemmas 1 and 2, Table 2.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.fairness import linear_constraints
    >>> joint = np.array([[[0.1, 0.6], [0.1, 0.2]], [[0.2, 0.1], [0.4, 0.3]]])
    >>> rows = linear_constraints(joint, np.eye(2), tolerance=0.1)
    >>> f = np.array([1.0, 0.0])
    >>> rows.labels.assign(excess=(rows.A.T @ f / 2 - rows.b).round(2))
                    block  group    side  excess
    0  demographic_parity      0   first     0.1
    1  demographic_parity      0  second    -0.3
    2  demographic_parity      1   first    -0.3
    3  demographic_parity      1  second     0.1
    """
    options = check_options(constraint, measure, tolerance, reference, ratio_form)
    gamma = check_joint(joint)
    G = np.asarray(membership, dtype=np.float64)
    if G.ndim != 2 or len(G) != gamma.shape[1] or not np.isin(G, (0.0, 1.0)).all():
        raise ValueError(
            f"membership must be a 0/1 array of shape ({gamma.shape[1]}, J); got shape {G.shape}"
        )
    base_rates = mean_rates(gamma, check_weights(sample_weight, len(gamma)))
    keep = usable_groups(options.blocks, G.T @ base_rates)
    dropped = [(block, int(j)) for block, k in zip(options.blocks, keep) for j in np.flatnonzero(~k)]
    if all(not k.any() for k in keep):
        raise ValueError("no group has mass in the events that the constraint needs")
    if dropped:
        warnings.warn(f"groups without mass are left out: {dropped}", FairnessWarning, stacklevel=2)
    system = build_system(base_rates, G, options, keep=keep)
    return LinearConstraints(system.rows(gamma), system.b, system.C, system.labels, options)
