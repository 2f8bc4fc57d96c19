"""Beta Shapley, Banzhaf, leave-one-out, totals by owner: against their definitions."""

from itertools import combinations

import joblib
import numpy as np
import pandas as pd
import pytest
from brute_game import random_game
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import beta as beta_function
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from mlpapers.valuation.aggregate import aggregate_values
from mlpapers.valuation.asymmetric import DataShapley
from mlpapers.valuation.baselines import BetaShapley, DataBanzhaf, LeaveOneOut, beta_weights
from mlpapers.valuation.knn import KNNShapley, knn_loo
from mlpapers.valuation.utility import Utility

TOLERANCE = 1e-12

seeds = st.integers(0, 2**32 - 1)
shapes = st.floats(0.5, 20.0)


def semivalue(v, n, weight_of_size):
    """Sum over S of weight(|S|) times the marginal contribution of each player."""
    values = np.zeros(n)
    for player in range(n):
        others = [i for i in range(n) if i != player]
        for k in range(n):
            for members in combinations(others, k):
                values[player] += weight_of_size(k) * (v(sorted([*members, player])) - v(members))
    return values


def data(seed=0, n=9, m=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), rng.integers(0, 3, n), rng.normal(size=(m, 2)), rng.integers(0, 3, m)


@given(st.integers(1, 6), seeds, shapes, shapes)
@settings(max_examples=40)
def test_beta_values_are_the_weighted_sums(n, seed, alpha, beta):
    v = random_game(n, seed)

    def weight(k):
        return beta_function(k + beta, n - 1 - k + alpha) / beta_function(alpha, beta)

    # betaln loses a few digits to the cancellation of logarithms of order 100.
    np.testing.assert_allclose(
        BetaShapley(alpha, beta, method="exact").fit_game(v, n).values_, semivalue(v, n, weight), atol=1e-11
    )
    np.testing.assert_allclose(beta_weights(n, alpha, beta).sum(), n, rtol=1e-11)


def test_beta_of_ones_is_data_shapley():
    v = random_game(7, 0)
    for method in ("exact", "mc"):
        options = {"method": method, "max_permutations": 30, "rtol": 0, "random_state": 0}
        np.testing.assert_allclose(
            BetaShapley(1, 1, **options).fit_game(v, 7).values_,
            DataShapley(**options).fit_game(v, 7).values_,
            atol=TOLERANCE,
        )


def test_beta_sampling_agrees_with_enumeration():
    v = random_game(6, 1)
    exact = BetaShapley(4, 1, method="exact").fit_game(v, 6)
    sampled = BetaShapley(4, 1, method="mc", rtol=0, max_permutations=2000, random_state=0).fit_game(v, 6)
    assert np.all(np.abs(sampled.values_ - exact.values_) <= 4 * sampled.stderr_)


def test_large_alpha_values_small_coalitions():
    weights = beta_weights(10, 16, 1)
    assert np.all(np.diff(weights) < 0)
    np.testing.assert_allclose(beta_weights(10, 1, 16), weights[::-1], rtol=1e-12)


@given(st.integers(1, 8), seeds)
@settings(max_examples=40)
def test_banzhaf_of_all_subsets_is_exact(n, seed):
    v = random_game(n, seed)
    valuer = DataBanzhaf(n_subsets=256).fit_game(v, n)
    np.testing.assert_allclose(valuer.values_, semivalue(v, n, lambda _: 0.5 ** (n - 1)), atol=TOLERANCE)
    assert valuer.n_evaluations_ == 2**n
    assert (valuer.total_utility_, valuer.empty_utility_) == (v.table[-1], v.table[0])
    assert not valuer.stderr_.any()


def test_banzhaf_sampling_agrees_with_its_standard_errors():
    v = random_game(10, 2)
    exact = DataBanzhaf(n_subsets=1024).fit_game(v, 10).values_
    runs = [DataBanzhaf(n_subsets=200, random_state=seed).fit_game(v, 10) for seed in range(40)]
    errors = np.array([run.values_ - exact for run in runs])
    stderr = np.array([run.stderr_ for run in runs])
    # The square of a standardised error has mean 1 and, normal, variance 2; ten players in 40 runs, not quite
    # independent (they share the subsets): five standard errors of the mean as if they were.
    assert abs(np.mean((errors / stderr) ** 2) - 1.0) < 5 * np.sqrt(2 / 400)
    assert runs[0].n_evaluations_ == 202


def test_banzhaf_refuses_one_sided_samples():
    with pytest.raises(ValueError, match="n_subsets must give subsets with and without each player"):
        DataBanzhaf(n_subsets=2, random_state=0).fit_game(random_game(10, 0), 10)
    with pytest.raises(ValueError, match="n_subsets must be an integer >= 2"):
        DataBanzhaf(n_subsets=1).fit_game(random_game(3, 0), 3)


def test_leave_one_out_is_the_loss():
    v = random_game(5, 3)
    expected = [v.table[31] - v.table[31 ^ (1 << i)] for i in range(5)]
    valuer = LeaveOneOut().fit_game(v, 5)
    np.testing.assert_array_equal(valuer.values_, expected)
    assert valuer.n_evaluations_ == 7
    X, y, X_val, y_val = data()
    utility = Utility(GaussianNB(), X, y, X_val, y_val)
    fitted = LeaveOneOut(GaussianNB()).fit(X, y, X_val, y_val)
    everybody = set(range(9))
    expected = [utility(range(9)) - utility(sorted(everybody - {i})) for i in range(9)]
    np.testing.assert_array_equal(fitted.values_, expected)


@given(seeds, st.integers(1, 11))
@settings(max_examples=40)
def test_leave_one_out_of_neighbours_is_closed_form(seed, n_neighbors):
    X, y, X_val, y_val = data(seed)
    closed = LeaveOneOut(n_neighbors=n_neighbors).fit(X, y, X_val, y_val)
    np.testing.assert_allclose(closed.values_, knn_loo(X, y, X_val, y_val, n_neighbors), atol=TOLERANCE)
    rng = np.random.default_rng(seed)
    for targets, targets_val in ((y, y_val), (rng.normal(size=9), rng.normal(size=7))):
        closed = LeaveOneOut(n_neighbors=n_neighbors).fit(X, targets, X_val, targets_val)
        # One source per row takes the general way.
        refit = LeaveOneOut(n_neighbors=n_neighbors).fit(X, targets, X_val, targets_val, sources=np.arange(9))
        np.testing.assert_allclose(closed.values_, refit.values_, atol=TOLERANCE)
        np.testing.assert_allclose(closed.total_utility_, refit.total_utility_, atol=TOLERANCE)
        assert (closed.method_, refit.method_) == ("knn", "refit")
        assert (closed.n_evaluations_, refit.n_evaluations_) == (0, 11)


@pytest.mark.parametrize(
    "valuer", [BetaShapley(n_neighbors=2), DataBanzhaf(n_neighbors=2), LeaveOneOut(n_neighbors=2)]
)
def test_sources_enter_at_once(valuer):
    X, y, X_val, y_val = data()
    sources = np.array(list("bbaaaccab"))
    valuer.fit(X, y, X_val, y_val, sources=sources)
    assert valuer.sources_.tolist() == ["a", "b", "c"]
    assert (len(valuer.values_), valuer.n_samples_, valuer.n_features_in_) == (3, 9, 2)
    everybody = np.ones(9, dtype=bool)
    if isinstance(valuer, LeaveOneOut):
        for label, value in zip("abc", valuer.values_):
            kept = everybody & (sources != label)
            less = KNNShapley(2).fit(X[kept], y[kept], X_val, y_val).total_utility_
            np.testing.assert_allclose(value, valuer.total_utility_ - less, atol=TOLERANCE)


@pytest.mark.parametrize("valuer", [BetaShapley(method="mc", max_permutations=20), DataBanzhaf(n_subsets=64)])
def test_workers_change_no_bit(valuer):
    rng = np.random.default_rng(0)
    X, X_val = rng.normal(size=(10, 2)), rng.normal(size=(8, 2))
    arguments = X, X[:, 0], X_val, X_val[:, 0]
    valuer.set_params(estimator=Ridge(), random_state=0)
    serial = valuer.fit(*arguments).values_
    with joblib.parallel_config(backend="threading"):
        np.testing.assert_array_equal(serial, valuer.set_params(n_jobs=2).fit(*arguments).values_)


@pytest.mark.parametrize(
    ("valuer", "message"),
    [
        (BetaShapley(alpha=0), "alpha must"),
        (BetaShapley(beta=-1.0), "beta must"),
        (BetaShapley(method="knn"), "method must be one of 'auto', 'exact', 'mc'"),
        (LeaveOneOut(n_neighbors=0), "n_neighbors must"),
        (LeaveOneOut(scoring="accuracy"), "scoring needs an estimator"),
    ],
)
def test_parameters_are_checked_in_fit(valuer, message):
    with pytest.raises(ValueError, match=message):
        valuer.fit(*data())


def test_totals_by_owner():
    owners = np.array(["x", "y", "x", "z"])
    values = np.array([1.0, 2.0, 4.0, 8.0])
    totals = aggregate_values(values, owners)
    assert totals.to_dict() == {"x": 5.0, "y": 2.0, "z": 8.0}
    assert aggregate_values(pd.Series(values), pd.Series(owners)).equals(totals)
    X, y, X_val, y_val = data()
    valuer = KNNShapley(2).fit(X, y, X_val, y_val)
    sellers = np.arange(9) % 2
    for fitted in (valuer, valuer.result_, valuer.values_):
        totals = aggregate_values(fitted, sellers)
        np.testing.assert_allclose(totals.to_numpy(), [valuer.values_[::2].sum(), valuer.values_[1::2].sum()])
    with pytest.raises(ValueError, match=r"owners must have shape \(4,\)"):
        aggregate_values(values, owners[:3])
    with pytest.raises(ValueError, match="owners must not hold missing labels"):
        aggregate_values(values, [None, "y", "x", "z"])
    with pytest.raises(ValueError, match="values must be 1-D"):
        aggregate_values(np.eye(2), [0, 1])
    # A missing value is not a value of 0.
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="values must be finite"):
            aggregate_values([1.0, value], ["x", "y"])
    with pytest.raises(NotFittedError):
        aggregate_values(KNNShapley(), sellers)
    with pytest.raises(ValueError, match="values must be numbers"):
        aggregate_values(["a", "b"], ["x", "y"])
