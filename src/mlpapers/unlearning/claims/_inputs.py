"""Inputs that claims share: the common set-up, and the models trained on it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mlpapers.core.paper import Scale
from mlpapers.datasets import load_breast_cancer, load_digits
from mlpapers.unlearning import DVWUClassifier, knn_shapley_values
from mlpapers.unlearning.bounds import gap_and_kappa

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

METHODS: dict[str, dict[str, Any]] = {
    "conventional": {"weighting": "uniform"},
    "value-weighted": {},
    "forget": {"weight_role": "forget"},
    "retain": {"weight_role": "retain"},
}


class Setup(NamedTuple):
    """Training rows with flipped labels and their values, clean validation and test rows."""

    X: Array
    y: Labels
    X_val: Array
    y_val: Labels
    X_test: Array
    y_test: Labels
    values: Array
    flipped: NDArray[np.bool_]

    @property
    def alpha(self) -> float:
        """The regularisation strength of every experiment on this set-up."""
        return len(self.X) / 1000.0


def seeds_of(scale: Scale, seed: int, quick: int = 32, full: int = 128) -> range:
    """Return the seeds of repeated experiments; those of different runs do not overlap.

    Accuracies differ between splits by some points, so that a mean over a few of them says little.
    """
    first = 1000 * seed
    return range(first, first + (quick if scale == "quick" else full))


def synthetic(seed: int) -> tuple[Array, Labels]:
    """Return 2000 Gaussian rows of 20 columns, y ~ Bernoulli(sigmoid(3 x.g/||g||))."""
    rng = np.random.default_rng(seed)
    g = rng.standard_normal(20)
    X = rng.standard_normal((2000, 20))
    return X, (rng.random(2000) < expit(3.0 * X @ g / np.linalg.norm(g))).astype(np.int64)


@functools.lru_cache(maxsize=512)
def setup(name: str, noise: float, seed: int) -> Setup:
    """Return the common set-up of "synth", "digits" (odd against even) or "breast_cancer".

    60/20/20 stratified; standardised by the training rows, a constant column appended, everything divided by
    the largest training norm; training labels flipped with probability `noise`; values by KNN-Shapley, K = 5.
    """
    if name == "synth":
        X, y = synthetic(seed)
    else:
        X, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
        y = (y % 2).astype(np.int64)
    X_fit, X_rest, y_fit, y_rest = train_test_split(X, y, test_size=0.4, stratify=y, random_state=seed)
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, test_size=0.5, stratify=y_rest, random_state=seed
    )
    scaler = StandardScaler().fit(X_fit)
    parts = [np.column_stack([scaler.transform(part), np.ones(len(part))]) for part in (X_fit, X_val, X_test)]
    largest = np.linalg.norm(parts[0], axis=1).max()
    X_fit, X_val, X_test = (part / largest for part in parts)
    flipped = np.random.default_rng([seed, 1]).random(len(y_fit)) < noise
    y_fit = np.where(flipped, 1 - y_fit, y_fit)
    values = knn_shapley_values(X_fit, y_fit, X_val, y_val)
    return Setup(X_fit, y_fit, X_val, y_val, X_test, y_test, values, flipped)


@functools.lru_cache(maxsize=256)
def trained(name: str, noise: float, seed: int, method: str) -> DVWUClassifier:
    """Return a model of one of METHODS on the set-up, without perturbation; never change it."""
    data = setup(name, noise, seed)
    model = DVWUClassifier(alpha=data.alpha, perturbation="none", fit_intercept=False, **METHODS[method])
    return model.fit(data.X, data.y, data_values=data.values)


def unlearned(name: str, noise: float, seed: int, method: str, forget: Labels) -> DVWUClassifier:
    """Return a copy of the trained model after forgetting rows in one request."""
    model = copy.deepcopy(trained(name, noise, seed, method))
    model.unlearn(forget)
    return model


def accuracy(model: DVWUClassifier, data: Setup) -> float:
    """Return the accuracy on the test rows in per cent."""
    return 100.0 * float(np.mean(model.predict(data.X_test) == data.y_test))


@contextlib.contextmanager
def wide_gaps_allowed() -> Iterator[None]:
    """Silence the warning that only rho/alpha bounds a gap, where an experiment has its own bound."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="kappa", category=RuntimeWarning)
        yield


def gap_bound(model: DVWUClassifier) -> float:
    """Return the bound on the distance to the retrained parameters, from the Hessian at the parameters.

    The library's own bound has to make do with a Hessian evaluated before the step.
    """
    theta = model._theta[0]
    objective = model._engine.objective(model._rows, model._rows.w, 0, model._model.solutions[0].b)
    u, H = objective.gradient(theta), objective.hessian(theta)
    mu = float(np.linalg.eigvalsh(H)[0])
    dual = math.sqrt(max(0.0, float(u @ np.linalg.solve(H, u))))
    c = objective.loss.constants.c
    bound, _ = gap_and_kappa(float(np.linalg.norm(u)), model.alpha, mu, model.norm_bound_, c, dual)
    return bound


def random_rows(data: Setup, share: float, seed: int) -> Labels:
    """Return a random share of the training rows."""
    n = len(data.y)
    return np.random.default_rng([seed, 2]).permutation(n)[: round(share * n)]


def most_valuable(data: Setup, share: float) -> Labels:
    """Return the share of the training rows with the largest values."""
    n = len(data.y)
    return np.argsort(-data.values, kind="stable")[: round(share * n)]
