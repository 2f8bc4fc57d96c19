import numpy as np
import pandas as pd
from scipy.stats import kstest

from mlpapers.fairness._hashing import row_uniforms


def test_a_row_has_its_number_whatever_is_around_it():
    X = np.random.default_rng(0).normal(size=(200, 3))
    u = row_uniforms(X, None, 5)
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(row_uniforms(X[order], None, 5), u[order])
    np.testing.assert_array_equal(
        np.concatenate([row_uniforms(X[i : i + 1], None, 5) for i in range(200)]), u
    )
    np.testing.assert_array_equal(row_uniforms(pd.DataFrame(X), None, 5), u)
    np.testing.assert_array_equal(row_uniforms(np.asfortranarray(X), None, 5), u)


def test_numbers_are_uniform_and_salts_independent():
    X = np.arange(20_000.0)[:, None]
    u, v = row_uniforms(X, None, 0), row_uniforms(X, None, 1)
    assert kstest(u, "uniform").pvalue > 1e-3
    # Four standard errors of a correlation of independent numbers.
    assert abs(np.corrcoef(u, v)[0, 1]) < 4 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 4 / np.sqrt(20_000)
    assert (u >= 0).all()
    assert (u < 1).all()


def test_values_count_not_their_types():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.0, -0.0], "c": [True, False]})
    numbers = np.array([[1.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    np.testing.assert_array_equal(row_uniforms(frame, None, 0), row_uniforms(numbers, None, 0))
    nan = np.array([[np.nan, 1.0]])
    np.testing.assert_array_equal(row_uniforms(nan, None, 0), row_uniforms(-nan * [1, -1], None, 0))


def test_words_and_cells_count():
    words = pd.DataFrame({"a": ["x", "y", "x"]})
    u = row_uniforms(words, None, 0)
    assert u[0] == u[2] != u[1]
    np.testing.assert_array_equal(row_uniforms(words.iloc[1:], None, 0), u[1:])
    cells = row_uniforms(np.zeros((3, 1)), np.array([0, 1, 0]), 0)
    assert cells[0] == cells[2] != cells[1]
