"""Scans that update a model: the numbers of a refit, and a refit where they cannot promise them."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.pipeline import make_pipeline

from mlpapers.valuation.scan import RefitScan
from mlpapers.valuation.utility import Utility

EPS = np.finfo(float).eps


def diabetes(n, m):
    X, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[: n + m]
    return X[rows[:n]], y[rows[:n]], X[rows[n:]], y[rows[n:]]


def digits(n, m):
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[: n + m]
    return X[rows[:n]], y[rows[:n]], X[rows[n:]], y[rows[n:]]


def scan_values(utility, order, *, incremental):
    scan = utility.scan(incremental=incremental)
    assert isinstance(scan, RefitScan) is not incremental
    # What an earlier order left behind must not matter.
    for player in order[:3]:
        scan.insert(player)
    return np.array([scan.start(), *(scan.add(player) for player in order)])


def assert_same_scan(utility, *, rtol):
    order = np.random.default_rng(1).permutation(utility.n_players)
    updated = scan_values(utility, order, incremental=True)
    refitted = scan_values(utility, order, incremental=False)
    assert np.abs(updated - refitted).max() <= rtol * max(1.0, np.abs(refitted).max())


# A least-squares fit is backward stable: errors are a small multiple of eps times the condition of the
# problem, which the penalty keeps small here; 2e-15 is the promise for ridge regression.
@pytest.mark.parametrize(
    "estimator", [Ridge(), Ridge(0.01), Ridge(3.0, fit_intercept=False), Ridge(solver="svd")]
)
def test_ridge_scans_are_refits(estimator):
    assert_same_scan(Utility(estimator, *diabetes(60, 100)), rtol=2e-15)


@pytest.mark.parametrize(
    "scoring", ["neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error"]
)
def test_ridge_scans_are_refits_under_other_scores(scoring):
    assert_same_scan(Utility(Ridge(), *diabetes(40, 50), scoring=scoring), rtol=1e-14)


def test_ridge_scans_forgive_large_offsets():
    X, y, X_val, y_val = diabetes(40, 50)
    assert_same_scan(Utility(Ridge(0.1), X + 1e4, y + 1e4, X_val + 1e4, y_val + 1e4), rtol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_scans_are_refits(fit_intercept):
    # Updated only while the condition number stays below 1e5 / d: errors up to its square times eps.
    assert_same_scan(Utility(LinearRegression(fit_intercept=fit_intercept), *diabetes(40, 60)), rtol=1e-9)


def test_least_squares_scans_refit_what_is_rank_deficient():
    X, y, X_val, y_val = diabetes(30, 40)
    X, X_val = np.column_stack([X, X[:, 0]]), np.column_stack([X_val, X_val[:, 0]])
    utility = Utility(LinearRegression(), X, y, X_val, y_val)
    order = np.arange(30)
    updated = scan_values(utility, order, incremental=True)
    assert utility.n_fits == 30
    np.testing.assert_array_equal(updated, scan_values(utility, order, incremental=False))


@pytest.mark.parametrize("metric", ["minkowski", "manhattan"])
def test_neighbour_regression_scans_are_refits(metric):
    assert_same_scan(Utility(KNeighborsRegressor(3, metric=metric), *diabetes(40, 50)), rtol=20 * EPS)


@pytest.mark.parametrize("estimator", [KNeighborsClassifier(3), KNeighborsClassifier(1, p=1), GaussianNB()])
def test_classifier_scans_are_refits(estimator):
    assert_same_scan(Utility(estimator, *digits(50, 60)), rtol=0.0)


def test_classifier_scans_are_refits_with_text_labels_and_unseen_ones():
    X, y, X_val, y_val = digits(40, 60)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    kept = y < 5
    utility = Utility(GaussianNB(var_smoothing=1e-3), X[kept], names[y[kept]], X_val, names[y_val])
    assert_same_scan(utility, rtol=0.0)


# scikit-learn warns about features that are constant in every class and divides by zero for one point per
# class; neither enters predictions.
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning")
def test_nearest_centroid_scans_are_refits():
    assert_same_scan(Utility(NearestCentroid(), *digits(40, 60)), rtol=0.0)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_equal_rows_of_two_classes_are_left_to_the_estimator():
    X, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    X_full, y_full = np.vstack([X, np.eye(2)]), np.append(y, [0, 1])
    for estimator in (NearestCentroid(), KNeighborsClassifier(5)):
        utility = Utility(estimator, X_full, y_full, np.eye(2), [0, 1])
        scan = utility.scan()
        scan.start()
        assert [scan.add(player) for player in range(4)] == [0.5] * 4
        # Alone the first point is of one class; with the others the fit, or the prediction, is refused.
        assert utility.n_failures == 3


def test_updates_need_few_fits():
    utility = Utility(LinearRegression(), *diabetes(60, 40))
    scan_values(utility, np.arange(60), incremental=True)
    # Rows cannot determine 10 coefficients and an intercept before the eleventh.
    assert 10 <= utility.n_fits <= 15
    utility = Utility(Ridge(), *diabetes(60, 40))
    scan_values(utility, np.arange(60), incremental=True)
    assert utility.n_fits == 0


class MyRidge(Ridge):
    pass


@pytest.mark.parametrize(
    "estimator",
    [
        MyRidge(),
        Ridge(positive=True),
        Ridge(alpha=0.0),
        Ridge(solver="lsqr"),
        LinearRegression(positive=True),
        KNeighborsRegressor(weights="distance"),
        KNeighborsRegressor(metric="cosine"),
        make_pipeline(Ridge()),
    ],
)
def test_everything_else_refits_regressors(estimator):
    assert isinstance(Utility(estimator, *diabetes(10, 10)).scan(), RefitScan)


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        GaussianNB(priors=[0.1] * 10),
        NearestCentroid(shrink_threshold=0.1),
        NearestCentroid(metric="manhattan"),
        NearestCentroid(priors="empirical"),
        KNeighborsClassifier(p=3),
    ],
)
def test_everything_else_refits_classifiers(estimator):
    assert isinstance(Utility(estimator, *digits(60, 60)).scan(), RefitScan)


def test_other_scores_refit():
    scorer = make_scorer(mean_squared_error, greater_is_better=False)
    for scoring in (scorer, "neg_median_absolute_error"):
        assert isinstance(Utility(Ridge(), *diabetes(10, 10), scoring=scoring).scan(), RefitScan)
    assert isinstance(Utility(GaussianNB(), *digits(50, 60), scoring="f1_macro").scan(), RefitScan)
