"""Curves against direct refits, and the detection of noisy labels."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from mlpapers.valuation.curves import (
    CurveResult,
    intervention_curves,
    point_addition_curve,
    point_removal_curve,
)
from mlpapers.valuation.knn import KNNShapley
from mlpapers.valuation.result import ValuationResult

# Scores are shares of the same test points; incremental models may differ in the last bits.
EXACT = 1e-12


def split(seed, n=24, m=30):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 3)) + y[:, None]
    y_test = np.arange(m) % 2
    return X, y, rng.normal(size=(m, 3)) + y_test[:, None], y_test, rng.integers(0, 6, n).astype(float)


def score(model, rows, X, y, X_test, y_test):
    return clone(model).fit(X[rows], y[rows]).score(X_test, y_test)


MODELS = [KNeighborsClassifier(3), DecisionTreeClassifier(max_depth=2, random_state=0)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("order", ["high", "low"])
@pytest.mark.parametrize("curve", [point_addition_curve, point_removal_curve])
def test_curves_refit_on_what_is_there(model, order, curve):
    X, y, X_test, y_test, values = split(1)
    base = np.arange(4)
    pool = np.arange(4, 24)
    result = curve(
        values[pool],
        model,
        X[pool],
        y[pool],
        X_test,
        y_test,
        base=(X[base], y[base]),
        order=order,
        steps=8,
    )
    ascending = pool[np.argsort(values[pool], kind="stable")]
    first = ascending if order == "low" else ascending[::-1]
    np.testing.assert_array_equal(result.fractions, np.linspace(0, 1, 9))
    for fraction, found in zip(result.fractions, result.scores):
        q = int(np.rint(20 * fraction))
        there = first[:q] if curve is point_addition_curve else first[q:]
        rows = np.concatenate([base, there])
        assert found == pytest.approx(score(model, rows, X, y, X_test, y_test), abs=EXACT)
    trapezoids = sum((a + b) / 2 / 8 for a, b in zip(result.scores[:-1], result.scores[1:]))
    assert result.auc == pytest.approx(trapezoids)
    assert result.plot().get_ylabel() == "score"


def test_curves_without_a_base_start_and_end_at_a_constant_model():
    X, y, X_test, y_test, values = split(2)
    y_test = np.where(np.arange(30) < 20, 1, 0)
    added = point_addition_curve(values, KNeighborsClassifier(3), X, y, X_test, y_test, steps=3)
    removed = point_removal_curve(values, KNeighborsClassifier(3), X, y, X_test, y_test, steps=3)
    assert added.scores[0] == removed.scores[-1] == pytest.approx(20 / 30)
    assert added.scores[-1] == removed.scores[0]


@pytest.mark.parametrize("model", MODELS)
def test_interventions_refit_on_what_is_left(model):
    X, y, X_test, y_test, values = split(3)
    base, pool = np.arange(8), np.arange(8, 24)
    fractions = (0, 0.1, 0.3, 0.5, 1.0)
    curves = intervention_curves(
        values[pool], model, X[base], y[base], X[pool], y[pool], X_test, y_test, fractions=fractions
    )
    ascending = pool[np.argsort(values[pool], kind="stable")]

    def relative(rows, before):
        data = (X, y, X_test, y_test)
        return score(model, rows, *data) / score(model, before, *data)

    everything = np.arange(24)
    for j, fraction in enumerate(fractions):
        q = int(np.rint(fraction * 16))
        low, high = ascending[:q], ascending[len(ascending) - q :]
        for name, rows, before in (
            ("remove_low", np.setdiff1d(everything, low), everything),
            ("remove_high", np.setdiff1d(everything, high), everything),
            ("add_low", np.concatenate([base, low]), base),
            ("add_high", np.concatenate([base, high]), base),
        ):
            assert curves[name][j] == pytest.approx(relative(rows, before), abs=EXACT)
    assert all(curve[0] == 1.0 for curve in curves.values())


def test_regression_and_frames():
    X, y, X_test, y_test, values = split(4)
    targets, targets_test = X @ [1.0, 2.0, 3.0] + y, X_test @ [1.0, 2.0, 3.0] + y_test
    plain = intervention_curves(
        values[8:], LinearRegression(), X[:8], targets[:8], X[8:], targets[8:], X_test, targets_test
    )
    names = ["a", "b", "c"]
    frames = [pd.DataFrame(part, columns=names) for part in (X[:8], X[8:], X_test)]
    framed = intervention_curves(
        values[8:],
        LinearRegression(),
        frames[0],
        targets[:8],
        frames[1],
        targets[8:],
        frames[2],
        targets_test,
    )
    for name, curve in plain.items():
        np.testing.assert_allclose(curve, framed[name], rtol=1e-9)
    with pytest.raises(ValueError, match="X_base must have the columns of X"):
        intervention_curves(
            values[8:],
            LinearRegression(),
            frames[0][["b", "a", "c"]],
            targets[:8],
            frames[1],
            targets[8:],
            frames[2],
            targets_test,
        )


def test_values_may_come_in_a_result(tmp_path):
    X, y, X_test, y_test, values = split(5)
    result = ValuationResult(
        values=values, stderr=np.zeros(24), groups=np.zeros(24, dtype=np.int64), method="exact"
    )
    curves = [
        point_addition_curve(v, KNeighborsClassifier(3), X, y, X_test, y_test) for v in (values, result)
    ]
    np.testing.assert_array_equal(curves[0].scores, curves[1].scores)
    loaded = CurveResult.load(curves[0].save(tmp_path / "curve.zip"))
    np.testing.assert_array_equal(loaded.scores, curves[0].scores)
    assert (loaded.action, loaded.order, loaded.auc) == ("add", "high", curves[0].auc)
    pd.testing.assert_frame_equal(loaded.to_frame(), curves[0].to_frame())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(23)}, r"values must be of shape \(24,\)"),
        ({"values": np.full(24, np.nan)}, "values must be finite"),
        ({"order": "best"}, "order must be one of 'high', 'low'"),
        ({"steps": 0}, "steps"),
        ({"base": (np.zeros((2, 3)), [0])}, "y_base must have one entry"),
        ({"base": (np.zeros((2, 2)), [0, 1])}, "X_base must have as many columns"),
    ],
)
def test_curve_errors(change, message):
    X, y, X_test, y_test, values = split(6)
    arguments = {
        "values": values,
        "estimator": LogisticRegression(),
        "X": X,
        "y": y,
        "X_test": X_test,
        "y_test": y_test,
    } | change
    for curve in (point_addition_curve, point_removal_curve):
        with pytest.raises(ValueError, match=message):
            curve(**arguments)


def test_swapped_arguments_are_named():
    X, y, X_test, y_test, values = split(6)
    model, valuer = LogisticRegression(), KNNShapley().fit(X, y, X_test, y_test)
    with pytest.raises(TypeError, match=r"estimator must be a scikit-learn classifier.*got KNNShapley"):
        point_addition_curve(model, valuer, X, y, X_test, y_test)
    with pytest.raises(TypeError, match=r"estimator must be a scikit-learn classifier.*got array"):
        intervention_curves(model, values, X, y, X, y, X_test, y_test)
    with pytest.raises(TypeError, match="values must be numbers; got LogisticRegression"):
        point_removal_curve(model, model, X, y, X_test, y_test)
    with pytest.raises(TypeError, match=r"base must be a pair \(X_base, y_base\) or None"):
        point_addition_curve(values, model, X, y, X_test, y_test, base=X)
    with pytest.raises(ValueError, match="fractions must be numbers; got 'half'"):
        intervention_curves(values, model, X, y, X, y, X_test, y_test, fractions="half")


def test_intervention_errors():
    X, y, X_test, y_test, values = split(7)
    data = (KNeighborsClassifier(1), X[:8], y[:8], X[8:], y[8:], X_test)
    for fractions in ((), (1.5,), (-0.1,), (np.nan,)):
        with pytest.raises(ValueError, match="fractions"):
            intervention_curves(values[8:], *data, y_test, fractions=fractions)
    with pytest.raises(ValueError, match="the score of the base is 0"):
        intervention_curves(values[8:], *data, np.full(30, 7))
