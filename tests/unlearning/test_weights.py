"""Weights from values: mean one, monotone, equivariant, and what each strategy says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from mlpapers.unlearning import value_weights
from mlpapers.unlearning.weights import STRATEGIES

values_lists = st.lists(st.integers(-50, 50).map(lambda k: k / 8.0), min_size=1, max_size=30)


@given(values_lists, st.sampled_from(STRATEGIES), st.sampled_from(["increasing", "decreasing"]), st.randoms())
def test_every_strategy_is_monotone_equivariant_with_mean_one(values, strategy, direction, random):
    v = np.array(values)
    w = value_weights(v, strategy, direction=direction)
    assert w.mean() == pytest.approx(1.0, abs=1e-12)
    assert w.min() >= 0.0
    order = list(range(len(v)))
    random.shuffle(order)
    np.testing.assert_allclose(value_weights(v[order], strategy, direction=direction), w[order], rtol=1e-12)
    sorted_w = w[np.argsort(v if direction == "increasing" else -v, kind="stable")]
    assert np.all(np.diff(sorted_w) >= -1e-12)
    for i in range(len(v)):
        np.testing.assert_allclose(w[v == v[i]], w[i], rtol=1e-12)


@given(
    values_lists, st.sampled_from(["rank", "minmax", "sigmoid"]), st.floats(0.1, 10.0), st.floats(-5.0, 5.0)
)
def test_scale_and_shift_of_values_do_not_matter(values, strategy, a, b):
    v = np.array(values)
    # Rescaled values carry 16 digits relative to the shift; the smallest spread here is 1/8 of a unit.
    np.testing.assert_allclose(value_weights(a * v + b, strategy), value_weights(v, strategy), rtol=1e-10)


def test_formulas():
    v = np.array([1.0, 4.0, 2.0, 2.0, -1.0])
    f = 0.2
    r = np.array([0.25, 1.0, 0.625, 0.625, 0.0])
    raw = {
        "rank": f + (1 - f) * r,
        "minmax": f + (1 - f) * (v + 1.0) / 5.0,
        "positive": np.maximum(v, 0.0) + f * 9.0 / 5.0,
        "sigmoid": f + (1 - f) * expit(4 * 0.7 * (v - 2.0) / v.std()),
        "threshold": np.where(r > 0.2, 1.0, f),
        "uniform": np.ones(5),
    }
    for strategy, expected in raw.items():
        got = value_weights(v, strategy, floor=f, temperature=0.7, normalize=False)
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    e = np.exp(v / (0.7 * v.std()))
    np.testing.assert_allclose(value_weights(v, "softmax", temperature=0.7), 5 * e / e.sum(), rtol=1e-12)


def test_forget_multipliers_are_two_minus_twice_the_rank():
    v = np.random.default_rng(0).permutation(11).astype(float)
    np.testing.assert_allclose(
        value_weights(v, "rank", floor=0.0, direction="decreasing"), 2.0 - 2.0 * v / 10.0, atol=1e-14
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_values_and_single_rows_are_uniform(strategy):
    np.testing.assert_array_equal(value_weights([5.0], strategy), [1.0])
    np.testing.assert_allclose(value_weights([-2.0, -2.0, -2.0], strategy), 1.0)
    tiny = value_weights([0.0, 5e-324], strategy)
    assert np.all(np.isfinite(tiny))
    assert tiny.mean() == pytest.approx(1.0, abs=1e-12)


def test_callable_gets_a_copy_and_its_weights_are_normalised():
    v = np.array([1.0, 3.0])

    def spoil(given_values):
        given_values += 1.0
        return given_values

    np.testing.assert_allclose(value_weights(v, spoil), [2.0 / 3.0, 4.0 / 3.0])
    np.testing.assert_array_equal(v, [1.0, 3.0])
    np.testing.assert_array_equal(value_weights(v, np.square, normalize=False), [1.0, 9.0])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([[1.0, np.nan]], {}, "values must be finite; entry 1"),
        ([[[1.0]]], {}, "values must have shape"),
        ([[]], {}, "values must have shape"),
        ([[1.0], "linear"], {}, "strategy must be one of 'uniform', 'rank'"),
        ([[1.0]], {"floor": 1.5}, "floor"),
        ([[1.0]], {"temperature": 0.0}, "temperature"),
        ([[1.0]], {"direction": "up"}, "direction"),
        ([[1.0, 2.0], lambda v: -v], {}, "finite weights >= 0"),
        ([[1.0, 2.0], lambda v: 0 * v], {}, "strategy must return .* not all zero"),
        ([[1.0, 2.0], lambda v: v[:1]], {}, "shape"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        value_weights(*arguments, **options)


def test_a_weighting_without_numbers_is_named():
    with pytest.raises(TypeError, match="strategy must return numbers, one per value; got 'heavy'"):
        value_weights([1.0, 2.0], lambda v: "heavy")  # noqa: ARG005 - what it answers is the point
