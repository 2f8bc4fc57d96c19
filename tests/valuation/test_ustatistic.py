"""The U-statistic valuer: kernels by enumeration, laws of the subsets, intervals, and the contract."""

import itertools
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from mlpapers.valuation import _kernel
from mlpapers.valuation._kernel import NeighbourKernel, Targets, UtilityKernel
from mlpapers.valuation._subsets import Subsets, draw_families, draw_subsets, without
from mlpapers.valuation.game import exact_shapley
from mlpapers.valuation.knn import KNNShapley
from mlpapers.valuation.uncertainty import UStatisticResult
from mlpapers.valuation.ustatistic import UStatisticShapley
from mlpapers.valuation.utility import Utility

# Averages of at most a few hundred products of numbers below 1.
EXACT = 1e-12


def sample(seed, n, m=6, classes=2, grid=None):
    rng = np.random.default_rng(seed)
    X, X_val = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    if grid is not None:  # many ties
        X, X_val = rng.integers(0, grid, (n, 2)).astype(float), rng.integers(0, grid, (m, 2)).astype(float)
    return X, rng.integers(0, classes, n), X_val, rng.integers(0, classes, m)


def neighbour_utility(X, y, X_val, y_val, k):
    """v(S) = (1/K) sum over the K nearest of S of 1[y_i = t], ties by index."""

    def v(players):
        total = 0.0
        for x, t in zip(X_val, y_val):
            distance = ((X[players] - x) ** 2).sum(axis=1)
            nearest = players[np.lexsort((players, distance))[:k]]
            total += (y[nearest] == t).sum() / k
        return total / len(X_val)

    return v


def enumerated(v, subset, target):
    players = np.array([*subset, target])
    return exact_shapley(lambda members: v(np.sort(players[members])), len(players))[-1]


@pytest.mark.parametrize("grid", [None, 3])
@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_exact_kernel_is_the_shapley_value_in_the_subset_and_the_target(k, grid):
    n, s = 8, 4
    X, y, X_val, y_val = sample(k, n, grid=grid)
    kernel = NeighbourKernel(X, y, X_val, y_val, k)
    v = neighbour_utility(X, y, X_val, y_val, k)
    tuples = np.array([np.random.default_rng(b).permutation(n)[: s + 1] for b in range(12)])
    h = kernel.values(Targets(np.arange(n)), Subsets(tuples), None, 0)
    for z, b in itertools.product(range(n), range(len(tuples))):
        subset = without(tuples[b : b + 1], z)[0]
        assert z not in subset
        assert h[z, b] == pytest.approx(enumerated(v, subset, z), abs=EXACT)


def test_exact_kernel_values_outside_points_by_the_whole_sample():
    n, k = 7, 3
    X, y, X_val, y_val = sample(1, n, grid=4)
    X_new, y_new, *_ = sample(2, 3, grid=4)
    kernel = NeighbourKernel(X, y, X_val, y_val, k)
    whole = np.append(np.arange(n), 0)[None]
    h = kernel.values(Targets.outside(X_new, y_new), Subsets(whole), None, 0)[:, 0]
    for j in range(3):
        joined = np.vstack([X, X_new[j : j + 1]]), np.append(y, y_new[j])
        assert h[j] == pytest.approx(KNNShapley(k).fit(*joined, X_val, y_val).values_[-1], abs=EXACT)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_random_kernel_averages_to_the_exact_one(k):
    n, s = 6, 3
    X, y, X_val, y_val = sample(k + 10, n)
    kernel = NeighbourKernel(X, y, X_val, y_val, k)
    orders = [(*order, 5) for order in itertools.permutations(range(s))]
    tuples = np.repeat(np.array(orders), s + 1, axis=0)
    sizes = np.tile(np.arange(s + 1), len(orders))
    every = Targets(np.arange(n))
    exact = kernel.values(every, Subsets(tuples), None, 0)
    random = kernel.values(every, Subsets(tuples, sizes), None, 0)
    # Points outside S have one subset; members of S meet one with the spare in another order of entrance.
    np.testing.assert_allclose(random[s:].mean(axis=1), exact[s:, 0], atol=EXACT)
    v = neighbour_utility(X, y, X_val, y_val, k)
    for z, b in itertools.product(range(n), range(len(tuples))):
        first = (
            without(tuples[b : b + 1], z)[0][: sizes[b]]
            if z in tuples[b][: sizes[b]]
            else tuples[b][: sizes[b]]
        )
        first = np.append(first[first != 5], tuples[b, sizes[b]]) if z in tuples[b][: sizes[b]] else first
        marginal = v(np.sort(np.append(first, z))) - v(np.sort(first))
        assert random[z, b] == pytest.approx(marginal, abs=EXACT)


def test_utility_kernel_is_the_marginal_contribution_to_the_first_points():
    n, s = 12, 4
    X, y, X_val, y_val = sample(3, n)
    X_new, y_new, *_ = sample(4, 2)
    model = KNeighborsClassifier(1)
    kernel = UtilityKernel(model, X, y, X_val, y_val, None)
    subsets = draw_subsets(n, s, 30, True, 0)
    v = Utility(model, np.vstack([X, X_new]), np.append(y, y_new), X_val, y_val)
    h = kernel.values(Targets(np.arange(n)), subsets, None, 0)
    outside = kernel.values(Targets.outside(X_new, y_new), subsets, None, 0)
    for b, (row, k) in enumerate(zip(subsets.tuples, subsets.sizes)):
        for z in range(n + 2):
            kept = [i for i in (row[: k + 1] if z in row[:k] else row[:k]) if i != z]
            value = h[z, b] if z < n else outside[z - n, b]
            assert value == pytest.approx(v([*kept, z]) - v(kept), abs=EXACT)
    assert kernel.total_utility == v(range(n))
    assert kernel.empty_utility == v.empty_value_


def test_standing_in_makes_uniform_subsets_of_the_others():
    n, s, target = 5, 2, 3
    tuples = np.array(list(itertools.permutations(range(n), s + 1)))
    subsets = [frozenset(row) for row in without(tuples, target).tolist()]
    others = [frozenset(c) for c in itertools.combinations([i for i in range(n) if i != target], s)]
    counts = {subset: subsets.count(subset) for subset in others}
    assert sum(counts.values()) == len(tuples)
    assert len(set(counts.values())) == 1


def test_exchanged_families_share_a_uniform_point_and_nothing_else():
    n, s, target = 5, 2, 0
    rows = [
        (anchor, alternate, (anchor, *rest))
        for anchor, alternate in itertools.permutations(range(n), 2)
        for rest in itertools.permutations([i for i in range(n) if i != anchor], s)
    ]
    anchors, alternates = (np.array([row[j] for row in rows]) for j in (0, 1))
    tuples = np.array([row[2] for row in rows])
    subsets = without(tuples, target)
    shared = anchors.copy()
    own = Subsets(tuples, None, anchors, alternates)
    exchanged, replaced = own.anchored_at(target)
    subsets[exchanged], shared[exchanged] = replaced, alternates[exchanged]
    assert (shared != target).all()
    assert (subsets != target).all()
    assert all(point in row for point, row in zip(shared, subsets))
    seen = [(int(point), frozenset(row)) for point, row in zip(shared, subsets.tolist())]
    counts = {pair: seen.count(pair) for pair in set(seen)}
    assert len(counts) == (n - 1) * (n - 2)
    assert len(set(counts.values())) == 1


def test_kernel_of_families_uses_the_exchanged_subsets():
    n, s, k = 9, 3, 2
    X, y, X_val, y_val = sample(5, n)
    kernel = NeighbourKernel(X, y, X_val, y_val, k)
    families = draw_families(n, s, 6, 4, False, 0)
    v = neighbour_utility(X, y, X_val, y_val, k)
    h = kernel.values(Targets(np.arange(n)), families, None, 0)
    for z in range(n):
        subsets = without(families.tuples, z)
        rows, own = families.anchored_at(z)
        subsets[rows] = own
        for b in range(len(families)):
            assert h[z, b] == pytest.approx(enumerated(v, subsets[b], z), abs=EXACT)


@given(st.integers(2, 30), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=30)
def test_drawn_tuples_hold_distinct_points_and_families_their_anchor(n, seed, data):
    s = data.draw(st.integers(1, n - 1))
    plain, families = draw_subsets(n, s, 40, True, seed), draw_families(n, s, 7, 3, True, seed)
    for subsets in (plain, families):
        assert subsets.tuples.min() >= 0
        assert subsets.tuples.max() < n
        assert all(len(set(row)) == s + 1 for row in subsets.tuples.tolist())
        assert subsets.sizes.min() >= 0
        assert subsets.sizes.max() <= s
    anchored = families.tuples[:, :-1] == families.anchors[:, None]
    assert anchored.any(axis=1).all()
    assert (families.anchors.reshape(7, 3) == families.anchors[::3, None]).all()
    assert (families.anchors != families.alternates).all()


def test_drawn_subsets_are_uniform():
    tuples = draw_subsets(6, 2, 30_000, False, 0).tuples
    counts = np.zeros((6, 6, 6))
    np.add.at(counts, tuple(tuples.T), 1)
    counts = counts[counts > 0]
    assert len(counts) == 6 * 5 * 4
    # Chi-square with 119 degrees of freedom exceeds 119 + 5 sqrt(2 * 119) about once in 10^5 times.
    assert ((counts - 250) ** 2 / 250).sum() < 119 + 5 * np.sqrt(238)


def test_values_are_means_of_the_kernel_and_do_not_depend_on_the_other_targets():
    X, y, X_val, y_val = sample(6, 40)
    valuer = UStatisticShapley(n_subsets=60, n_neighbors=2, random_state=3)
    everybody = clone(valuer).fit(X, y, X_val, y_val)
    kernel = NeighbourKernel(X, y, X_val, y_val, 2)
    h = kernel.values(Targets(np.arange(40)), everybody._subsets, None, 0)
    np.testing.assert_allclose(everybody.values_, h.mean(axis=1), atol=EXACT)
    some = clone(valuer).fit(X, y, X_val, y_val, targets=[7, 3])
    for name in ("values_", "stderr_", "zeta1_", "zeta_tot_", "ci_low_", "ci_high_"):
        np.testing.assert_array_equal(getattr(some, name), getattr(everybody, name)[[7, 3]])
    assert some.targets_.tolist() == [7, 3]
    assert some.to_frame()["index"].tolist() == [7, 3]
    assert some.ranking().tolist() == ([7, 3] if some.values_[0] >= some.values_[1] else [3, 7])
    assert everybody.total_utility_ == pytest.approx(KNNShapley(2).fit(X, y, X_val, y_val).total_utility_)
    assert everybody.subset_size_ == 6
    none = clone(valuer).fit(X, y, X_val, y_val, targets=[])
    assert none.values_.shape == (0,)


@pytest.mark.parametrize("variance", ["ij", "dmc", "pf"])
@pytest.mark.parametrize("kernel", ["exact", "random"])
def test_results_do_not_depend_on_workers_or_blocks(variance, kernel, monkeypatch):
    X, y, X_val, y_val = sample(7, 30)
    X_new, y_new, *_ = sample(8, 4)
    options = {"n_subsets": 600, "n_pairs": 500, "n_outer": 8, "n_inner": 5, "random_state": 1}
    one = UStatisticShapley(kernel=kernel, variance=variance, n_neighbors=2, **options)
    two = clone(one).set_params(n_jobs=2)
    one.fit(X, y, X_val, y_val)
    two.fit(X, y, X_val, y_val)
    # A block of 7 targets at a time.
    monkeypatch.setattr(_kernel, "_VALUE_MEMORY", 7 * 8 * 1000 / 2**20)
    blocks = clone(one).fit(X, y, X_val, y_val)
    for other in (two, blocks):
        for name in ("values_", "stderr_", "zeta1_", "zeta_tot_", "clipped_", "batch_means_"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
        new, expected = other.evaluate(X_new, y_new), one.evaluate(X_new, y_new)
        np.testing.assert_array_equal(new.values, expected.values)
        np.testing.assert_array_equal(new.stderr, expected.stderr)


def test_models_are_valued_alike_by_any_number_of_workers():
    X, y, X_val, y_val = sample(9, 12)
    valuer = UStatisticShapley(
        LogisticRegression(), n_subsets=20, variance="dmc", n_outer=3, n_inner=2, random_state=0
    )
    one = clone(valuer).fit(X, y, X_val, y_val, targets=[0, 5])
    with joblib.parallel_config("threading"):
        two = clone(valuer).set_params(n_jobs=2).fit(X, y, X_val, y_val, targets=[0, 5])
    np.testing.assert_array_equal(one.values_, two.values_)
    np.testing.assert_array_equal(one.stderr_, two.stderr_)
    assert one.n_evaluations_ == 26
    new = one.evaluate(X[:1] + 0.1, y[:1])
    assert np.isfinite(new.values).all()


@pytest.mark.parametrize(("variance", "options"), [("ij", {}), ("dmc", {"n_outer": 20, "n_inner": 8})])
def test_intervals_cover_the_value_in_the_population(variance, options):
    rng = np.random.default_rng(0)

    def draw(n):
        y = rng.integers(0, 2, n)
        return (1.2 * (2 * y - 1) + rng.normal(size=n))[:, None], np.where(rng.random(n) < 0.1, 1 - y, y)

    X_val, y_val = draw(20)
    n, s, n_runs = 64, 8, 80
    X, y = draw(6000 * s)
    tuples = np.concatenate([np.arange(6000 * s).reshape(6000, s), np.zeros((6000, 1), dtype=int)], axis=1)
    target = Targets.outside(np.array([[0.7]]), np.array([1]))
    truth = NeighbourKernel(X, y, X_val, y_val, 3).values(target, Subsets(tuples), None, 0).mean()
    covered = 0
    for run in range(n_runs):
        valuer = UStatisticShapley(
            subset_size=s, n_subsets=400, variance=variance, n_neighbors=3, random_state=run, **options
        )
        new = valuer.fit(*draw(n), X_val, y_val, targets=[]).evaluate([[0.7]], [1])
        covered += bool(new.ci_low[0] <= truth <= new.ci_high[0])
    # At a true coverage of 0.90, fewer than 66 of 80 happen once in 100 times.
    assert covered >= 66


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_intervals_are_nested_in_confidence(a, b):
    valuer = fitted()
    (low_a, high_a), (low_b, high_b) = (
        valuer.confidence_interval(min(a, b)),
        valuer.confidence_interval(max(a, b)),
    )
    assert (low_b <= low_a).all()
    assert (high_a <= high_b).all()


_FITTED = []


def fitted():
    if not _FITTED:
        X, y, X_val, y_val = sample(11, 30)
        _FITTED.append(UStatisticShapley(n_subsets=100, random_state=0).fit(X, y, X_val, y_val))
    return _FITTED[0]


def test_interval_is_the_normal_one():
    valuer = fitted()
    low, high = valuer.confidence_interval(0.6826894921370859)  # one standard deviation
    np.testing.assert_allclose(valuer.values_ - low, valuer.stderr_, rtol=1e-10)
    np.testing.assert_allclose(high - valuer.values_, valuer.stderr_, rtol=1e-10)
    np.testing.assert_allclose((valuer.ci_high_ - valuer.ci_low_) / valuer.stderr_, 2 * 1.959963984540054)


def test_a_constant_kernel_has_no_error_and_warns():
    X, y, X_val, y_val = sample(12, 20)
    valuer = UStatisticShapley(subset_size=1, n_subsets=50, n_neighbors=5, random_state=0)
    with pytest.warns(UserWarning, match="constant for 20 of 20"):
        valuer.fit(X, y, X_val, y_val)
    # With fewer than K members every point adds its own score / K.
    expected = (y[:, None] == y_val).mean(axis=1) / 5
    np.testing.assert_allclose(valuer.values_, expected, atol=EXACT)
    assert not valuer.stderr_.any()
    assert not valuer.zeta_tot_.any()
    assert not valuer.clipped_.any()
    np.testing.assert_array_equal(valuer.ci_low_, valuer.ci_high_)
    table = valuer.normality_test()
    assert table[["shapiro_p", "ks_distance"]].isna().all(axis=None)


def test_normality_of_batch_means():
    valuer = fitted()
    table = valuer.normality_test()
    assert valuer.batch_means_.shape == (10, 30)
    np.testing.assert_allclose(valuer.batch_means_.mean(axis=0), valuer.values_, atol=EXACT)
    assert table["n_batches"].eq(10).all()
    assert table["shapiro_p"].between(0, 1).all()
    # Ten studentised numbers cannot be nearer than half a step nor farther than their range allows.
    assert table["ks_distance"].between(0.05, 0.5).all()
    X, y, X_val, y_val = sample(13, 40)
    few = UStatisticShapley(n_subsets=8, n_neighbors=2, random_state=0).fit(X, y, X_val, y_val)
    with pytest.raises(ValueError, match="n_subsets must be at least 9"):
        few.normality_test()


def test_few_pairs_are_reported():
    X, y, X_val, y_val = sample(14, 20)
    few = UStatisticShapley(variance="pf", n_pairs=499, n_subsets=20, n_neighbors=1, random_state=0)
    with pytest.warns(ConvergenceWarning, match="998 evaluations"):
        few.fit(X, y, X_val, y_val, targets=[0])
    assert not few.converged_
    assert few.n_evaluations_ == 20 + 998
    enough = clone(few).set_params(n_pairs=500).fit(X, y, X_val, y_val, targets=[0])
    assert enough.converged_


def test_tables_have_the_valuers_own_level():
    X, y, X_val, y_val = sample(6, 40)
    valuer = UStatisticShapley(n_neighbors=2, n_subsets=60, confidence=0.5, random_state=3)
    valuer.fit(X, y, X_val, y_val)
    table = valuer.to_frame()
    np.testing.assert_array_equal(table["ci_low"], valuer.ci_low_)
    np.testing.assert_array_equal(table["ci_high"], valuer.ci_high_)
    np.testing.assert_array_equal(valuer.to_frame(0.9)["ci_low"], valuer.confidence_interval(0.9)[0])


def test_labels_and_frames():
    X, y, X_val, y_val = sample(15, 30, classes=3)
    names = np.array(["ant", "bee", "cat"])
    plain = UStatisticShapley(n_subsets=50, n_neighbors=2, random_state=0).fit(X, y, X_val, y_val)
    frame = pd.DataFrame(X, columns=["a", "b"])
    named = clone(plain).fit(frame, names[y], pd.DataFrame(X_val, columns=["a", "b"]), names[y_val])
    np.testing.assert_array_equal(plain.values_, named.values_)
    assert named.feature_names_in_.tolist() == ["a", "b"]
    new = named.evaluate(frame[:3] + 0.5, ["bee", "cat", "dog"])
    assert new.to_frame().shape == (3, 7)
    with pytest.raises(ValueError, match="X_val must have the columns of X"):
        clone(plain).fit(frame, names[y], pd.DataFrame(X_val, columns=["b", "a"]), names[y_val])


def test_rows_keep_their_names_and_their_holes():
    X, y, X_val, y_val = sample(15, 30)
    rows = pd.DataFrame(np.where(X > 1.5, np.nan, X), index=np.arange(30) + 100)
    pipeline = make_pipeline(SimpleImputer(), GaussianNB())
    valuer = UStatisticShapley(pipeline, n_subsets=20, random_state=0)
    valuer.fit(rows, y, X_val, y_val, targets=[4, 2])
    assert valuer.to_frame().index.tolist() == [104, 102]
    assert valuer.to_frame()["index"].tolist() == [4, 2]
    plain = clone(valuer).fit(rows.to_numpy(), y, X_val, y_val, targets=[4, 2])
    np.testing.assert_array_equal(plain.values_, valuer.values_)
    unnamed, new = plain.evaluate(rows.to_numpy()[:2], y[:2]), valuer.evaluate(rows[:2], y[:2])
    np.testing.assert_array_equal(unnamed.values, new.values)
    assert new.to_frame().index.tolist() == [100, 101]
    with pytest.raises(ValueError, match="NaN"):
        UStatisticShapley(n_subsets=20).fit(rows, y, X_val, y_val)


def test_valuer_is_a_well_behaved_estimator(tmp_path):
    X, y, X_val, y_val = sample(16, 30)
    copies = [array.copy() for array in (X, y, X_val, y_val)]
    valuer = UStatisticShapley(n_subsets=50, n_neighbors=2, random_state=0)
    with pytest.raises(NotFittedError):
        valuer.evaluate(X, y)
    with pytest.raises(NotFittedError):
        valuer.confidence_interval()
    valuer.fit(X, y, X_val, y_val)
    for array, copy in zip((X, y, X_val, y_val), copies):
        np.testing.assert_array_equal(array, copy)
    again = pickle.loads(pickle.dumps(valuer))
    new, expected = again.evaluate(X[:2] + 1, y[:2]), valuer.evaluate(X[:2] + 1, y[:2])
    loaded = UStatisticResult.load(new.save(tmp_path / "new.zip"))
    for name in ("values", "stderr", "ci_low", "ci_high", "zeta1", "zeta_tot", "clipped"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name))
    assert len(loaded) == 2
    np.testing.assert_allclose(loaded.ci_high - loaded.values, loaded.values - loaded.ci_low, rtol=1e-10)
    np.testing.assert_array_equal(valuer.fit(X, y, X_val, y_val).values_, again.values_)
    assert valuer.result_.method == "ustatistic-ij"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loaded.plot() is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_size": 0}, "subset_size"),
        ({"subset_size": 20, "variance": "dmc"}, r"subset_size must lie in \[1, n - 1\] = \[1, 19\]; got 20"),
        ({"subset_size": 11}, "at most n / 2 = 10"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_neighbors": 2.0}, "n_neighbors"),
        ({"variance": "jackknife"}, "variance must be one of 'ij', 'dmc', 'pf'"),
        ({"kernel": "linear"}, "kernel must be one of"),
        ({"kernel": "exact", "estimator": LogisticRegression()}, "kernel must be 'auto' or 'random'"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.0}, "confidence"),
        ({"n_subsets": 1}, "n_subsets"),
        ({"n_inner": 1}, "n_inner"),
        ({"n_outer": 1}, "n_outer"),
        ({"n_pairs": 1}, "n_pairs"),
    ],
)
def test_parameters_out_of_range(options, message):
    X, y, X_val, y_val = sample(17, 20)
    with pytest.raises(ValueError, match=message):
        UStatisticShapley(**options).fit(X, y, X_val, y_val)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.full((20, 2), np.nan)}, "NaN"),
        ({"X_val": np.full((6, 2), np.inf)}, "infinity"),
        ({"X_val": np.zeros((6, 3))}, "X_val must have the 2 columns"),
        ({"y": np.zeros(19)}, "y must have shape"),
        ({"y": np.zeros((20, 2))}, "y must"),
        ({"y_val": []}, "y_val must not be empty"),
        ({"y_val": np.zeros(5)}, "y_val must have shape"),
        ({"y_val": list("ababab")}, "y_val must hold labels of the type of y"),
        ({"targets": [20]}, r"targets must lie in \[0, 20\); got 20"),
        ({"targets": [-1]}, "targets must lie in"),
        ({"targets": [0.5]}, "targets must be"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    X, y, X_val, y_val = sample(18, 20)
    arguments = {"X": X, "y": y, "X_val": X_val, "y_val": y_val} | change
    with pytest.raises(ValueError, match=message):
        UStatisticShapley(n_subsets=10).fit(**arguments)


def test_new_points_that_do_not_fit():
    valuer = fitted()
    with pytest.raises(ValueError, match="features"):
        valuer.evaluate(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"^y_new must have shape \(2,\), one entry per row of X_new"):
        valuer.evaluate(np.zeros((2, 2)), [0])
    with pytest.raises(ValueError, match="type seen before"):
        valuer.evaluate(np.zeros((2, 2)), ["a", "b"])
    with pytest.raises(ValueError, match="confidence"):
        valuer.confidence_interval(1.5)


@pytest.mark.filterwarnings("ignore:the kernel is constant")
@pytest.mark.parametrize(("variance", "least"), [("ij", 4), ("dmc", 3), ("pf", 3)])
def test_samples_too_small_for_any_interval(variance, least):
    valuer = UStatisticShapley(variance=variance, n_pairs=500, n_neighbors=1, random_state=0)
    for n in range(1, least):
        with pytest.raises(
            ValueError, match=rf"^X must have at least {least} rows .*'{variance}'.*; got {n}$"
        ):
            valuer.fit(*sample(19, n))
    assert np.all(np.isfinite(valuer.fit(*sample(19, least)).values_))
    with pytest.raises(ValueError, match="n at least 3"):
        UStatisticShapley(subset_size=1).fit(*sample(19, 2))
