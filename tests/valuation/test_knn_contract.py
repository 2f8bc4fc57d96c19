"""What the estimator accepts, refuses, keeps and leaves alone."""

import pickle
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from mlpapers.valuation.asymmetric import AsymmetricShapley, DataShapley
from mlpapers.valuation.baselines import LeaveOneOut
from mlpapers.valuation.curves import point_addition_curve
from mlpapers.valuation.knn import KNNShapley, knn_loo
from mlpapers.valuation.market import DataMarket
from mlpapers.valuation.result import ValuationResult
from mlpapers.valuation.ustatistic import UStatisticShapley
from mlpapers.valuation.utility import Utility


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 3)), rng.integers(0, 3, 20), rng.normal(size=(6, 3)), rng.integers(0, 3, 6)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n_neighbors", [0, -1, 2.5, "5", None, True]),
        ("task", ["ranking", None]),
        ("metric", ["chebyshev", 3]),
        ("denominator", ["n", None]),
        ("ties", ["random"]),
        ("algorithm", ["slow"]),
        ("max_error", [-0.1, 1.0, np.nan]),
        ("max_memory", [0, -5]),
        ("empty_value", [0.5, np.inf]),
    ],
)
def test_parameters_out_of_range_are_named_in_fit(data, name, values):
    for value in values:
        valuer = KNNShapley(**{name: value})  # the constructor only stores
        with pytest.raises(ValueError, match=name):
            valuer.fit(*data)


@pytest.mark.parametrize(
    "options",
    [
        {"task": "regression", "denominator": "min"},
        {"task": "regression", "max_error": 0.1},
        {"denominator": "min", "max_error": 0.1},
        {"algorithm": "theorem", "denominator": "min"},
        {"algorithm": "theorem", "task": "regression"},
        {"algorithm": "theorem", "max_error": 0.1},
    ],
)
def test_options_that_exclude_each_other(data, options):
    with pytest.raises(ValueError, match=r"denominator|max_error|algorithm"):
        KNNShapley(**options).fit(*data)


def with_entry(array, value):
    changed = np.array(array, dtype=float)
    changed.flat[0] = value
    return changed


def test_arrays_out_of_range_are_named(data):
    X, y, X_val, y_val = data
    soft = np.full((20, 2), 0.5)
    for match, arguments in [
        ("X contains NaN", (with_entry(X, np.nan), y, X_val, y_val)),
        ("X contains infinity", (with_entry(X, np.inf), y, X_val, y_val)),
        ("X_val contains NaN", (X, y, with_entry(X_val, np.nan), y_val)),
        ("X_val contains infinity", (X, y, with_entry(X_val, np.inf), y_val)),
        ("X_val must have the 3 columns", (X, y, X_val[:, :2], y_val)),
        ("y must have shape", (X, y[:-1], X_val, y_val)),
        ("y_val must have shape", (X, y, X_val, y_val[:-1])),
        ("y_val must not be empty", (X, y, X_val, [])),
        ("y_val must be given", (X, y, X_val)),
        ("y_val must be None", (X, y, None, y_val)),
        ("X must have at least 2 rows", (X[:1], y[:1])),
        ("groups must have shape", (X, y, X_val, y_val, np.zeros(19, dtype=int))),
        ("groups must hold integers", (X, y, X_val, y_val, np.linspace(0, 1, 20))),
        ("y must have non-negative rows", (X, soft * 1.00001, X_val, y_val)),
        ("y must have non-negative rows", (X, soft * [-1.0, 3.0], X_val, y_val)),
        ("y_val must hold column numbers", (X, soft, X_val, y_val + 0.5)),
        ("y_val must hold labels of the type", (X, y, X_val, list("aabbcc"))),
        ("y must not hold missing labels", (X, [None, *y[1:]], X_val, y_val)),
        ("y must be 1-D", (X, soft)),
    ]:
        with pytest.raises(ValueError, match=match):
            KNNShapley().fit(*arguments)
    for match, arguments in [
        ("y must be numeric", (X, y.astype(str), X_val, y_val)),
        ("y_val must be numeric", (X, y, X_val, y_val.astype(str))),
        ("y must be finite", (X, with_entry(y, np.inf), X_val, y_val)),
    ]:
        with pytest.raises(ValueError, match=match):
            KNNShapley(task="regression").fit(*arguments)
    with pytest.raises(ValueError, match="n_neighbors"):
        knn_loo(*data, n_neighbors=0)
    with pytest.raises(ValueError, match="metric='precomputed'"):
        KNNShapley(metric="precomputed").fit(X, y)
    many = np.zeros((501, 1)), np.zeros(501)
    with pytest.raises(ValueError, match="groups of up to 500"):
        KNNShapley(algorithm="theorem").fit(*many, [[0.0]], [0])


def test_soft_labels_may_sum_to_one_up_to_rounding(data):
    X, _, X_val, y_val = data
    soft = np.full((20, 3), 1 / 3)
    near, exact = (KNNShapley().fit(X, y, X_val, y_val).values_ for y in (soft * (1 + 5e-7), soft))
    # Values are linear in the scores.
    assert np.abs(near - exact * (1 + 5e-7)).max() <= 1e-15


def test_arrivals_out_of_range_are_named(data):
    X, y, X_val, y_val = data
    with pytest.raises(ValueError, match="X_val and y_val"):
        KNNShapley().partial_fit(X, y)
    with pytest.raises(NotFittedError):
        KNNShapley().predict_value(X, y)
    valuer = KNNShapley().partial_fit(*data)
    for match, arguments in [
        ("3 features", (X[:, :2], y)),
        ("type seen before", (X, y.astype(str))),
        ("must not be given again", (X, y, X_val, y_val)),
        ("y must have shape", (X, np.full((20, 2), 0.5))),
    ]:
        with pytest.raises(ValueError, match=match):
            valuer.partial_fit(*arguments)
    with pytest.raises(ValueError, match="soft labels of shape"):
        KNNShapley().fit(X, np.full((20, 2), 0.5), X_val, y_val).partial_fit(X, y)
    with pytest.raises(ValueError, match="X_val must be given in the first fit"):
        KNNShapley().fit(X, y).partial_fit(X, y)
    with pytest.raises(ValueError, match="algorithm"):
        KNNShapley(algorithm="theorem").fit(*data).partial_fit(X, y)
    given_distances = KNNShapley(metric="precomputed").fit(X, y, np.ones((6, 20)), y_val)
    with pytest.raises(ValueError, match="distances of the new points"):
        given_distances.partial_fit(X, y)
    with pytest.raises(ValueError, match="6 rows of the first fit"):
        given_distances.partial_fit(X, y, np.ones((5, 20)))


@pytest.mark.parametrize(
    "rename",
    [
        lambda y: np.array(["no", "yes", "maybe"])[y],
        lambda y: np.array(["no", "yes", "maybe"], dtype=object)[y],
        lambda y: pd.Series(y).map({0: "no", 1: "yes", 2: "maybe"}).astype("category"),
        lambda y: pd.Series([(k, "tuple") for k in y]),
        lambda y: y.astype(float) * 7,
        lambda y: y.astype(np.uint8),
    ],
)
def test_labels_may_be_anything_hashable(data, rename):
    X, y, X_val, y_val = data
    for options in ({}, {"denominator": "min"}):
        expected = KNNShapley(3, **options).fit(*data).values_
        renamed = KNNShapley(3, **options).fit(X, rename(y), X_val, rename(y_val)).values_
        assert np.array_equal(renamed, expected)


@pytest.mark.parametrize("convert", [np.asarray, lambda y: y.astype(object)], ids=["float", "object"])
def test_real_valued_targets_are_no_labels(data, convert):
    X, y, X_val, y_val = data
    real, real_val = convert(y + 0.25), convert(y_val + 0.25)
    for name, arguments in [("y", (X, real, X_val, y_val)), ("y_val", (X, y, X_val, real_val))]:
        message = rf"^{name} must hold class labels; got real numbers such as \d\.25"
        with pytest.raises(ValueError, match=message + "; set task='regression'"):
            KNNShapley().fit(*arguments)
        with pytest.raises(ValueError, match=message + "; LeaveOneOut"):
            knn_loo(*arguments)
        with pytest.raises(ValueError, match=message + "; give a regressor"):
            UStatisticShapley(subset_size=5, n_subsets=20).fit(*arguments)
        with pytest.raises(ValueError, match=message + "; give a regressor"):
            Utility(LogisticRegression(), *arguments)
        # The valuers without a task choose the regression by either.
        expected = KNNShapley(task="regression").fit(*arguments)
        for valuer in (AsymmetricShapley(), LeaveOneOut()):
            assert valuer.fit(*arguments).total_utility_ == pytest.approx(expected.total_utility_, abs=1e-12)
    with pytest.raises(ValueError, match="y must hold class labels"):
        KNNShapley().fit(X, real)
    fitted = KNNShapley().fit(*data)
    with pytest.raises(ValueError, match=r"^y must hold class labels"):
        fitted.partial_fit(X, real)
    with pytest.raises(ValueError, match=r"^y_new must hold class labels"):
        fitted.predict_value(X, real)
    with pytest.raises(ValueError, match=r"^y must hold class labels"):
        DataMarket(X_val, y_val).offer(X, real, "Ann")
    with pytest.raises(ValueError, match=r"^y_val must hold class labels"):
        DataMarket(X_val, real_val)


@pytest.mark.parametrize("valuer", [AsymmetricShapley(), DataShapley(method="exact"), LeaveOneOut()])
@pytest.mark.parametrize(
    ("n_rows", "n_classes", "warns"), [(60, 51, True), (250, 51, True), (60, 50, False), (255, 51, False)]
)
def test_very_many_whole_numbers_look_like_targets(valuer, n_rows, n_classes, warns):
    X, y = np.arange(2.0 * n_rows).reshape(-1, 2), np.arange(n_rows) % n_classes
    sources = {} if isinstance(valuer, LeaveOneOut) else {"sources": np.arange(n_rows) // 128}
    message = f"y holds {n_classes} distinct whole numbers in {n_rows} rows.*task='regression'"
    with pytest.warns(UserWarning, match=message) if warns else nullcontext():
        valuer.fit(X, y, X[:3], y[:3], **sources)
    # No warning where the task is said: by words for classes, by the name of the task, or by a model.
    valuer.fit(X, y.astype(str), X[:3], y[:3].astype(str), **sources)
    KNNShapley(task="regression").fit(X, y, X[:3], y[:3])


@pytest.mark.parametrize(
    "valuer",
    [
        KNNShapley(),
        AsymmetricShapley(),
        LeaveOneOut(),
        DataShapley(KNeighborsRegressor(3), method="mc", max_permutations=2, random_state=0),
        UStatisticShapley(KNeighborsRegressor(2), subset_size=5, n_subsets=20, random_state=0),
    ],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("shift", [0.0, 0.25])
@pytest.mark.parametrize("name", ["y", "y_val"])
def test_a_column_of_labels_is_flattened(data, valuer, shift, name):
    X, y, X_val, y_val = data
    arguments = {"X": X, "y": y + shift, "X_val": X_val, "y_val": y_val + shift}
    if isinstance(valuer, KNNShapley):
        valuer = KNNShapley(task="regression" if shift else "classification")
    expected = valuer.fit(**arguments).values_
    arguments[name] = pd.DataFrame({"y": arguments[name]})
    with pytest.warns(DataConversionWarning, match="column-vector"):
        values = valuer.fit(**arguments).values_
    np.testing.assert_array_equal(values, expected)


def test_columns_of_labels_are_flattened_on_offer_and_in_curves(data):
    X, y, X_val, y_val = data
    with pytest.warns(DataConversionWarning, match="column-vector"):
        market = DataMarket(X_val, y_val[:, None])
    offer = DataMarket(X_val, y_val).offer(X, y, "Ann")
    with pytest.warns(DataConversionWarning, match="column-vector"):
        assert market.offer(X, y[:, None], "Ann") == offer
    valuer = UStatisticShapley(subset_size=5, n_subsets=20, random_state=0).fit(*data)
    new = valuer.evaluate(X_val, y_val)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        assert np.array_equal(valuer.evaluate(X_val, y_val[:, None]).values, new.values)
    curve = {"estimator": KNeighborsClassifier(1), "values": np.arange(10.0), "X_test": X_val, "X": X[10:]}
    expected = point_addition_curve(y=y[10:], y_test=y_val, base=(X[:10], y[:10]), **curve)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        columns = point_addition_curve(
            y=y[10:, None], y_test=y_val[:, None], base=(X[:10], y[:10, None]), **curve
        )
    assert np.array_equal(columns.scores, expected.scores)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({}, {"n_neighbors": 3}),
        ({}, {"n_neighbors": 8}),
        ({}, {"metric": "cosine"}),
        ({}, {"task": "regression"}),
        ({}, {"denominator": "min"}),
        ({}, {"ties": "later_group"}),
        ({"denominator": "min"}, {"empty_value": 0.25}),
        ({"denominator": "min", "empty_value": 0.25}, {"empty_value": None}),
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()) or "default",
)
def test_batches_are_valued_by_the_game_of_the_first_fit(data, before, change):
    X, y, X_val, y_val = data
    valuer = KNNShapley(**before).partial_fit(X[:12], y[:12], X_val, y_val).set_params(**change)
    for method in (valuer.partial_fit, valuer.predict_value):
        with pytest.raises(ValueError, match=f"^{next(iter(change))} must be what it was in the first fit"):
            method(X[12:], y[12:])
    valuer.set_params(**{name: getattr(KNNShapley(**before), name) for name in change}, n_jobs=2)
    streamed = valuer.partial_fit(X[12:], y[12:])
    whole = KNNShapley(**before).fit(*data, groups=np.arange(20) // 12)
    np.testing.assert_allclose(streamed.values_, whole.values_, atol=1e-12)


def test_a_new_class_needs_the_value_of_nothing(data):
    X, y, X_val, y_val = data
    first = X[:12], y[:12] % 2, X_val, y_val % 2
    whole = X, np.append(y[:12] % 2, np.full(8, 2)), X_val, y_val % 2, np.arange(20) // 12
    valuer = KNNShapley(denominator="min").partial_fit(*first)
    with pytest.raises(ValueError, match=r"got 2: empty_value=0\.5 keeps"):
        valuer.partial_fit(X[12:], np.full(8, 2))
    # What a point is worth after others does not depend on v(empty).
    guessed = valuer.predict_value(X[12:], np.full(8, 2))
    for empty_value in (0.5, 0.0):
        valuer = KNNShapley(denominator="min", empty_value=empty_value).partial_fit(*first)
        np.testing.assert_array_equal(valuer.predict_value(X[12:], np.full(8, 2)), guessed)
        expected = KNNShapley(denominator="min", empty_value=empty_value).fit(*whole)
        streamed = valuer.partial_fit(X[12:], np.full(8, 2))
        np.testing.assert_allclose(streamed.values_, expected.values_, atol=1e-12)
    going_on = KNNShapley(denominator="min").partial_fit(*first).set_params(empty_value=0.5)
    assert going_on.partial_fit(X[12:], np.full(8, 2)).empty_utility_ == 0.5


def test_labels_nobody_has_agree_with_none(data):
    X, y, X_val, _ = data
    assert not KNNShapley().fit(X, y, X_val, np.full(6, 99)).values_.any()
    assert not KNNShapley().fit(X, np.full((20, 2), 0.5), X_val, np.full(6, 7)).values_.any()
    streamed = (
        KNNShapley(3)
        .partial_fit(X[:10], y[:10] % 2, X_val, np.full(6, 2))
        .partial_fit(X[10:], np.full(10, 2))
    )
    whole = KNNShapley(3).fit(
        X, np.append(y[:10] % 2, np.full(10, 2)), X_val, np.full(6, 2), groups=np.arange(20) // 10
    )
    assert np.abs(streamed.values_ - whole.values_).max() <= 1e-12


def test_default_of_the_empty_value_is_guessing(data):
    valuer = KNNShapley(denominator="min").fit(*data)
    assert valuer.empty_utility_ == pytest.approx(1 / 3)


def test_attributes_of_a_fit(data):
    valuer = KNNShapley(3).fit(*data, groups=np.repeat([5, -2], 10))
    assert valuer.n_samples_ == 20
    assert valuer.n_features_in_ == 3
    assert valuer.n_evaluations_ == 0
    assert valuer.converged_
    assert not valuer.stderr_.any()
    assert valuer.groups_.tolist() == [1] * 10 + [0] * 10
    assert valuer.group_values_ == pytest.approx([valuer.values_[10:].sum(), valuer.values_[:10].sum()])
    ranks = valuer.ranking()
    assert sorted(ranks) == list(range(20))
    assert np.all(np.diff(valuer.values_[ranks]) <= 0)
    assert np.all(np.diff(ranks)[np.diff(valuer.values_[ranks]) == 0] > 0)
    frame = valuer.to_frame()
    assert frame.columns.tolist() == ["index", "group", "value", "stderr", "ci_low", "ci_high"]
    assert np.array_equal(frame["ci_low"], valuer.values_)
    assert isinstance(valuer.result_, ValuationResult)
    assert np.array_equal(valuer.result_.values, valuer.values_)
    with pytest.raises(NotFittedError):
        KNNShapley().ranking()
    with pytest.raises(NotFittedError):
        KNNShapley().to_frame()


def test_inputs_are_not_changed_and_the_valuer_travels(data):
    copies = [np.array(array) for array in data]
    groups = np.repeat([1, 0], 10)
    valuer = KNNShapley(2, metric="cosine", ties="later_group", max_memory=8).fit(*data, groups=groups)
    valuer.values_per_val(*data)
    valuer.predict_value(data[0], data[1])
    for array, copy in zip(data, copies):
        assert np.array_equal(array, copy)
    for frozen in data:
        frozen.flags.writeable = False
    again = clone(valuer)
    assert not hasattr(again, "values_")
    assert again.get_params() == valuer.get_params()
    assert np.array_equal(again.fit(*data, groups=groups).values_, valuer.values_)
    back = pickle.loads(pickle.dumps(valuer))
    assert np.array_equal(
        back.partial_fit(data[0], data[1]).values_, valuer.partial_fit(data[0], data[1]).values_
    )
    assert valuer.set_params(n_neighbors=4).n_neighbors == 4


def test_frames_keep_their_names(data):
    X, y, X_val, y_val = data
    names = ["a", "b", "c"]
    frame, frame_val = pd.DataFrame(X, columns=names), pd.DataFrame(X_val, columns=names)
    valuer = KNNShapley().fit(
        frame, pd.Series(y), frame_val, pd.Series(y_val), groups=pd.Series(np.arange(20) // 5)
    )
    assert valuer.feature_names_in_.tolist() == names
    assert np.array_equal(valuer.values_, KNNShapley().fit(*data, groups=np.arange(20) // 5).values_)
    with pytest.raises(ValueError, match="X_val must have the columns of X"):
        KNNShapley().fit(frame, y, frame_val[["b", "a", "c"]], y_val)
    with pytest.raises(ValueError, match="feature names"):
        valuer.partial_fit(frame[["b", "a", "c"]], y)


@pytest.mark.parametrize(("scale", "what"), [(1e-170, "underflow"), (1e170, "overflow")])
def test_scales_without_squares_are_refused(data, scale, what):
    X, y, X_val, y_val = data
    fitted = KNNShapley().fit(X * 0.0, y, X_val * 0.0, y_val)
    for call in (
        lambda: KNNShapley(3).fit(X * scale, y, X_val * scale, y_val),
        lambda: DataShapley(method="mc", max_permutations=2).fit(X * scale, y, X_val * scale, y_val),
        lambda: LeaveOneOut().fit(X * scale, y, X_val * scale, y_val),
        lambda: knn_loo(X * scale, y, X_val * scale, y_val),
        lambda: fitted.predict_value(X * scale, y),
        lambda: DataMarket(X_val * scale, y_val).offer(X * scale, y, "Ann"),
    ):
        with pytest.raises(ValueError, match=f"X and X_val are too .*{what}; scale them"):
            call()


def test_text_in_frames_is_named(data):
    X, y, X_val, y_val = data
    frame, frame_val = (pd.DataFrame(Z, columns=list("abc")) for Z in (X, X_val))
    words = frame.assign(b="A")
    small = {"subset_size": 5, "n_subsets": 20}
    for valuer in (KNNShapley(), UStatisticShapley(**small), AsymmetricShapley(), LeaveOneOut()):
        with pytest.raises(ValueError, match=r"^X must hold numbers; column 'b' does not: .*'A'"):
            valuer.fit(words, y, frame_val, y_val)
        with pytest.raises(ValueError, match=r"^X_val must hold numbers; column 'b' does not: .*'A'"):
            valuer.fit(frame, y, frame_val.assign(b="A"), y_val)
    fitted = KNNShapley().fit(frame, y, frame_val, y_val)
    sampled = UStatisticShapley(**small).fit(frame, y, frame_val, y_val)
    for call in (fitted.predict_value, sampled.evaluate):
        with pytest.raises(ValueError, match=r"^X_new must hold numbers; column 'b'"):
            call(words, y)
    with pytest.raises(ValueError, match=r"^X must hold numbers; column 'b'"):
        fitted.partial_fit(words, y)


def test_tables_have_the_index_of_the_frames(data):
    X, y, X_val, y_val = data
    names = [f"customer {i}" for i in range(20)]
    frame = pd.DataFrame(X, index=names)
    valuer = KNNShapley().fit(frame[:12], y[:12], X_val, y_val)
    assert valuer.to_frame().index.tolist() == names[:12]
    valuer.partial_fit(frame[12:16], y[12:16])
    assert valuer.to_frame().index.tolist() == valuer.result_.to_frame().index.tolist() == names[:16]
    valuer.partial_fit(X[16:], y[16:])
    assert valuer.to_frame().index.tolist() == list(range(20))


def test_lists_and_other_memory_orders_are_accepted(data):
    X, y, X_val, y_val = data
    expected = KNNShapley().fit(*data).values_
    lists = KNNShapley().fit(X.tolist(), y.tolist(), X_val.tolist(), y_val.tolist())
    columns = KNNShapley().fit(np.asfortranarray(X), y, np.asfortranarray(X_val), y_val)
    assert np.array_equal(lists.values_, expected)
    assert np.array_equal(columns.values_, expected)


def test_refitting_starts_afresh(data):
    X, y = data[:2]
    valuer = KNNShapley(3).fit(*data).partial_fit(X, y)
    assert np.array_equal(valuer.fit(*data).values_, KNNShapley(3).fit(*data).values_)


def test_predicted_values_after_self_valuation_use_all_games(data):
    X, y, X_val, y_val = data
    valuer = KNNShapley(3).fit(X, y)
    expected = np.zeros(6)
    for j in range(20):
        others = np.arange(20) != j
        game = KNNShapley(3).fit(X[others], y[others], X[[j]], y[[j]])
        expected += game.predict_value(X_val, y_val) / 20
    assert np.abs(valuer.predict_value(X_val, y_val) - expected).max() <= 1e-12
