"""Utility: the score of a fit on a subset, its corner cases, and what it counts."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from mlpapers.valuation.scan import RefitScan
from mlpapers.valuation.utility import Utility, check_finite

RNG = np.random.default_rng(3)
X, X_VAL = RNG.normal(size=(12, 2)), RNG.normal(size=(9, 2))
Y = np.array(["a", "b", "a", "c"] * 3)
Y_VAL = np.array(["a", "a", "a", "a", "b", "b", "c", "d", "a"])
T, T_VAL = X @ [1.0, -2.0] + 0.1 * RNG.normal(size=12), X_VAL @ [1.0, -2.0] + 3.0


def test_utility_is_the_score_of_a_fit_on_the_subset():
    tree = DecisionTreeClassifier(random_state=0)
    utility = Utility(tree, X, Y, X_VAL, Y_VAL)
    rows = [0, 1, 4, 7, 9]
    assert utility(rows) == clone(tree).fit(X[rows], Y[rows]).score(X_VAL, Y_VAL)
    assert utility(rows[::-1]) == utility(rows)
    ridge = Utility(Ridge(), X, T, X_VAL, T_VAL, scoring="neg_mean_squared_error")
    predictions = Ridge().fit(X[rows], T[rows]).predict(X_VAL)
    assert ridge(rows) == pytest.approx(-((predictions - T_VAL) ** 2).mean(), rel=1e-14)


def test_scoring_takes_a_callable():
    utility = Utility(
        DecisionTreeClassifier(random_state=0),
        X,
        Y,
        X_VAL,
        Y_VAL,
        scoring=lambda model, A, b: 2.0 * accuracy_score(b, model.predict(A)),
    )
    plain = Utility(DecisionTreeClassifier(random_state=0), X, Y, X_VAL, Y_VAL)
    assert utility(range(12)) == 2.0 * plain(range(12))
    assert utility([]) == 2.0 * plain([])


def test_empty_value_is_that_of_a_constant_model():
    # Five of nine validation labels are "a".
    assert Utility(KNeighborsClassifier(1), X, Y, X_VAL, Y_VAL)([]) == 5 / 9
    # Predicting 0 has R2 = 1 - sum(t^2) / sum((t - mean)^2).
    expected = 1 - (T_VAL**2).sum() / ((T_VAL - T_VAL.mean()) ** 2).sum()
    assert Utility(Ridge(), X, T, X_VAL, T_VAL)([]) == pytest.approx(expected, rel=1e-14)
    # The class frequencies of the validation set, as probabilities, cost their entropy.
    shares = np.array([5, 2, 1, 1]) / 9
    log_loss = Utility(LogisticRegression(), X, Y, X_VAL, Y_VAL, scoring="neg_log_loss")
    assert log_loss([]) == pytest.approx((shares * np.log(shares)).sum(), rel=1e-12)
    assert Utility(Ridge(), X, T, X_VAL, T_VAL, empty_value=-3.0)([]) == -3.0


def test_one_class_is_predicted_counted_as_empty_or_fitted():
    rows = [1, 5]
    options = {"X": X, "y": Y, "X_val": X_VAL, "y_val": Y_VAL}
    predict = Utility(LogisticRegression(), **options)
    assert predict(rows) == 2 / 9
    assert predict.n_fits == predict.n_failures == 0
    empty = Utility(LogisticRegression(), **options, single_class="empty")
    assert empty(rows) == 5 / 9
    assert empty.n_failures == 1
    fit = Utility(LogisticRegression(), **options, single_class="fit")
    assert fit(rows) == 5 / 9
    assert (fit.n_fits, fit.n_failures) == (1, 1)
    assert Utility(DecisionTreeClassifier(), **options, single_class="fit")(rows) == 2 / 9
    with pytest.raises(ValueError, match="all of one class"):
        Utility(LogisticRegression(), **options, single_class="empty", on_error="raise")(rows)


def test_failed_fits_are_empty_or_raised_but_never_so_on_all_data():
    utility = Utility(KNeighborsClassifier(5), X, Y, X_VAL, Y_VAL)
    assert utility([0, 1, 2]) == 5 / 9
    assert utility.n_failures == 1
    with pytest.raises(ValueError, match="n_neighbors") as caught:
        Utility(KNeighborsClassifier(5), X, Y, X_VAL, Y_VAL, on_error="raise")([0, 1, 2])
    assert caught.value.__notes__ == ["raised by KNeighborsClassifier on 3 of 12 points"]
    with pytest.raises(ValueError, match="n_neighbors"):
        Utility(KNeighborsClassifier(20), X, Y, X_VAL, Y_VAL)(range(12))


class Sulky(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        import warnings

        warnings.warn("not today", UserWarning, stacklevel=1)
        return self

    def predict(self, X):
        return np.full(len(X), "a")


def test_a_warning_made_an_error_is_no_failed_fit():
    with pytest.raises(UserWarning, match="not today"):
        Utility(Sulky(), X, Y, X_VAL, Y_VAL)([0, 1])


def test_a_score_that_is_not_finite_names_the_subset_size():
    utility = Utility(Ridge(), X, T, X_VAL, T_VAL, scoring=lambda *_: np.nan, empty_value=0.0)
    with pytest.raises(ValueError, match="subset of size 3 must be finite; got nan"):
        utility([0, 3, 4])


def test_cache_spares_fits_and_forgets_the_oldest():
    utility = Utility(DecisionTreeClassifier(random_state=0), X, Y, X_VAL, Y_VAL, cache_size=2)
    first, second, third = [0, 1], [1, 2, 3], [0, 3, 5]
    for rows in (first, second, first[::-1]):
        utility(rows)
    assert (utility.n_calls, utility.n_fits) == (3, 2)
    utility(third)  # forgets the second
    utility(first)
    assert utility.n_fits == 3
    utility(second)
    assert (utility.n_calls, utility.n_fits) == (6, 4)
    scan = utility.scan()
    scan.start()
    for player in (0, 1):
        scan.add(player)
    # The scan fits {0, 1} again: no cache; one point is of one class.
    assert (utility.n_calls, utility.n_fits) == (6, 5)
    uncached = Utility(DecisionTreeClassifier(random_state=0), X, Y, X_VAL, Y_VAL, cache_size=0)
    uncached(first), uncached(first)
    assert uncached.n_fits == 2


def test_pickles_without_the_cache():
    utility = Utility(DecisionTreeClassifier(random_state=0), X, Y, X_VAL, Y_VAL)
    value = utility([0, 1, 2])
    again = pickle.loads(pickle.dumps(utility))
    assert again([0, 1, 2]) == value
    assert again.n_fits == 2


def test_frames_reach_the_estimator_with_their_names():
    frame = pd.DataFrame({"size": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    frame_val = pd.DataFrame({"size": X_VAL[:, 0], "colour": np.where(X_VAL[:, 1] > 0, "red", "blue")})
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough"
        ),
        DecisionTreeClassifier(random_state=0),
    )
    utility = Utility(model, frame, pd.Series(Y), frame_val, pd.Series(Y_VAL), on_error="raise")
    rows = [0, 1, 2, 3, 8]
    assert utility(rows) == clone(model).fit(frame.iloc[rows], Y[rows]).score(frame_val, Y_VAL)


def test_sparse_rows_reach_the_estimator():
    sparse = Utility(Ridge(), csr_array(X), T, csr_array(X_VAL), T_VAL)
    dense = Utility(Ridge(), X, T, X_VAL, T_VAL)
    rows = [0, 2, 5, 6]
    # Ridge solves sparse problems iteratively, to its tolerance of 1e-4.
    assert sparse(rows) == pytest.approx(dense(rows), rel=1e-3)
    assert isinstance(sparse.scan(), RefitScan)


def test_inputs_are_not_changed():
    copies = X.copy(), T.copy(), X_VAL.copy(), T_VAL.copy()
    utility = Utility(LinearRegression(), X, T, X_VAL, T_VAL)
    scan = utility.scan()
    scan.start()
    for player in range(12):
        scan.add(player)
    for array, copy in zip((X, T, X_VAL, T_VAL), copies):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.where(X > 1, np.nan, X)}, "X contains NaN"),
        ({"X_val": np.full((9, 2), np.inf)}, "X_val contains infinity"),
        ({"X_val": X_VAL[:, :1]}, "X_val must have the 2 columns of X; got 1"),
        ({"y": T[:-1]}, r"y must have shape \(12,\)"),
        ({"y_val": T_VAL[:-1]}, r"y_val must have shape \(9,\)"),
        ({"y_val": None}, "y_val must be given with X_val"),
        ({"X_val": None}, "X_val must be an array"),
        ({"y": Y}, "y must be numeric"),
        ({"on_error": "ignore"}, "on_error must be one of 'empty', 'raise'"),
        ({"single_class": "drop"}, "single_class must be one of"),
        ({"empty_value": "none"}, "empty_value must be a finite number or 'auto'"),
        ({"empty_value": np.nan}, "empty_value must be a finite number"),
        ({"cache_size": -1}, "cache_size must be an integer >= 0"),
        ({"scoring": "no_such_score"}, "scoring"),
    ],
)
def test_errors_name_the_argument(changes, message):
    arguments = {"X": X, "y": T, "X_val": X_VAL, "y_val": T_VAL, **changes}
    with pytest.raises(ValueError, match=message):
        Utility(Ridge(), **arguments)


def test_indices_are_checked():
    utility = Utility(Ridge(), X, T, X_VAL, T_VAL)
    with pytest.raises(ValueError, match=r"indices must lie in \[0, 12\); got 12"):
        utility([0, 12])
    with pytest.raises(ValueError, match="indices must not repeat"):
        utility([1, 1])


def test_missing_values_are_the_models_business_where_it_takes_them():
    holes = np.where(X > 1.0, np.nan, X)
    filled = SimpleImputer().fit(holes)
    pipeline = make_pipeline(SimpleImputer(), LogisticRegression())
    rows = np.arange(12)
    expected = LogisticRegression().fit(filled.transform(holes), Y).score(filled.transform(X_VAL), Y_VAL)
    assert Utility(pipeline, holes, Y, X_VAL, Y_VAL)(rows) == expected
    frame, frame_val = (pd.DataFrame(rows_, columns=["a", "b"]) for rows_ in (holes, X_VAL))
    assert Utility(pipeline, frame, Y, frame_val, Y_VAL)(rows) == expected
    with pytest.raises(ValueError, match="infinity"):
        Utility(pipeline, np.where(X > 1.0, np.inf, X), Y, X_VAL, Y_VAL)
    with pytest.raises(ValueError, match=r"Input X contains NaN.\nKNeighborsClassifier does not accept"):
        Utility(KNeighborsClassifier(1), frame, Y, frame_val, Y_VAL)


def test_a_score_that_is_no_number_names_the_subset_size():
    with pytest.raises(TypeError, match="subset of size 2 must be one number; got None"):
        check_finite(None, 2)
