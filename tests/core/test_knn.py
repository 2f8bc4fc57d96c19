"""Exact neighbour order, and the one-group recursion against enumeration of all subsets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mlpapers.core import _knn
from mlpapers.core._distances import DistanceBlocks
from mlpapers.core.knn import (
    key_shift,
    knn_shapley,
    knn_shapley_values,
    nearest_neighbours,
    rank_neighbours,
    sort_keys,
)


def direct_order(X, X_val):
    """Stable order of squared distances summed column by column, as exact as float64 allows."""
    distances = np.zeros((len(X_val), len(X)))
    for k in range(X.shape[1]):
        distances += (X[:, k] - X_val[:, k, None]) ** 2
    return np.argsort(distances, axis=1, kind="stable")


def ranking(X, X_val, **options):
    return np.vstack([order for _, order in rank_neighbours(X, X_val, **options)])


def lattice(rng, n, d):
    return rng.integers(0, 3, size=(n, d)).astype(float)


def copies(rng, n, d):
    """Every row eight times, shuffled, far from the origin: products round them differently."""
    return np.repeat(rng.normal(size=(n // 8, d)), 8, axis=0)[rng.permutation(n // 8 * 8)] + 1e5


def same(rng, n, d):
    return np.tile(rng.normal(size=(1, d)), (n, 1))


def outliers(rng, n, d):
    return rng.standard_cauchy(size=(n, d)) ** 3


@pytest.mark.parametrize("make", [np.random.Generator.normal, lattice, copies, same, outliers])
@pytest.mark.parametrize("n", [1, 8, 700])
def test_order_is_that_of_direct_distances(make, n):
    rng = np.random.default_rng(0)
    n = max(n, 8) if make is copies else n
    X = make(rng, size=(n, 6)) if make is np.random.Generator.normal else make(rng, n, 6)
    X_val = np.vstack([X[:3], rng.normal(size=(5, 6)) + X.mean(axis=0)])
    expected = direct_order(X, X_val)
    assert np.array_equal(ranking(X, X_val), expected)
    assert np.array_equal(nearest_neighbours(X, X_val, 5)[1], expected[:, :5])


def test_points_a_rounding_error_apart_are_told_apart():
    """Distances 1 + k * 2^-40 differ by less than a matrix product at this offset can see."""
    offset = 3e4
    steps = np.arange(64)[np.random.default_rng(1).permutation(64)]
    X = np.column_stack([offset + 1.0 + steps * 2.0**-36, np.full(64, offset)])
    X_val = np.array([[offset, offset]])
    assert np.array_equal(ranking(X, X_val)[0], np.argsort(steps))


@pytest.mark.parametrize(("metric", "name"), [("cosine", "cosine"), ("manhattan", "cityblock")])
def test_other_metrics_agree_with_scipy(metric, name):
    rng = np.random.default_rng(2)
    X, X_val = rng.normal(size=(300, 4)), rng.normal(size=(7, 4))
    reference = cdist(X_val, X, name)
    expected = np.argsort(reference, axis=1, kind="stable")
    assert np.array_equal(ranking(X, X_val, metric=metric), expected)
    assert np.array_equal(ranking(X, reference, metric="precomputed"), expected)
    assert np.array_equal(ranking(X, X_val, metric=lambda a, b: cdist(a, b, name)), expected)


def test_cosine_distance_to_a_zero_vector_is_one():
    distances, indices = nearest_neighbours(
        [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], [[2.0, 0.0]], 3, metric="cosine"
    )
    assert indices.tolist() == [[1, 0, 2]]
    assert distances.tolist() == [[0.0, 1.0, 2.0]]


def test_chunks_do_not_change_the_order():
    rng = np.random.default_rng(3)
    X, X_val = rng.normal(size=(200, 3)), rng.normal(size=(40, 3))
    assert len(list(rank_neighbours(X, X_val, max_memory=0.01))) == 40
    assert np.array_equal(ranking(X, X_val, max_memory=0.01), ranking(X, X_val))


def test_single_precision_swaps_only_near_ties():
    rng = np.random.default_rng(4)
    X, X_val = rng.normal(size=(500, 5)), rng.normal(size=(10, 5))
    exact, rough = ranking(X, X_val), ranking(X, X_val, float32=True)
    distances = cdist(X_val, X, "sqeuclidean")
    gaps = np.take_along_axis(distances, exact, 1) - np.take_along_axis(distances, rough, 1)
    scale = (np.abs(X).max() + np.abs(X_val).max()) ** 2 * 5
    assert np.abs(gaps).max() <= 16 * np.finfo(np.float32).eps * scale


@given(st.lists(st.floats(0, 1e300) | st.sampled_from([0.0, 1.0, 2.0, np.inf]), min_size=1, max_size=300))
def test_keys_sort_distances_by_value_then_column(values):
    distances = np.array([values])
    n = len(values)
    keys, near = np.empty((1, n), dtype=np.uint64), np.empty(1, dtype=np.uint64)
    exact = np.zeros((1, 2))
    exact.flags.writeable = False
    sort_keys(distances, 0, n, exact, keys, near)
    order, value = np.empty(n, dtype=np.int64), np.empty(n)
    nothing = np.empty((n, 1))
    nothing.flags.writeable = False
    rows = np.arange(n)
    rows.flags.writeable = False
    finite = int(np.isfinite(distances).sum())
    _knn.unpack_order(
        keys[0], key_shift(n), near[0], 0, finite, distances[0], rows, nothing, nothing[0], _knn.GIVEN,
        order, value, np.empty(n, dtype=bool),
    )  # fmt: skip
    assert np.array_equal(order[:finite], np.argsort(distances[0], kind="stable")[:finite])


def test_uneven_distances_fall_back_to_a_full_sort():
    """Counting passes cannot split values that sit in 1e-12 of their range; the result is the same."""
    rng = np.random.default_rng(5)
    distances = np.concatenate([1.0 + rng.random(5000) * 1e-9, [1e300]])[None]
    keys, near, done = (
        np.empty((1, 5001), dtype=np.uint64),
        np.empty(1, dtype=np.uint64),
        np.empty(1, dtype=bool),
    )
    exact = np.zeros((1, 2))
    exact.flags.writeable = False
    _knn.sorted_keys(distances, 0, 5001, key_shift(5001), 6, True, exact, keys, near, done)
    assert not done[0]
    sort_keys(distances, 0, 5001, exact, keys, near)
    assert np.all(keys[0, 1:] > keys[0, :-1])


def test_errors_name_the_argument():
    X, X_val = np.zeros((4, 2)), np.zeros((3, 2))
    for match, call in [
        ("metric", lambda: rank_neighbours(X, X_val, metric="chebyshev")),
        ("X_val", lambda: rank_neighbours(X, np.zeros((3, 5)))),
        ("X_val", lambda: rank_neighbours(X, np.full((3, 2), np.nan))),
        ("X contains", lambda: rank_neighbours(np.full((4, 2), np.inf), X_val)),
        ("X_val", lambda: rank_neighbours(X, np.zeros((3, 2)), metric="precomputed")),
        ("X_val", lambda: rank_neighbours(X, -np.ones((3, 4)), metric="precomputed")),
        ("X and X_val", lambda: rank_neighbours(np.eye(4, 2) * 1e200, X_val)),
        ("metric", lambda: list(rank_neighbours(X, X_val, metric=lambda *_: np.zeros(3)))),
        ("metric", lambda: list(rank_neighbours(X, X_val, metric=lambda *_: -np.ones((3, 4))))),
        ("scores", lambda: knn_shapley([])),
        ("scores", lambda: knn_shapley([np.nan])),
        ("denominator", lambda: knn_shapley([1.0], denominator="n")),
        ("n_neighbors", lambda: knn_shapley([1.0], n_neighbors=0)),
        ("y_val", lambda: knn_shapley_values(X, np.zeros(4), X_val, np.zeros(2))),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("float32", [False, True])
def test_squares_that_overflow_or_underflow_are_refused(metric, float32):
    X, X_val = np.random.default_rng(3).normal(size=(2, 9, 2))

    def order(scale, shift=0.0):
        Z, Z_val = (np.column_stack([A * scale, np.full(9, shift)]) for A in (X, X_val))
        (found,) = rank_neighbours(Z, Z_val, metric=metric, float32=float32)
        return found[1]

    expected = order(1.0)
    low, high = (2.0**-30, 2.0**60) if float32 else (2.0**-440, 2.0**500)
    for scale in (low, high):
        assert np.array_equal(order(scale), expected)
    far = 1e20 if float32 and metric == "euclidean" else 1e200
    with pytest.raises(ValueError, match=r"^X (and X_val are|is) too large: .* overflow; scale them"):
        order(far)
    for scale in (1e-160, 1e-170, 1e-310):
        with pytest.raises(ValueError, match=r"^X (and X_val are|is) too small: .* underflow; scale them"):
            order(scale)
    if metric == "euclidean":
        # A constant column does not hide it.
        with pytest.raises(ValueError, match="underflow"):
            order(1e-170, shift=0.5)
    for constant in (0.0, 0.5):
        assert np.array_equal(order(0.0, shift=constant), np.tile(np.arange(9), (9, 1)))


def shapley_by_enumeration(h, k, denominator, empty_value):
    n = len(h)

    def utility(members):
        near = sorted(members)[:k]
        if denominator == "k":
            return sum(h[i] for i in near) / k
        return sum(h[i] for i in near) / len(near) if near else empty_value

    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            for members in itertools.combinations(others, size):
                gain = utility((*members, i)) - utility(members)
                values[i] += gain / (n * math.comb(n - 1, size))
    return values


@pytest.mark.parametrize("denominator", ["k", "min"])
@given(h=st.lists(st.floats(-3, 3), min_size=1, max_size=7), k=st.integers(1, 10), empty=st.floats(-1, 1))
def test_recursion_is_the_shapley_value(denominator, h, k, empty):
    values = knn_shapley(h, n_neighbors=k, denominator=denominator, empty_value=empty)
    assert np.abs(values - shapley_by_enumeration(h, k, denominator, empty)).max() <= 1e-12


def test_recursion_takes_rows():
    h = np.random.default_rng(6).random((2, 3, 9))
    assert np.array_equal(knn_shapley(h, n_neighbors=2)[1, 2], knn_shapley(h[1, 2], n_neighbors=2))


def test_values_are_the_mean_over_validation_points():
    rng = np.random.default_rng(7)
    X, X_val = rng.normal(size=(50, 3)), rng.normal(size=(9, 3))
    y, y_val = rng.choice(["a", "b"], size=50), rng.choice(["a", "b", "c"], size=9)
    expected = np.zeros(50)
    for order, label in zip(direct_order(X, X_val), y_val):
        expected[order] += knn_shapley(y[order] == label, n_neighbors=4) / 9
    values = knn_shapley_values(X, y, X_val, y_val, n_neighbors=4)
    assert np.abs(values - expected).max() <= 1e-15
    accuracy = np.mean([(y[o[:4]] == t).mean() for o, t in zip(direct_order(X, X_val), y_val)])
    assert values.sum() == pytest.approx(accuracy, abs=1e-13)


def test_blocks_reorder_columns():
    rng = np.random.default_rng(8)
    X, X_val, rows = rng.normal(size=(40, 3)), rng.normal(size=(5, 3)), rng.permutation(40)
    for metric, name in [("euclidean", "sqeuclidean"), ("manhattan", "cityblock"), ("cosine", "cosine")]:
        out = np.empty((5, 40))
        DistanceBlocks(X, X_val, metric, rows=rows).compute(slice(0, 5), out)
        assert np.abs(out - cdist(X_val, X[rows], name)).max() <= 1e-12
