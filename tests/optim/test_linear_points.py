"""Margins that follow the point, batches of points, and the memory that a run takes."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import (
    FiniteSum,
    L1Ball,
    L2Ball,
    LinearFiniteSum,
    finite_sum,
    make_sparse_logistic,
    minimize_fw_zo,
)
from mlpapers.optim import _increment as increments
from mlpapers.optim._directions import CoordinateBlock, Directions
from mlpapers.optim._increment import Increment
from mlpapers.optim._oracle import Oracle, all_finite, distinct, unseen
from mlpapers.optim._points import all_rows
from mlpapers.optim._run import Run, Settings
from mlpapers.optim._steps import FrankWolfe


def problem(sparse, n=70, d=30):
    rng = np.random.default_rng(2)
    A = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.4)
    return LinearFiniteSum(
        scipy.sparse.csr_array(A) if sparse else A, np.sign(rng.normal(size=n)), "logistic"
    )


def run_of(total, C, x, **chosen):
    return Run(
        Oracle(total, len(x), max_queries=None), C, Settings(**chosen), x, np.random.SeedSequence(0), None
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("C", [L1Ball(3.0), L2Ball(3.0)])
def test_margins_follow_the_moves(sparse, C):
    total, rng = problem(sparse), np.random.default_rng(0)
    # No zeros in x: what is cheap is cheap because of the vertex.
    run = run_of(total, C, rng.uniform(0.01, 0.02, 30))
    step = FrankWolfe(run, None)
    step._gamma = lambda _s, _v: 0.1
    mixed = []
    for _ in range(150):
        probe = run.probe(run.x)
        mixed.append(probe.point.mixed)
        # A mixture has one rounding more than its parts; 64 of them, of margins up to 10, are 1e-13.
        np.testing.assert_allclose(probe.point.some(np.array([3])), (total.A @ run.x)[[3]], atol=2e-13)
        np.testing.assert_allclose(probe.point.margins, total.A @ run.x, atol=2e-13)
        assert not probe.point.parts
        step.advance(rng.normal(size=30))
    assert max(mixed) == (64 if isinstance(C, L1Ball) else 0)


def test_the_middle_of_two_points_is_theirs():
    total = problem(sparse=False)
    oracle = Oracle(total, 30, max_queries=None)
    x, z = np.random.default_rng(0).normal(size=(2, 30))
    ends = [oracle.at(point) for point in (x, z)]
    for end in ends:
        _ = end.point.margins
    middle = oracle.at(0.5 * (x + z), [(0.5, end.point) for end in ends])
    exact = oracle.at(0.5 * (x + z))
    for rows in (np.array([4, 9]), np.arange(70)):
        np.testing.assert_allclose(middle.base(rows), exact.base(rows), atol=1e-13)


@pytest.mark.parametrize("sparse", [False, True])
def test_compiled_changes_are_the_differences_of_the_pairs(sparse):
    total, rng = problem(sparse), np.random.default_rng(3)
    x, x_old = rng.normal(size=(2, 30)) / 10.0
    block = CoordinateBlock(rng.integers(0, 30, 40))
    drawn = np.array([7, 3, 7, 60])
    idx, X, X_old = np.repeat(drawn, 10), np.tile(x, (40, 1)), np.tile(x_old, (40, 1))
    oracle = Oracle(total, 30, max_queries=None, mu=1e-3)
    probe, old = oracle.at(x), oracle.at(x_old)
    old.base(np.array([60, 5]))
    before = oracle.n_queries
    new, change = probe.changes(old, drawn, block)
    # Three functions here, of which one is known there; and both ends of all pairs.
    assert oracle.n_queries - before == 3 + 2 + 2 * 40
    shift = np.zeros((40, 30))
    block.shift(shift, 1e-3)
    here = (total.values(X + shift, idx) - total.values(X, idx)) / 1e-3
    there = (total.values(X_old + shift, idx) - total.values(X_old, idx)) / 1e-3
    # Values up to 10 have roundings up to 1e-15, of which each difference has four over mu = 1e-3.
    np.testing.assert_allclose(new, here, rtol=0.0, atol=1e-11)
    np.testing.assert_allclose(change, here - there, rtol=0.0, atol=2e-11)
    assert probe.unknown(np.array([3, 7, 60])) == 0
    assert (probe.n_known, old.n_known) == (3, 4)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_all_values_and_those_halfway(sparse, plain):
    total, rng = problem(sparse), np.random.default_rng(4)
    x, x_old = rng.normal(size=(2, 30)) / 10.0
    given: list[np.ndarray] = []

    def values(X, idx):
        given.append(idx)
        return total.values(X, idx)

    fun = FiniteSum(values, 70, 30, dtype=np.float64) if plain else total
    oracle = Oracle(fun, 30, max_queries=None)
    probe, old = oracle.at(x), oracle.at(x_old)
    probe.base(np.array([2, 9]))
    everything = np.arange(70)
    expected = total.values(np.tile(x, (70, 1)), everything)
    np.testing.assert_allclose(probe.base(all_rows(70)), expected, rtol=1e-14, atol=1e-15)
    assert (oracle.n_queries, probe.unknown(everything)) == (70, 0)
    halfway = total.values(np.tile(0.5 * (x + x_old), (70, 1)), everything)
    np.testing.assert_allclose(probe.middle(old, everything), halfway, rtol=1e-14, atol=1e-15)
    assert (oracle.n_queries, old.n_known) == (140, 0)
    probe.means(CoordinateBlock(np.array([4])), all_rows(70))
    assert all(idx.flags.writeable for idx in given)


def test_many_functions_are_handed_over_to_write_into():
    given = []

    def values(X, idx):
        given.append(idx.flags.writeable)
        return X[:, 0] * idx

    probe = Oracle(FiniteSum(values, 2000, 2, dtype=np.float64), 2, max_queries=None).at(np.ones(2))
    probe.means(CoordinateBlock(np.array([0, 1])), all_rows(2000))
    assert all(given)
    with pytest.raises(ValueError, match="read-only"):
        all_rows(2000)[0] = 1


@given(st.lists(st.integers(0, 10**6), max_size=30))
@settings(max_examples=50, deadline=None)
def test_different_entries_are_in_order(drawn):
    idx = np.array(drawn, dtype=np.int64)
    assert distinct(idx, 10**6 + 1).tolist() == sorted(set(drawn))
    assert distinct(idx, 10**6 + 10**7).tolist() == sorted(set(drawn))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_one_entry_that_is_not_finite_is_found(bad):
    values = np.full(9, 1e308)
    assert all_finite(values)
    assert all_finite(values[:0])
    values[4] = bad
    assert not all_finite(values)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_unseen_entries_are_different_and_in_order(n, m, seed):
    rng = np.random.default_rng(seed)
    idx, known = rng.integers(0, n, m), rng.random(n) < 0.4
    before = known.copy()
    expected = np.unique(idx[~known[idx]])
    np.testing.assert_array_equal(unseen(idx, known), expected)
    np.testing.assert_array_equal(known, before)


@pytest.mark.parametrize("kind", ["coordinate", "orthogonal", "gaussian"])
@pytest.mark.parametrize("size", [1, 4, 7, 30])
def test_streams_are_the_pairs_in_blocks(kind, size):
    streams = [Directions(kind, 7, np.random.default_rng(5)) for _ in range(2)]
    whole = streams[0].pairs(30)
    blocks = list(streams[1].stream(30, size))
    x = np.random.default_rng(6).normal(size=7)
    # A dot product of seven terms may be summed in another order for other numbers of rows.
    np.testing.assert_allclose(np.concatenate([block.dots(x) for block in blocks]), whole.dots(x), atol=1e-13)
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert streams[0].rng.random() == streams[1].rng.random()


@pytest.mark.parametrize("kind", ["coordinate", "orthogonal", "gaussian"])
@pytest.mark.parametrize("b", [20, 400])
@pytest.mark.parametrize("around", [False, True])
def test_batches_say_the_same_in_blocks(kind, b, around, monkeypatch):
    total = problem(sparse=False)
    x, z = np.random.default_rng(0).normal(size=(2, 30)) / 5.0
    seen = []
    for pairs in (2**16, 16):
        monkeypatch.setattr(increments, "_PAIRS", pairs)
        run = run_of(total, L2Ball(9.0), x, directions=kind, directions_per_sample=4)
        seen.append(Increment(run, z, b, total.gradient(x) if around else None))
    a, c = seen
    assert a.size == c.size
    np.testing.assert_array_equal(a.rows, c.rows)
    for name in ("change", "here", "spread", "variance", "noise", "noise_here"):
        np.testing.assert_allclose(getattr(a, name), getattr(c, name), rtol=1e-9, atol=1e-12)


def test_what_a_batch_says_is_what_its_pairs_say(monkeypatch):
    total = problem(sparse=False)
    x, z = np.random.default_rng(0).normal(size=(2, 30)) / 5.0
    v = total.gradient(x)
    taken = []
    take = Increment._take

    def watched(self, block, new, change):
        taken.append((block.k, new, change))
        take(self, block, new, change)

    monkeypatch.setattr(Increment, "_take", watched)
    run = run_of(total, L2Ball(9.0), x)
    found, around = Increment(run, z, 90), Increment(run, z, 90, v)
    (k, new, change), (j, more, _) = taken
    means = [np.array([values[k == i].mean() for i in range(30)]) for values in (new, change)]
    within = [30 * np.sum((values - mean[k]) ** 2) / 60 for values, mean in zip((new, change), means)]
    assert found.noise_here == pytest.approx(within[0])
    assert found.noise == pytest.approx(within[1])
    assert found.spread == pytest.approx(30 * np.mean(change**2))
    assert found.variance == pytest.approx(30 * np.var(new))
    np.testing.assert_allclose(found.here, means[0], atol=1e-12)
    np.testing.assert_allclose(found.change, means[1], atol=1e-12)
    assert around.variance == pytest.approx(30 * np.mean((more - v[j]) ** 2))


def test_many_functions_at_one_point_are_asked_together(monkeypatch):
    rng = np.random.default_rng(0)
    total = QuadraticLike(rng.normal(size=(1500, 3)))
    monkeypatch.setattr(finite_sum, "_NUMBERS", 3000)
    oracle = Oracle(total, 3, max_queries=None, mu=1e-3)
    x, block, rows = rng.normal(size=3), CoordinateBlock(np.array([2, 0])), np.arange(1500)
    mean, square = oracle.at(x).means(block, rows)
    # At most 3000 numbers a call, and a point that all share is stored once.
    assert max(total.sizes) == 1000
    assert set(total.strides) == {0}
    D = total.centers[:, [2, 0]] * -1.0 + x[[2, 0]] + 0.5e-3
    np.testing.assert_allclose(mean, D.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(square, (D * D).mean(axis=0), atol=1e-8)


class QuadraticLike(FiniteSum):
    """Halves of squared distances, which note how they are asked."""

    def __init__(self, centers):
        self.centers, self.sizes, self.strides = centers, [], []
        super().__init__(self.answer, *centers.shape, dtype=np.float64)

    def answer(self, X, idx):
        self.sizes.append(len(idx))
        self.strides.append(X.strides[0])
        return 0.5 * ((X - self.centers[idx]) ** 2).sum(axis=1)


def test_a_run_takes_memory_for_the_data_and_a_block_of_pairs(monkeypatch):
    monkeypatch.setattr(increments, "_PAIRS", 2**12)
    peaks = []
    for n, d in ((1000, 100), (2000, 2000)):
        A, y, _ = make_sparse_logistic(n, d, random_state=0)
        total = LinearFiniteSum(A, y, "logistic")
        options = {"max_queries": n * d, "certificate": "none", "random_state": 0, "chunk_size": 2**12}
        if not peaks:
            minimize_fw_zo(total, None, L1Ball(10.0), **options)
        tracemalloc.start()
        result = minimize_fw_zo(total, None, L1Ball(10.0), **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        # Twenty numbers a function, a coordinate and a pair of the block. The data are not copied.
        assert peaks[-1] <= 20 * 8 * (n + d + 2**12) + 2**18
    # The batch itself would have taken more.
    assert 8 * result.history["batch"].max() > peaks[-1]
