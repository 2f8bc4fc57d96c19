"""The ledger of errors: what it holds is what the estimate is off by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import L2Ball, LinearFiniteSum, QuadraticFiniteSum, minimize_fw_zo
from mlpapers.optim._directions import Directions
from mlpapers.optim._dvr import AdaptiveDVR
from mlpapers.optim._increment import Increment
from mlpapers.optim._ledger import ErrorLedger
from mlpapers.optim._oracle import Oracle
from mlpapers.optim._run import Run, Settings


@settings(max_examples=60, deadline=None)
@given(span=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_a_sweep_leaves_no_error_and_errors_never_go_below_zero(span, seed):
    rng = np.random.default_rng(seed)
    directions, ledger = Directions("coordinate", span, rng), ErrorLedger(span)
    ledger.reset(float(rng.exponential()))
    for _ in range(3):
        left = span
        while left:
            block = directions.refresh(int(rng.integers(1, left + 1)))
            left -= len(block)
            ledger.refresh(block, float(rng.exponential()))
            assert (ledger.errors[block.k] == 0.0).all()
            assert (ledger.errors >= 0.0).all()
        assert ledger.total == 0.0
        ledger.grow(2.0)
        assert ledger.total == pytest.approx(2.0)


def test_only_the_stale_directions_answer_for_what_a_refresh_finds():
    directions, ledger = Directions("coordinate", 4, np.random.default_rng(0)), ErrorLedger(4)
    ledger.reset(8.0)
    # A refresh that finds what the ledger holds changes nothing but its own direction.
    first = directions.refresh(1)
    ledger.refresh(first, 2.0)
    assert ledger.total == pytest.approx(6.0)
    second = directions.refresh(1)
    ledger.refresh(second, 4.0)
    # Off by twice what it held: the other two grow by a fifth, those that are new stay at 0.
    assert ledger.total == pytest.approx(2 * 2.0 * 1.2)
    assert ledger.errors[first.k] == ledger.errors[second.k] == 0.0


@pytest.mark.parametrize("kind", ["sphere", "gaussian"])
def test_random_directions_count_as_a_share_of_every_direction(kind):
    directions, ledger = Directions(kind, 10, np.random.default_rng(0)), ErrorLedger(10)
    ledger.reset(1.0)
    ledger.refresh(directions.refresh(3), 0.3)
    np.testing.assert_allclose(ledger.errors, 0.07)


@settings(max_examples=60, deadline=None)
@given(V=st.floats(1e-12, 1e6), R=st.floats(1e-12, 1e6))
def test_mixing_in_an_estimate_is_the_least_error_of_all_mixtures(V, R):
    ledger = ErrorLedger(5)
    ledger.reset(V)
    k = ledger.mix(R)
    assert k == pytest.approx(V / (V + R))
    # The expected error of (1 - k) v + k w at every k, the ledger's among them.
    assert ledger.total == pytest.approx((1.0 - k) ** 2 * V + k * k * R)
    assert ledger.total == pytest.approx(V * R / (V + R))


def test_an_estimate_of_unknown_error_is_replaced():
    ledger = ErrorLedger(3)
    ledger.reset(np.inf)
    assert ledger.mix(6.0) == 1.0
    np.testing.assert_allclose(ledger.errors, 2.0)
    ledger.reset(0.0)
    assert ledger.mix(0.0) == 0.0


def make_run(total, d, **given):
    settings = Settings(directions_per_sample=d, **given)
    oracle = Oracle(total, d, max_queries=None)
    return Run(oracle, L2Ball(1.0), settings, np.eye(d)[0], np.random.SeedSequence(0), None)


def test_functions_that_agree_have_no_variance_however_steep_they_are():
    slopes = np.array([3.0, -2.0, 0.5, 0.0])
    total = LinearFiniteSum(np.tile(slopes, (9, 1)), np.zeros(9), lambda m, _y: m)
    run = make_run(total, 4)
    run.t, old = 1, run.x
    run.x = np.zeros(4)
    increment = Increment(run, old, 8, slopes)
    # Differences of a linear function are exact to rounding: 2 eps |f| / mu, squared and summed.
    assert increment.variance <= 4 * (4 * np.finfo(float).eps * 4.0 / run.probe(run.x).mu) ** 2
    # Around nothing it holds the squared gradient, of which sampling does not suffer.
    assert Increment(run, old, 8).variance == pytest.approx(4 * np.var(slopes), rel=1e-6)


def test_the_variance_of_a_batch_is_that_of_the_functions():
    rng = np.random.default_rng(3)
    total = QuadraticFiniteSum(rng.uniform(0.5, 1.5, (500, 6)), 2.0 + rng.normal(size=(500, 6)))
    run = make_run(total, 6)
    run.t, old = 1, run.x
    run.x = np.zeros(6)
    table = -total.H * total.b
    truth, squares = float(table.var(axis=0).sum()), np.sum((table - table.mean(axis=0)) ** 2, axis=1)
    seen = [Increment(run, old, 120, total.gradient(run.x)).variance for _ in range(200)]
    # 200 batches of 20 functions: four standard errors.
    assert abs(np.mean(seen) - truth) <= 4.0 * squares.std() / np.sqrt(4000)


@pytest.mark.parametrize(("n", "allowed"), [(1000, 1e-2), (1000, 1e-3), (400, 1.0)])
def test_a_fresh_estimate_buys_what_sampling_without_replacement_needs(n, allowed):
    rng = np.random.default_rng(0)
    total = QuadraticFiniteSum(np.ones((n, 3)), rng.normal(size=(n, 3)))
    run = make_run(total, 3)
    estimator = AdaptiveDVR(run)
    estimator.estimate()
    run.t, run.gamma = 5, 0.5
    run.x = np.full(3, 0.1)
    estimator.sigma2, estimator.delta2 = 1.0, 1e-9
    estimator._target = lambda: allowed
    estimator.ledger.reset(1e6)
    before = run.oracle.n_queries
    estimator.estimate()
    m = (run.oracle.n_queries - before) // 4
    wanted = 2.0 / allowed
    if wanted >= n:
        assert m == n
        assert estimator.V == 0.0
    else:
        # sigma2 (1/m - 1/n) is at most half of what is allowed, and with one function fewer more than that.
        assert 1.0 / m - 1.0 / n <= allowed / 2.0 < 1.0 / (m - 1) - 1.0 / n


def test_the_adaptive_schedule_begins_with_no_estimate_at_all():
    rng = np.random.default_rng(1)
    total = QuadraticFiniteSum(rng.uniform(0.5, 1.5, (300, 8)), rng.normal(size=(300, 8)))
    result = minimize_fw_zo(total, np.eye(8)[0], L2Ball(1.0), init="zero", max_queries=30_000, random_state=0)
    g = total.gradient(result.x)
    # Curvatures below 1.5, a diameter of 2: the bound of exact Frank-Wolfe after so many steps, doubled.
    assert g @ (result.x + g / np.linalg.norm(g)) <= 2.0 * 2.0 * 1.5 * 4.0 / (result.n_iter + 2.0)
