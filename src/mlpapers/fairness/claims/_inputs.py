"""Inputs that claims share: the Gaussian population, data splits, posteriors, evaluation."""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler

from mlpapers.datasets import load_adult, load_compas
from mlpapers.fairness import BayesFairClassifier, FairLPResult, make_gaussian_groups
from mlpapers.fairness._checks import constraint_blocks
from mlpapers.fairness.constraints import (
    ConstraintSystem,
    build_system,
    check_options,
    mean_rates,
    rate_functionals,
)
from mlpapers.fairness.gaussian import GaussianTruth
from mlpapers.fairness.solver import solve_fair_lp

Array = NDArray[np.float64]
CONSTRAINTS = (
    "demographic_parity",
    "equal_opportunity",
    "predictive_equality",
    "accuracy_parity",
    "equalized_odds",
)
SHORT = dict(zip(CONSTRAINTS, ("DP", "EO", "PE", "AP", "EOdds")))


@functools.cache
def gaussian_truth() -> GaussianTruth:
    """Return the law of the Gaussian benchmark."""
    return make_gaussian_groups(1, random_state=0)[3]


@functools.cache
def population(n: int, aware: bool) -> tuple[Array, Array]:
    """Return posteriors and weights of the population on an n x n grid."""
    return gaussian_truth().population(n, aware=aware)


class Optimum(NamedTuple):
    """An optimal rule on the population."""

    joint: Array
    weights: Array
    system: ConstraintSystem
    result: FairLPResult

    @property
    def error(self) -> float:
        """Share of wrong decisions."""
        return float(error_of(self.joint, self.weights, self.result.f))

    @property
    def score(self) -> Array:
        """Eta - 1/2."""
        return self.joint[:, :, 1].sum(axis=1) - 0.5


@functools.cache
def optimum(
    constraint: str,
    measure: str,
    tolerance: float,
    *,
    ratio_form: str = "complement",
    aware: bool = False,
    n: int = 121,
    method: str = "auto",
) -> Optimum:
    """Return the Bayes-optimal fair rule of the Gaussian population, groups being the cells."""
    joint, weights = population(n, aware)
    options = check_options(constraint, measure, tolerance, "overall", ratio_form)
    system = build_system(mean_rates(joint, weights), np.eye(joint.shape[1]), options)
    score = joint[:, :, 1].sum(axis=1) - 0.5
    result = solve_fair_lp(
        score, system.rows(joint), system.b, system.C, sample_weight=weights, method=method
    )
    return Optimum(joint, weights, system, result)


def error_of(joint: Array, weights: Array, f: Array) -> float:
    """Return the probability of a wrong decision."""
    eta = joint[:, :, 1].sum(axis=1)
    return float(weights @ (eta * (1.0 - f) + (1.0 - eta) * f))


def population_rates(
    notion: str, joint: Array, weights: Array, f: Array, membership: Array | None = None
) -> tuple[Array, float]:
    """Return the rates of the groups and of everybody under f."""
    base = mean_rates(joint, weights)
    G = np.eye(joint.shape[1]) if membership is None else membership
    R, k_g, r, k = rate_functionals(notion, base, G)
    selected = np.tensordot(weights * f, joint, axes=1)
    return np.tensordot(R, selected, axes=2) + k_g, float((r * selected).sum() + k)


def population_violation(
    constraint: Any, joint: Array, weights: Array, f: Array, membership: Array | None = None
) -> float:
    """Return the largest |rate_g - rate|."""
    worst = 0.0
    for notion in constraint_blocks(constraint):
        rates, overall = population_rates(notion, joint, weights, f, membership)
        worst = max(worst, float(np.abs(rates - overall).max()))
    return worst


class Split(NamedTuple):
    """Training and test rows with their sensitive columns."""

    X: Array
    y: NDArray[np.int64]
    sensitive: pd.DataFrame
    X_test: Array
    y_test: NDArray[np.int64]
    sensitive_test: pd.DataFrame


@functools.cache
def _whole(name: str) -> Any:
    return load_adult() if name == "adult" else load_compas()


def _halves(X: Array, name: str, seed: int) -> Split:
    """Return a 50/50 split of the rows; their order is the same for all columns that are taken."""
    bunch = _whole(name)
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    sensitive = bunch.sensitive_features
    return Split(
        X[train],
        bunch.target[train],
        sensitive.iloc[train].reset_index(drop=True),
        X[test],
        bunch.target[test],
        sensitive.iloc[test].reset_index(drop=True),
    )


@functools.cache
def half_split(name: str, seed: int) -> Split:
    """Return a 50/50 split of "adult" or "compas", columns standardised by the training half."""
    split = _halves(_whole(name).data, name, seed)
    scaler = StandardScaler().fit(split.X)
    return split._replace(X=scaler.transform(split.X), X_test=scaler.transform(split.X_test))


@functools.cache
def raw_compas_split(seed: int) -> Split:
    """Return the split of :func:`half_split` with the columns as they are."""
    return _halves(_whole("compas").data, "compas", seed)


@functools.cache
def coded_adult_split(seed: int) -> Split:
    """Return the split of :func:`half_split` with one column per attribute, as trees want them."""
    coded = load_adult(encoding="codes")
    hidden = ("fnlwgt", "race", "sex")
    kept = [j for j, name in enumerate(coded.feature_names) if name not in hidden]
    return _halves(coded.data[:, kept], "adult", seed)


def _log_counts(X: Array) -> Array:
    """Put priors and length of stay on a log scale; negative stays count as none."""
    return np.column_stack([X[:, 0], np.log1p(X[:, 1]), np.log1p(np.maximum(X[:, 3], 0.0)), X[:, 2]])


def spline_regression() -> Any:
    """Return logistic regression on splines of COMPAS's columns."""
    return make_pipeline(
        FunctionTransformer(_log_counts),
        StandardScaler(),
        SplineTransformer(n_knots=6, degree=2, knots="quantile"),
        LogisticRegression(max_iter=300),
    )


def linear_regression() -> Any:
    """Return the base learner of the comparison; its columns are standardised already."""
    return LogisticRegression(max_iter=200)


def fit_quietly(model: Any, *args: Any, **options: Any) -> Any:
    """Fit `model`; that a base learner was stopped early is part of the comparison."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*args, **options)


@functools.cache
def linear_rule(name: str, seed: int, aware: bool, cheap: bool = False) -> BayesFairClassifier:
    """Return a fitted classifier with linear posteriors, to be copied and resolved.

    A cheap one has a discriminant of the cell for each label in place of a model of the pair.
    """
    split = half_split(name, seed)
    options: dict[str, Any] = {}
    if cheap:
        options = {"joint": "factorized", "group_estimator": LinearDiscriminantAnalysis(solver="lsqr")}
    model = BayesFairClassifier(linear_regression(), attribute_aware=aware, random_state=seed, **options)
    return fit_quietly(model, split.X, split.y, sensitive_features=split.sensitive)


def best_up_to(violation: Array, accuracy: Array, levels: Array) -> Array:
    """Return the best accuracy among points with at most each violation; nan where there is none."""
    allowed = violation[None, :] <= levels[:, None]
    best = np.where(allowed, accuracy[None, :], -np.inf).max(axis=1)
    return np.where(np.isfinite(best), best, np.nan)


def mean_advantage(ours: tuple[Array, Array], theirs: tuple[Array, Array]) -> float:
    """Return the mean difference of best accuracies over the violations that both reach.

    Each argument is (violation, accuracy).
    """
    low = max(ours[0].min(), theirs[0].min())
    high = max(low, min(ours[0].max(), theirs[0].max()))
    levels = np.linspace(low, high, 50)
    return float(np.mean(best_up_to(*ours, levels) - best_up_to(*theirs, levels)))
