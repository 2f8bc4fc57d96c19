"""Populations whose true values are known, and repeated samples from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_adult, load_breast_cancer, load_digits, load_mnist5k, load_wine
from mlpapers.valuation._kernel import NeighbourKernel, Targets
from mlpapers.valuation._subsets import Subsets
from mlpapers.valuation.uncertainty import UStatisticResult
from mlpapers.valuation.ustatistic import UStatisticShapley

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

N_NEIGHBORS = 5
# Subsets evaluated against one pool of fresh points.
_POOL_SUBSETS = 1000


@dataclass(frozen=True, eq=False)
class Population:
    """A distribution of points, a validation set, and points to be valued.

    Parameters
    ----------
    draw : callable
        ``draw(n, rng)`` returns n independent points (n, d) and their labels (n,).
    X_val, y_val : ndarray of shape (M, d), (M,)
    X_new, y_new : ndarray of shape (T, d), (T,)
        Points on offer.
    support : pair of ndarray of shape (N, d), (N,), or None
        All points, where they are finite in number and equally likely.
    """

    draw: Callable[[int, np.random.Generator], tuple[Array, Labels]]
    X_val: Array
    y_val: Labels
    X_new: Array
    y_new: Labels
    support: tuple[Array, Labels] | None = None

    def true_values(self, subset_size: int, n_subsets: int, rng: np.random.Generator) -> Array:
        """Return the mean kernel (T,) over subsets of independent points, no two of which share a draw."""
        if self.support is not None:
            # Drawn with replacement, a subset may hold a point twice; the kernel takes it as two.
            members = rng.integers(0, len(self.support[0]), (n_subsets, subset_size))
            return self._sum(*self.support, members) / n_subsets
        total = np.zeros(len(self.X_new))
        for start in range(0, n_subsets, _POOL_SUBSETS):
            rows = min(_POOL_SUBSETS, n_subsets - start)
            members = np.arange(rows * subset_size).reshape(rows, subset_size)
            total += self._sum(*self.draw(rows * subset_size, rng), members)
        return total / n_subsets

    def _sum(self, X: Array, y: Labels, members: NDArray[np.int64]) -> Array:
        """Sum the kernel (T,) over the subsets `members` (B, s) of the rows of `X`."""
        tuples = np.concatenate([members, np.zeros((len(members), 1), dtype=np.int64)], axis=1)
        kernel = NeighbourKernel(X, y, self.X_val, self.y_val, N_NEIGHBORS)
        total: Array = kernel.values(Targets.outside(self.X_new, self.y_new), Subsets(tuples), None, 0).sum(
            axis=1
        )
        return total

    def estimate(self, n: int, rng: np.random.Generator, **options: object) -> UStatisticResult:
        """Value the points on offer from a new sample of n points."""
        X, y = self.draw(n, rng)
        valuer = UStatisticShapley(n_neighbors=N_NEIGHBORS, random_state=rng, **options)  # type: ignore[arg-type]
        valuer.fit(X, y, self.X_val, self.y_val, targets=[])
        return valuer.evaluate(self.X_new, self.y_new)


def two_classes(flip: float, n_new: int = 0, rng: np.random.Generator | None = None) -> Population:
    """Return the population of the coverage experiments: two classes on a line, labels flipped at a rate.

    x = 1.2 (2 y - 1) + N(0, 1). 40 clean validation points. The point on offer is x = 0.7, y = 1, or `n_new`
    random ones.
    """

    def draw(n: int, rng: np.random.Generator, rate: float = flip) -> tuple[Array, Labels]:
        y = rng.integers(0, 2, n)
        x = 1.2 * (2 * y - 1) + rng.normal(size=n)
        return x[:, None], np.where(rng.random(n) < rate, 1 - y, y)

    X_val, y_val = draw(40, np.random.default_rng(123), 0.0)
    if rng is None:
        return Population(draw, X_val, y_val, np.array([[0.7]]), np.array([1]))
    return Population(draw, X_val, y_val, *draw(n_new, rng))


@functools.cache
def finite_population(name: str, seed: int) -> Population:
    """Return a data set as a population sampled with replacement: 40 points to validate, one on offer."""
    X, y = _load(name)
    order = np.random.default_rng([seed, 41]).permutation(len(X))
    val, offered = order[:40], order[40:41]

    def draw(n: int, rng: np.random.Generator) -> tuple[Array, Labels]:
        rows = rng.integers(0, len(X), n)
        return X[rows], y[rows]

    return Population(draw, X[val], y[val], X[offered], y[offered], (X, y))


def _load(name: str) -> tuple[Array, Labels]:
    if name == "mnist5k":
        X, y = load_mnist5k(return_X_y=True)
        return X / 255.0, y.astype(np.int64)
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X, y.astype(np.int64)
    if name == "adult":
        X, y = load_adult(encoding="codes", drop_missing=True, return_X_y=True)
    else:
        X, y = {"breast_cancer": load_breast_cancer, "wine": load_wine}[name](return_X_y=True)
    return StandardScaler().fit_transform(X), y.astype(np.int64)


def coverage_runs(
    population: Population,
    truth: float,
    n: int,
    subset_size: int,
    n_runs: int,
    seed: int,
    **options: object,
) -> pd.DataFrame:
    """Estimate one value from `n_runs` samples.

    Returns
    -------
    DataFrame with the columns error, stderr (of the chosen variance), mc_stderr (Monte Carlo alone), variance
    """
    rows = []
    for run in range(n_runs):
        # The same samples whatever the options: methods are compared on equal data.
        result = population.estimate(
            n, np.random.default_rng([seed, n, run]), subset_size=subset_size, **options
        )
        n_subsets = int(options.get("n_subsets", 1000))  # type: ignore[call-overload]
        mc = float(np.sqrt(result.zeta_tot[0] / n_subsets))
        rows.append((result.values[0] - truth, result.stderr[0], mc, result.stderr[0] ** 2))
    return pd.DataFrame(rows, columns=["error", "stderr", "mc_stderr", "variance"])


def coverage(runs: pd.DataFrame, stderr: str = "stderr", confidence: float = 0.95) -> float:
    """Return the share of runs whose interval contains the truth."""
    reach = float(ndtri(0.5 * (1.0 + confidence))) * runs[stderr]
    return float((runs["error"].abs() <= reach).mean())
