"""Lean steps: the same run as the general path, at a cost that does not know d."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import L1Ball, LinearFiniteSum, QuadraticFiniteSum, Simplex, minimize, minimize_fw_zo
from mlpapers.optim._lean import LeanDVR, LeanStep, ScaledPoint
from mlpapers.optim._loop import Loop, Stopping
from mlpapers.optim._oracle import Oracle
from mlpapers.optim._run import Run, Settings
from mlpapers.optim._tournament import Tournament


@settings(max_examples=60, deadline=None)
@given(d=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_the_winner_is_the_lowest_index_of_the_largest_key(d, seed):
    rng = np.random.default_rng(seed)
    # Few different values: ties are the rule.
    keys = rng.integers(0, 4, d).astype(float)
    race = Tournament(keys.copy())
    for _ in range(5):
        assert race.winner == int(race.keys.argmax())
        k = rng.choice(d, size=rng.integers(1, d + 1), replace=False)
        race.change(k, rng.integers(0, 4, len(k)).astype(float))


def test_a_change_plays_one_match_a_level():
    race = Tournament(np.zeros(1024))
    before = race.played
    race.change(np.array([3, 700]), np.ones(2))
    assert race.played - before == 2 * 10


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.01, 0.5, 0.999]))
def test_scaled_points_are_the_points(seed, gamma):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=6)
    point = ScaledPoint(x)
    for _ in range(120):
        k, s = int(rng.integers(6)), float(rng.normal())
        last, x = x, (1.0 - gamma) * x
        x[k] += gamma * s
        point.blend(k, s, gamma)
        everything = np.arange(6)
        np.testing.assert_allclose(point.at(everything, old=False), x, rtol=1e-9, atol=1e-12)
        # The old coordinate is a difference of two numbers that may be 1/(1 - gamma) times as large.
        np.testing.assert_allclose(point.at(everything, old=True), last, rtol=1e-9, atol=1e-10)
        assert point.size == pytest.approx(np.abs(x).max())
        assert point.scale**2 * point.square == pytest.approx(x @ x)


def sums(d=40, n=30):
    rng = np.random.default_rng(0)
    A, y = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.4), np.sign(rng.normal(size=n))
    yield "dense", LinearFiniteSum(A, y, "logistic")
    yield "sparse", LinearFiniteSum(scipy.sparse.csr_matrix(A), y, "welsch")
    yield "quadratic", QuadraticFiniteSum(rng.uniform(0.5, 1.5, (n, d)), rng.normal(size=(n, d)))


SUMS = dict(sums())
LEAN = {"schedule": "fixed", "n_directions": 1, "batch_size": 5, "refresh_prob": 0.2, "step_offset": 20.0}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize(
    ("C", "options"),
    [
        (L1Ball(2.0), {"init": "full", "warmup": "none"}),
        (L1Ball(2.0), {"init": "zero", "refresh": "bernoulli", "batch_size": 50}),
        (Simplex(1.0), {"step": 0.3, "n_directions": 3}),
        (Simplex(1.0), {"E": "sqrt_d", "batch_size": None, "n_directions": None, "refresh_prob": None}),
    ],
    ids=["full", "zero", "simplex", "root d"],
)
@pytest.mark.parametrize("budget", [9000, 2345])
def test_lean_runs_are_the_general_ones(name, C, options, budget, monkeypatch):
    total, x0 = SUMS[name], C.center(40)
    runs = []
    for lean in (True, False):
        if not lean:
            monkeypatch.setattr(minimize, "is_lean", lambda *_: False)
        seen = []
        result = minimize_fw_zo(
            total,
            x0,
            C,
            max_queries=budget,
            random_state=4,
            callback=lambda state, seen=seen: seen.append((state.gap_estimate, state.step, state.n_queries)),
            **{**LEAN, **options},
        )
        runs.append((result, np.array(seen)))
    (a, seen), (b, expected) = runs
    assert (a.n_queries, a.n_iter, a.n_lmo, a.status) == (b.n_queries, b.n_iter, b.n_lmo, b.status)
    assert a.max_queries_per_iter == b.max_queries_per_iter
    # Differences of radius 1.5e-8 turn rounding of the values into 1e-8 of the estimate.
    np.testing.assert_allclose(a.x, b.x, atol=1e-6)
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert a.fun == pytest.approx(b.fun, abs=1e-6)
    if a.active_set is not None:
        vertices, weights = a.active_set
        assert weights.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(weights @ vertices, a.x, atol=1e-9)


def lean_run(d, n=50, b=7):
    rng = np.random.default_rng(0)
    indptr = np.arange(0, 3 * n + 1, 3)
    A = scipy.sparse.csr_matrix((rng.normal(size=3 * n), rng.integers(0, d, 3 * n), indptr), shape=(n, d))
    total = LinearFiniteSum(A, np.sign(rng.normal(size=n)), "logistic")
    chosen = Settings(
        schedule="fixed",
        batch_size=b,
        n_directions=1,
        refresh_prob=0.1,
        warmup="none",
        init="zero",
        step_offset=1e3,
    )
    run = Run(
        Oracle(total, d, max_queries=None), L1Ball(1.0), chosen, np.zeros(d), np.random.SeedSequence(0), None
    )
    estimator = LeanDVR(run)
    return run, estimator, LeanStep(run, estimator)


def test_steps_touch_as_much_whatever_the_dimension():
    costs = []
    for d in (10**3, 10**4, 10**6):
        run, estimator, step = lean_run(d)
        step.advance(estimator.estimate())
        run.t = 1
        # The first refresh draws the sweep, O(d) once in d directions.
        run.directions.refresh(1)
        played, touched = estimator.race.played, estimator.touched
        tracemalloc.start()
        for t in range(1, 101):
            run.t = t
            step.advance(estimator.estimate())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        costs.append(estimator.touched - touched)
        levels = int(np.ceil(np.log2(d)))
        changed = 100 * 7 + 10
        assert estimator.race.played - played <= changed * levels
        # One temporary of d numbers would be 8 d bytes.
        if d == 10**6:
            assert peak < d
    assert costs[0] == costs[1] == costs[2]
    # A step has 2b pairs, at most b coordinates and one for the move; every tenth n functions more, and one.
    assert costs[0] <= 100 * (3 * 7 + 1) + 10 * 51


def test_whole_points_are_made_only_where_someone_looks(quadratic):
    run, estimator, step = lean_run(100)
    stopping = Stopping(5, None, False, None, None, 1.05, None, 0)
    loop = Loop(run, estimator, step, stopping, keep_best=False, fingerprint={})
    loop.execute()
    assert L1Ball(1.0).contains(loop.result_point(), 1e-12)
    # A tolerance looks at the points themselves: the general path takes over and stops.
    result = minimize_fw_zo(
        quadratic, np.zeros(6), L1Ball(1.0), tol=10.0, max_queries=5000, random_state=0, **LEAN
    )
    assert result.status == 0
