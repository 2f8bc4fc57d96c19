"""Gaussian groups: a problem whose posteriors, and so whose optimal fair rules, are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from mlpapers.core.validation import check_int, check_rng
from mlpapers.fairness.constraints import build_system, check_options, mean_rates
from mlpapers.fairness.solver import FairLPResult, solve_fair_lp

__all__ = ["GaussianTruth", "make_gaussian_groups"]

Array = NDArray[np.float64]
_LOW, _HIGH = -5.0, 6.5
_NEGLIGIBLE = 1e-12
_P_GROUP = (0.45, 0.30, 0.15, 0.10)
_P_POSITIVE = (0.55, 0.40, 0.35, 0.20)
_MEANS = (
    ((0.0, 0.0), (1.5, 0.5)),
    ((-0.5, 0.5), (1.0, 1.0)),
    ((0.5, -0.5), (1.8, -0.2)),
    ((-0.8, -0.4), (0.4, 0.8)),
)


@dataclass(frozen=True, eq=False)
class GaussianTruth:
    """The law of the data: P(S = s, Y = y) and X | (s, y) ~ N(mu_sy, I) in the plane.

    Parameters
    ----------
    priors : ndarray of shape (M, 2)
        P(S = s, Y = y).
    means : ndarray of shape (M, 2, 2)
        mu_sy.
    """

    priors: Array
    means: Array

    def joint(self, X: ArrayLike) -> Array:
        """Return the posteriors P(S = s, Y = y | x) at points `X` (n, 2), of shape (n, M, 2)."""
        return softmax(self._log_densities(np.asarray(X, dtype=np.float64)), axis=(1, 2))

    def grid(self, n: int = 240) -> tuple[Array, Array]:
        """Return midpoints of an n x n grid on [-5, 6.5]^2 and their probabilities, of total 1.

        Points with a negligible probability (below 1e-12; 1e-9 for coarse grids, n <= 121) are left out.

        Parameters
        ----------
        n : int, default=240

        Returns
        -------
        points : ndarray of shape (N, 2)
        weights : ndarray of shape (N,)
        """
        n = check_int("n", n, minimum=2)
        width = (_HIGH - _LOW) / n
        axis = _LOW + width * (np.arange(n) + 0.5)
        points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        density = np.exp(self._log_densities(points)).sum(axis=(1, 2))
        weights = density / density.sum()
        keep = weights >= (1e-9 if n <= 121 else _NEGLIGIBLE)
        return points[keep], weights[keep] / weights[keep].sum()

    def population(self, n: int = 240, *, aware: bool = False) -> tuple[Array, Array]:
        """Return posteriors and weights of the population: of the grid, or of grid x cells where `aware`.

        Parameters
        ----------
        n : int, default=240
        aware : bool, default=False
            Whether the cell is known: a point is then (x, s) and its posterior is 0 outside s.

        Returns
        -------
        joint : ndarray of shape (N, M, 2)
        weights : ndarray of shape (N,)
        """
        points, weights = self.grid(n)
        joint = self.joint(points)
        if not aware:
            return joint, weights
        cell = joint.sum(axis=2)  # P(s | x)
        n_points, n_cells = cell.shape
        known = np.zeros((n_points, n_cells, n_cells, 2))
        every = np.arange(n_cells)
        known[:, every, every] = joint / cell[:, :, None]
        return known.reshape(-1, n_cells, 2), (weights[:, None] * cell).ravel()

    def optimal(
        self,
        constraint: Any,
        measure: str = "difference",
        tolerance: float = 0.05,
        aware: bool = False,
        *,
        reference: str = "overall",
        ratio_form: str = "complement",
        cost: float = 0.5,
        n: int = 240,
    ) -> FairLPResult:
        """Return the Bayes-optimal fair rule on the population grid, groups being the cells.

        Parameters
        ----------
        constraint, measure, tolerance
            As in :func:`linear_constraints`.
        aware : bool, default=False
            Whether the rule sees the group; f then runs over grid points and, within each, over groups.
        reference, ratio_form
            As in :func:`linear_constraints`.
        cost : float, default=0.5
            Cost of a false positive, 1 - cost that of a false negative.
        n : int, default=240
            Points per axis.

        Returns
        -------
        result : FairLPResult
        """
        options = check_options(constraint, measure, tolerance, reference, ratio_form)
        joint, weights = self.population(n, aware=aware)
        system = build_system(mean_rates(joint, weights), np.eye(len(self.priors)), options)
        score = joint[:, :, 1].sum(axis=1) - cost
        return solve_fair_lp(score, system.rows(joint), system.b, system.C, sample_weight=weights)

    def _log_densities(self, X: Array) -> Array:
        square = ((X[:, None, None, :] - self.means) ** 2).sum(axis=-1)
        return np.log(self.priors) - 0.5 * square - np.log(2.0 * np.pi)


def make_gaussian_groups(
    n_samples: int, *, n_groups: int = 4, random_state: Any = None
) -> tuple[Array, NDArray[np.int64], pd.DataFrame, GaussianTruth]:
    """Draw a sample of Gaussian groups in the plane.

    Parameters
    ----------
    n_samples : int
    n_groups : int, default=4
        The first four groups are fixed; more are laid out around a circle.
    random_state : int, Generator, RandomState or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
    y : ndarray of shape (n_samples,) of int
    sensitive_features : DataFrame with the column "group"
    truth : GaussianTruth

    Examples
    --------
    >>> X, y, sensitive_features, truth = make_gaussian_groups(500, random_state=0)
    >>> truth.joint(X).shape
    (500, 4, 2)
    """
    n_samples = check_int("n_samples", n_samples, minimum=1)
    n_groups = check_int("n_groups", n_groups, minimum=1)
    rng = check_rng(random_state)
    truth = _truth(n_groups)
    drawn = rng.choice(2 * n_groups, size=n_samples, p=truth.priors.ravel())
    group, y = drawn // 2, drawn % 2
    X = truth.means[group, y] + rng.standard_normal((n_samples, 2))
    width = len(str(n_groups - 1))
    names = np.array([f"s{s:0{width}d}" for s in range(n_groups)], dtype=object)
    return X, y.astype(np.int64), pd.DataFrame({"group": names[group]}), truth


def _truth(n_groups: int) -> GaussianTruth:
    extra = np.arange(4, n_groups)
    p_group = np.concatenate([_P_GROUP, np.full(len(extra), 0.10)])[:n_groups]
    p_positive = np.concatenate([_P_POSITIVE, 0.2 + 0.05 * (extra % 8)])[:n_groups]
    low = 0.8 * np.stack([np.cos(extra), np.sin(extra)], axis=-1)
    means = np.concatenate([_MEANS, np.stack([low, low + np.array([1.2, 0.6])], axis=1)])[:n_groups]
    p_group = p_group / p_group.sum()
    return GaussianTruth(np.stack([p_group * (1 - p_positive), p_group * p_positive], axis=1), means)
