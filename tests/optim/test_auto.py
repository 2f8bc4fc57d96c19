"""The regime-free method: what it buys, when it doubts convexity, and where it goes then."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import (
    Birkhoff,
    Box,
    FiniteSum,
    L1Ball,
    L2Ball,
    LinearFiniteSum,
    LInfBall,
    Simplex,
    Spectrahedron,
    minimize_fw_zo,
)
from mlpapers.optim._cycles import AutoEstimator
from mlpapers.optim._oracle import Oracle
from mlpapers.optim._run import Run, Settings
from mlpapers.optim._starts import Starts


def make_run(total, C, seed=0, **settings):
    oracle = Oracle(total, total.dim, max_queries=None)
    x = C.center(total.dim)
    return Run(oracle, C, Settings(method="auto", **settings), x, np.random.SeedSequence(seed), None)


@settings(max_examples=40, deadline=None)
@given(
    sigma2=st.floats(1e-6, 1e6),
    delta2=st.floats(1e-6, 1e6),
    move=st.floats(1e-12, 1.0),
    allowed=st.floats(1e-12, 1e3),
)
def test_the_plan_is_near_the_cheapest_cycle(sigma2, delta2, move, allowed):
    n, d, g = 400, 10, 4
    total = FiniteSum(lambda _X, idx: np.zeros(len(idx)), n, d)
    plan = AutoEstimator(make_run(total, L2Ball(1.0), directions_per_sample=g))
    plan.sigma2, plan.delta2, plan.V = sigma2, delta2, 0.0
    m, pairs = plan._plan(allowed, move)
    q, each, least = d * delta2 * move, 2.0 * (1.0 + 1.0 / g), plan._least_pairs()

    def error(m):
        return sigma2 * (1.0 / m - 1.0 / n)

    def cost(m, b):
        """Queries per step of a fresh estimate on m functions and the increments of b pairs that fit."""
        K = math.floor((allowed - error(m)) / (q / b)) if b else 0
        return (m * (d + 1) + K * each * b) / (K + 1)

    # Of one function no variance is seen.
    enough = [m for m in range(2, n + 1) if error(m) <= allowed]
    batches = np.unique(np.geomspace(least, 4.0 * n * d, 40))
    cheapest = min(min(cost(m, b) for b in [0, *batches]) for m in enough)
    # Five shares stand for all sizes, and the number of increments is rounded.
    assert cost(m, pairs) <= 2.5 * cheapest
    assert error(m) <= allowed * (1 + 1e-9)


def test_an_increment_is_made_only_within_the_allowed_error():
    total = FiniteSum(lambda _X, idx: np.zeros(len(idx)), 400, 10)
    plan = AutoEstimator(make_run(total, L2Ball(1.0)))
    plan.sigma2, plan.delta2, plan.V = 1.0, 1e-3, 0.0
    assert plan._plan(1e-3, 1e-3)[1] > 0
    plan.V = 1e-3
    assert plan._plan(1e-3, 1e-3)[1] == 0


def test_functions_that_are_flat_at_first_are_not_taken_for_all():
    n, d = 200, 5
    aim = np.linspace(-0.5, 0.5, d)

    def values(X, idx):
        return np.where(idx == n - 1, n * ((X - aim) ** 2).sum(axis=1), 0.0)

    total = FiniteSum(values, n, d, dtype=np.float64)
    for seed in range(4):
        result = minimize_fw_zo(
            total, None, L2Ball(2.0), method="auto", max_queries=40 * n * d, random_state=seed
        )
        assert result.fun <= 1e-9 * total.mean(np.zeros(d))


def test_only_all_functions_prove_that_they_are_alike():
    n, d = 300, 4
    aim = np.full(d, 0.2)
    total = FiniteSum(lambda X, _idx: ((X - aim) ** 2).sum(axis=1), n, d, dtype=np.float64)
    result = minimize_fw_zo(total, None, L2Ball(1.0), method="auto", max_queries=20 * n * d, random_state=0)
    assert result.fun <= 1e-12
    batches = result.history["batch"][result.history["stage"] == "fresh"]
    np.testing.assert_array_equal(batches, np.minimum(16 * 2 ** np.arange(len(batches)), n))
    # The run ends with the pass that proves it.
    assert batches[-1] == n
    assert result.status == 0


def test_scales_far_apart_do_not_undo_what_was_reached():
    rng = np.random.default_rng(0)
    n, d = 300, 12
    A = rng.normal(size=(n, d)) * np.logspace(0.0, -3.0, d)
    b = A @ rng.dirichlet(np.full(d, 0.3)) + 0.05 * rng.normal(size=n)

    def values(X, idx):
        return 0.5 * (np.einsum("md,md->m", A[idx], X) - b[idx]) ** 2 + 5e-4 * np.einsum("md,md->m", X, X)

    total, C = FiniteSum(values, n, d, dtype=np.float64), Simplex()
    H, c = A.T @ A / n + 1e-3 * np.eye(d), A.T @ b / n
    x = C.center(d)
    for _ in range(20_000):
        x = C.project(x - (H @ x - c) / np.linalg.norm(H, 2))
    for seed in range(3):
        result = minimize_fw_zo(total, None, C, method="auto", max_queries=60 * n * d, random_state=seed)
        assert result.fun - total.mean(x) <= 1e-12


@pytest.mark.parametrize("C", [Birkhoff(4), Spectrahedron(4)], ids=["birkhoff", "spectrahedron"])
def test_convergence_is_linear_without_a_projection(C):
    rng = np.random.default_rng(1)
    A = rng.normal(size=(300, 16)) / 4.0
    x = rng.dirichlet(np.ones(3)) @ C.lmo(rng.normal(size=(3, 16)))
    total = LinearFiniteSum(A, A @ x + 0.1 * rng.normal(size=300), "squared")
    gaps = []
    for passes in (10, 20):
        result = minimize_fw_zo(
            total, None, C, method="auto", max_queries=passes * 300 * 16, random_state=0, certificate="none"
        )
        g = total.gradient(result.x)
        gaps.append(g @ (result.x - C.lmo(g)))
    # A rate of 1/t would halve it, and one of 1/t^2 quarter it.
    assert gaps[1] <= max(0.1 * gaps[0], 1e-10)


def test_nothing_overflows_where_nothing_is_left_to_gain(logistic):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for C in (L1Ball(0.1), Simplex(1.0)):
            # The optimum is a vertex: the gradient mapping, and with it the allowed error, is exactly 0.
            result = minimize_fw_zo(
                logistic, None, C, method="auto", fd="central", max_queries=60_000, random_state=0
            )
            assert result.fun <= logistic.mean(np.zeros(5))
        total = FiniteSum(lambda _X, idx: np.zeros(len(idx)), 400, 10)
        plan = AutoEstimator(make_run(total, L2Ball(1.0)))
        plan.sigma2, plan.delta2, plan.V = 1.0, 1.0, 0.0
        assert plan._plan(0.0, 1e-3) == (400, 0)
        assert plan._plan(np.float64(5e-324), np.float64(1.0)) == (400, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), loss=st.sampled_from(["logistic", "squared", "huber", "smooth_hinge"]))
def test_convex_sums_are_not_doubted(seed, loss):
    rng = np.random.default_rng(seed)
    total = LinearFiniteSum(rng.normal(size=(50, 4)), np.sign(rng.normal(size=50)), loss)
    for C in (L1Ball(3.0), LInfBall(2.0)):
        assert not Starts(make_run(total, C, seed))._is_bent(np.zeros(4), 32)


def test_sums_that_are_not_convex_are_found_out():
    rng = np.random.default_rng(0)
    total = LinearFiniteSum(rng.normal(size=(50, 4)), np.sign(rng.normal(size=50)), "welsch")
    assert Starts(make_run(total, L1Ball(30.0)))._is_bent(np.zeros(4), 32)
    concave = FiniteSum(lambda X, _: -(X**2).sum(axis=1), 1, 4)
    assert Starts(make_run(concave, L1Ball(1.0)))._is_bent(np.zeros(4), 1)


def two_valleys(n, rng):
    """A sum with a valley of depth 0 near 0.8 and one of depth -0.5 near -0.8, in both coordinates."""
    noise = 0.1 * rng.normal(size=(n, 2))

    def values(X, idx):
        x = X + 0.0
        return ((x * x - 0.64) ** 2).sum(axis=1) + 0.3 * x.sum(axis=1) + (noise[idx] * X).sum(axis=1)

    return FiniteSum(values, n, 2, dtype=np.float64)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_other_starts_leave_a_bad_valley(seed, counted):
    total, counter = counted(two_valleys(200, np.random.default_rng(seed)))
    start = np.full(2, 0.75)
    result = minimize_fw_zo(
        total, start, LInfBall(1.0), method="auto", max_queries=8000, certificate="none", random_state=seed
    )
    assert counter.rows == result.n_queries <= 8000
    # From the start itself every descent ends in the valley at (0.73, 0.73), where f = 0.47.
    assert total.mean(result.x) < 0.1


def test_a_run_that_tries_starts_can_be_resumed_and_cut_anywhere(tmp_path):
    total, path = two_valleys(200, np.random.default_rng(0)), tmp_path / "state"
    common = {"method": "auto", "certificate": "none", "random_state": 3}
    start, C = np.full(2, 0.75), LInfBall(1.0)
    whole = minimize_fw_zo(total, start, C, max_queries=6000, **common)
    for cut in (900, 1500, 2500):
        minimize_fw_zo(total, start, C, max_queries=cut, checkpoint=path, history_every=1.0, **common)
        resumed = minimize_fw_zo(total, start, C, max_queries=6000, resume=path, history_every=1.0, **common)
        np.testing.assert_array_equal(resumed.x, whole.x)
        assert resumed.n_queries == whole.n_queries


def test_momentum_and_corners_survive_a_checkpoint(tmp_path):
    rng = np.random.default_rng(4)
    A = rng.normal(size=(150, 9)) / 3.0
    total, path = LinearFiniteSum(A, A @ rng.normal(size=9), "squared"), tmp_path / "state"
    common = {"method": "auto", "certificate": "none", "random_state": 1, "history_every": 1.0}
    for C in (Birkhoff(3), L2Ball(0.8)):
        whole = minimize_fw_zo(total, None, C, max_queries=12_000, **common)
        minimize_fw_zo(total, None, C, max_queries=6000, checkpoint=path, **common)
        resumed = minimize_fw_zo(total, None, C, max_queries=12_000, resume=path, **common)
        np.testing.assert_array_equal(resumed.x, whole.x)
        assert resumed.n_lmo == whole.n_lmo


@pytest.mark.parametrize("pause", [3, 7, 40])
def test_points_that_a_run_has_settled_at_are_asked_as_often_after_a_pause(pause, tmp_path):
    """Near the end a step may lead to where the run has been; its values are asked anew then."""
    path, target = tmp_path / "state", np.array([0.3, -0.2, 0.05])
    common = {"method": "auto", "max_queries": 1000, "history_every": 1.0}

    def fun(x):
        return float(((x - target) ** 2).sum())

    def stop(state):
        return state.n_iter > pause

    whole = minimize_fw_zo(fun, np.zeros(3), L1Ball(1.0), random_state=0, **common)
    minimize_fw_zo(fun, np.zeros(3), L1Ball(1.0), random_state=0, checkpoint=path, callback=stop, **common)
    # Draws go on as in the run that was interrupted, whatever the seed.
    resumed = minimize_fw_zo(fun, np.zeros(3), L1Ball(1.0), random_state=1, resume=path, **common)
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert (resumed.n_queries, resumed.n_iter) == (whole.n_queries, whole.n_iter)


def test_the_first_step_stays_where_the_model_holds():
    """A step of a tenth of this diameter would cross the valley and end on the far plateau."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(300, 5))
    total = LinearFiniteSum(A, A @ np.array([0.5, -0.5, 0.0, 0.2, 0.0]), "welsch")
    seen = []
    minimize_fw_zo(
        total,
        None,
        L2Ball(200.0),
        method="auto",
        max_iter=1,
        certificate="none",
        random_state=0,
        callback=lambda state: seen.append(state.x),
    )
    assert 0.0 < np.linalg.norm(seen[0]) < 3.0
    assert total.mean(seen[0]) < total.mean(np.zeros(5))


def test_trials_find_the_best_of_many_valleys(counted):
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(100, 6))

    def values(X, idx):
        return ((X * X - 0.64) ** 2 + 0.3 * X).sum(axis=1) + (noise[idx] * X).sum(axis=1)

    total, counter = counted(FiniteSum(values, 100, 6, dtype=np.float64))
    result = minimize_fw_zo(
        total,
        np.full(6, 0.75),
        LInfBall(1.0),
        method="auto",
        max_queries=20_000,
        certificate="none",
        random_state=0,
    )
    assert counter.rows == result.n_queries <= 20_000
    # One of 64 valleys; any other one is at least 0.4 higher.
    assert total.mean(result.x) <= total.mean(np.full(6, -0.87)) + 0.1
    assert set(result.history["stage"]) >= {"trial", "fresh"}


@pytest.mark.parametrize("C", [Box(-np.ones(3), np.ones(3)), L1Ball(1.0), Simplex(1.0), L2Ball(1.0)])
@pytest.mark.parametrize("slope", [[1.0, -2.0, 0.5], [1.0, 0.0, 0.0]])
def test_linear_functions_without_any_curvature_end_in_the_vertex(C, slope):
    slope = np.array(slope)
    x0 = np.eye(3)[0] if isinstance(C, Simplex) else np.zeros(3)
    for seed in range(3):
        result = minimize_fw_zo(
            lambda x: float(x @ slope), x0, C, method="auto", max_queries=600, random_state=seed
        )
        # Differences over mu = sqrt(eps) are exact but for rounding.
        assert result.fun - float(slope @ C.lmo(slope)) <= 1e-7


def test_curvature_is_learned_after_none_was_seen():
    """Flat behind a plane, so that the first moves show no curvature at all; then a square."""
    d = 300
    slope = np.zeros(d)
    slope[:2] = -4.0, -1.0

    def fun(x):
        return float(slope @ x) + 32.0 * max(float(x[0]) - 0.5, 0.0) ** 2

    C = Box(-np.ones(d), np.ones(d))
    result = minimize_fw_zo(fun, np.zeros(d), C, method="auto", max_queries=30 * d, random_state=0)
    assert abs(result.x[0] - 0.5625) < 1e-3
    assert result.x[1] == 1.0
