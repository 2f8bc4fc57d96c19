import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from mlpapers.core.validation import (
    accepts_nan,
    check_bool,
    check_choice,
    check_indices,
    check_int,
    check_matrix,
    check_path,
    check_probability_rows,
    check_real,
    check_rng,
    join_names,
    relabel_groups,
    seed_sequence,
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (GaussianNB(), False),
        (HistGradientBoostingClassifier(), True),
        (make_pipeline(StandardScaler(), GaussianNB()), False),
        (make_pipeline("passthrough", StandardScaler(), SimpleImputer(), GaussianNB()), True),
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier()), True),
        (make_pipeline(PCA(), HistGradientBoostingClassifier()), False),
        (make_pipeline(make_column_transformer((SimpleImputer(), [0])), GaussianNB()), True),
        (make_pipeline(make_union(SimpleImputer(), PCA()), GaussianNB()), False),
        (make_pipeline(make_union(SimpleImputer(), MissingIndicator()), GaussianNB()), True),
        (GridSearchCV(make_pipeline(SimpleImputer(), GaussianNB()), {}), True),
        (GridSearchCV(GaussianNB(), {}), False),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else str(value),
)
def test_accepts_nan_says_whether_a_fit_on_missing_values_succeeds(model, expected):
    X, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 2
    X[3, 0] = X[6, 0] = np.nan
    assert accepts_nan(model) is expected
    if expected:
        model.fit(X, y)
    else:
        with pytest.raises(ValueError, match=r"NaN|All the"):
            model.fit(X, y)


def test_check_choice():
    assert check_choice("method", "exact", ["exact", "mc"]) == "exact"
    assert type(check_choice("method", np.str_("mc"), ["exact", "mc"])) is str
    assert check_choice("cap", None, [None, 1]) is None
    for value in ("MC", 1, None, np.array(["mc"]), ["mc"]):
        with pytest.raises(ValueError, match=r"^method must be one of 'exact', 'mc'; got "):
            check_choice("method", value, ["exact", "mc"])
    with pytest.raises(ValueError, match="got True"):
        check_choice("order", True, [1, 2])


@given(value=st.integers(-5, 5), low=st.integers(-5, 5), high=st.integers(-5, 5))
def test_check_int_accepts_its_closed_range(value, low, high):
    for kind in (int, np.int8, np.int64):
        if low <= value <= high:
            assert check_int("n", kind(value), minimum=low, maximum=high) == value
        else:
            with pytest.raises(ValueError, match=re.escape(f"n must be an integer in [{low}, {high}]; got ")):
                check_int("n", kind(value), minimum=low, maximum=high)
    assert type(check_int("n", np.int8(value))) is int


@pytest.mark.parametrize("value", [1.0, True, np.bool_(True), "1", None, np.array([1]), Fraction(2)])
def test_check_int_refuses_other_types(value):
    with pytest.raises(TypeError, match=r"^n must be an integer; got .* of type "):
        check_int("n", value)


def test_check_int_names_an_open_end():
    with pytest.raises(ValueError, match="n must be an integer >= 1; got 0"):
        check_int("n", 0, minimum=1)
    with pytest.raises(ValueError, match="n must be an integer <= 1; got 2"):
        check_int("n", 2, maximum=1)


@pytest.mark.parametrize(
    ("closed", "inside", "outside", "text"),
    [
        ("both", [0, 0.5, 1], [-1e-9, 1.1], "[0, 1]"),
        ("left", [0, 0.5], [-1e-9, 1], "[0, 1)"),
        ("right", [0.5, 1], [0, 1.1], "(0, 1]"),
        ("neither", [0.5], [0, 1], "(0, 1)"),
    ],
)
def test_check_real_ends(closed, inside, outside, text):
    for value in inside:
        assert check_real("delta", value, low=0, high=1, closed=closed) == value
    for value in [*outside, np.nan, np.inf, -np.inf]:
        with pytest.raises(ValueError, match=re.escape(f"delta must be a finite number in {text}; got ")):
            check_real("delta", value, low=0, high=1, closed=closed)


def test_check_real_types():
    for value in (1, 1.0, np.float32(1), np.int8(1), Fraction(1)):
        checked = check_real("alpha", value)
        assert checked == 1.0
        assert type(checked) is float
    for value in (True, np.bool_(True), "1", None, 1j, [1.0], np.array([1.0])):
        with pytest.raises(TypeError, match=r"^alpha must be a real number; got "):
            check_real("alpha", value)
    with pytest.raises(ValueError, match="alpha must be a finite number > 0; got 0"):
        check_real("alpha", 0, low=0, closed="neither")
    with pytest.raises(ValueError, match="alpha must be a finite number < 0; got 0"):
        check_real("alpha", 0, high=0, closed="neither")


def test_check_bool():
    assert check_bool("antithetic", np.bool_(True)) is True
    assert check_bool("antithetic", False) is False
    for value in (0, 1, None, "True", np.array([True])):
        with pytest.raises(TypeError, match=r"^antithetic must be True or False; got "):
            check_bool("antithetic", value)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((0, 3)), ValueError, "X_val: Found array with 0 sample(s)"),
        (np.zeros((3, 0)), ValueError, "X_val: Found array with 0 feature(s)"),
        ([1.0, 2.0], ValueError, "X_val: Expected 2D array, got 1D array instead"),
        ([[1.0, np.nan]], ValueError, "Input X_val contains NaN."),
        (scipy.sparse.eye(3, format="csr"), TypeError, "X_val: Sparse data was passed"),
        (np.array([["A"]], dtype=object), ValueError, "X_val: could not convert string to float: 'A'"),
        (
            pd.DataFrame({"a": [1.0], "b": ["A"]}),
            ValueError,
            "X_val must hold numbers; column 'b' does not: could not convert string to float: 'A'",
        ),
        (
            pd.DataFrame({3: pd.Categorical(["A"]), "b": [1], "c": ["2"], "d": pd.array(["B"], "string")}),
            ValueError,
            "X_val must hold numbers; columns 3, 'd' do not: could not convert string to float: 'A'",
        ),
    ],
    ids=str,
)
def test_check_matrix_names_the_argument(X, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        check_matrix("X_val", X)


def test_check_path(tmp_path):
    assert check_path("out", None) is None
    assert check_path("out", "a/b") == Path("a/b")
    assert check_path("out", tmp_path) == tmp_path
    for value in (3, b"a", ["a"]):
        with pytest.raises(TypeError, match=r"^out must be a path or None; got "):
            check_path("out", value)


@given(
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), unique=True)))
)
def test_check_indices_keeps_good_ones(case):
    n, indices = case
    for given_as in (indices, np.array(indices, dtype=np.uint8), np.array(indices, dtype=np.int32)):
        checked = check_indices("targets", given_as, n)
        assert checked.dtype == np.int64
        assert checked.tolist() == indices


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 5], "must lie in [0, 5); got 5"),
        ([-1], "must lie in [0, 5); got -1"),
        (np.array([2**64 - 1], dtype=np.uint64), f"must lie in [0, 5); got {2**64 - 1}"),
        ([1, 1], "must not repeat an index"),
        ([0.0, 1.0], "got shape (2,), dtype float64"),
        ([True, False], "got shape (2,), dtype bool"),
        ([[0], [1]], "got shape (2, 1)"),
        ([[0], [1, 2]], "1-D array of integers; got [[0], [1, 2]]"),
        (3, "got shape ()"),
        (["a"], "1-D array of integers"),
    ],
)
def test_check_indices_refuses(indices, message):
    with pytest.raises(ValueError, match=rf"^targets .*{re.escape(message)}"):
        check_indices("targets", indices, 5)


def test_check_indices_may_repeat_on_request():
    assert check_indices("targets", [1, 1], 5, unique=False).tolist() == [1, 1]


@given(
    rows=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0.01, 1.0)
    )
)
def test_check_probability_rows(rows):
    rows /= rows.sum(axis=1, keepdims=True)
    assert np.array_equal(check_probability_rows("y", rows), rows)
    for spoil in (np.nan, np.inf, -0.01, 1.02 + rows[-1, 0]):
        spoiled = rows.copy()
        spoiled[-1, 0] = spoil
        with pytest.raises(
            ValueError, match=rf"^y must have non-negative rows that sum to 1.*row {len(rows) - 1} is"
        ):
            check_probability_rows("y", spoiled)


@pytest.mark.parametrize("rows", [[1.0], [[[1.0]]], [["a", "b"]], [[1.0], [0.5, 0.5]], None])
def test_check_probability_rows_refuses_other_shapes(rows):
    with pytest.raises(ValueError, match=r"^y must be a 2-D array of probabilities; got "):
        check_probability_rows("y", rows)


@given(labels=hnp.arrays(st.sampled_from([np.int64, np.int8, np.uint16]), st.integers(1, 10)))
def test_relabel_groups_keeps_the_order(labels):
    codes = relabel_groups("groups", labels, len(labels))
    assert set(codes) == set(range(len(set(labels.tolist()))))
    for i in range(len(labels)):
        assert np.array_equal(codes < codes[i], labels < labels[i])


def test_relabel_groups_refuses():
    assert relabel_groups("groups", None, 3).tolist() == [0, 0, 0]
    assert relabel_groups("groups", [-5, 7, -5], 3).tolist() == [0, 1, 0]
    with pytest.raises(
        ValueError, match=re.escape("groups must have shape (3,), one label per row; got (2,)")
    ):
        relabel_groups("groups", [0, 1], 3)
    with pytest.raises(ValueError, match="groups must hold integers; got dtype float64"):
        relabel_groups("groups", [0.0, 1.0, 2.0], 3)
    with pytest.raises(ValueError, match="groups must hold integers; got dtype bool"):
        relabel_groups("groups", [True, False, True], 3)


def draws(random_state):
    return check_rng(random_state).integers(2**60, size=4).tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: 7,
        lambda: np.int32(7),
        lambda: np.random.default_rng(7),
        lambda: np.random.RandomState(7),
        lambda: np.random.SeedSequence(7),
    ],
)
def test_random_states_are_reproducible(make):
    assert draws(make()) == draws(make())
    assert seed_sequence(make()).entropy == seed_sequence(make()).entropy


def test_random_states_differ_and_advance():
    assert draws(None) != draws(None)
    assert draws(7) != draws(8)
    generator = np.random.default_rng(7)
    assert check_rng(generator) is generator
    legacy = np.random.RandomState(7)
    assert draws(legacy) != draws(legacy)


@pytest.mark.parametrize("value", [-1, 1.0, True, "7", [1, 2], np.random, object()])
def test_other_random_states_are_refused(value):
    for check in (check_rng, seed_sequence):
        with pytest.raises(ValueError, match=r"^random_state must be .*; got "):
            check(value)


def test_join_names():
    assert join_names({"b", "a", 1}) == "'a', 'b', 1"
