"""minimize_fw_zo: counts, invariances, stopping, checkpoints, every method and every error."""

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch
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
    NuclearNormBall,
    Simplex,
    Spectrahedron,
    minimize_fw_zo,
)
from mlpapers.optim._arguments import METHODS
from mlpapers.testing import check_result

GRADIENT_FREE = [method for method in METHODS if method != "sfw"]


def optimum(total, C, steps=20000):
    """Accelerated projected gradient, restarted: a reference to 1e-13."""
    x = z = C.center(total.dim)
    t, L = 1.0, 2.0
    for _ in range(steps):
        new = C.project(z - total.gradient(z) / L)
        if (z - new) @ (new - x) > 0:
            t = 1.0
        after = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * t * t))
        z, x, t = new + (t - 1.0) / after * (new - x), new, after
    return x


@pytest.mark.parametrize("method", METHODS)
def test_every_method_approaches_the_optimum_and_counts_every_row(method, quadratic, counted):
    C = L2Ball(1.0)
    total, counter = counted(quadratic)
    x0 = np.eye(6)[0]
    # One function a step: the slow method gets fewer steps, and a wider band.
    budget, share = (8_000, 0.2) if method == "sgffw" else (40_000, 0.05)
    result = minimize_fw_zo(total, x0, C, method=method, max_queries=budget, random_state=0)
    assert C.contains(result.x, 1e-9)
    expected = result.n_queries + result.n_queries_final
    if method != "sfw":  # its queries are gradients
        assert counter.rows == expected
    assert result.n_queries <= budget
    best = quadratic.mean(optimum(quadratic, C, 500))
    start = quadratic.mean(x0)
    assert result.fun == pytest.approx(quadratic.mean(result.x), abs=1e-12)
    assert result.fun - best <= share * (start - best)
    assert result.fun - best >= -1e-9
    check_result(result)


@pytest.mark.parametrize("method", GRADIENT_FREE)
@pytest.mark.parametrize("budget", [701, 1999])
def test_the_budget_is_never_exceeded_and_iterates_are_feasible(method, budget, logistic, counted):
    total, counter = counted(logistic)
    C, seen = L1Ball(2.0), []
    result = minimize_fw_zo(
        total,
        np.zeros(5),
        C,
        method=method,
        max_queries=budget,
        certificate="none",
        random_state=1,
        callback=lambda state: seen.append(state.x),
    )
    assert counter.rows == result.n_queries <= budget
    assert result.n_queries_final == 0
    assert result.fun is None
    assert all(C.contains(x, 1e-9) for x in seen)


@pytest.mark.parametrize("schedule", ["adaptive", "fixed"])
@pytest.mark.parametrize("directions", ["coordinate", "orthogonal", "sphere", "gaussian"])
@pytest.mark.parametrize("fd", ["forward", "central"])
def test_dvr_variants_agree_on_the_optimum(schedule, directions, fd, logistic, counted):
    total, counter = counted(logistic)
    result = minimize_fw_zo(
        total,
        np.zeros(5),
        L1Ball(2.0),
        schedule=schedule,
        directions=directions,
        fd=fd,
        max_queries=60_000,
        random_state=0,
    )
    best = logistic.mean(optimum(logistic, L1Ball(2.0), 3000))
    assert result.fun - best <= 0.02
    assert counter.rows == result.n_queries + result.n_queries_final


@pytest.mark.parametrize(
    "options",
    [
        {"memory": "average", "directions": "gaussian"},
        {"memory": "unbiased", "directions": "gaussian", "n_directions": 4},
        {"memory": "average", "directions": "sphere"},
        {"refresh": "bernoulli"},
        {"E": "sqrt_d"},
        {"preset": "paper"},
        {"E": 3.0, "warmup": "none", "init": "full"},
        {"init": "zero"},
        {"n_directions": 1, "batch_size": 6, "refresh_prob": 0.2, "init": "full", "step_offset": 10.0},
    ],
    ids=str,
)
def test_fixed_schedules_make_progress(options, quadratic):
    C = L2Ball(1.0)
    result = minimize_fw_zo(
        quadratic, np.eye(6)[0], C, schedule="fixed", max_queries=40_000, random_state=0, **options
    )
    start, best = quadratic.mean(np.eye(6)[0]), quadratic.mean(optimum(quadratic, C, 500))
    assert result.fun - best <= 0.1 * (start - best)


def test_full_refreshes_are_plain_finite_differences_bit_for_bit(logistic):
    common = {"max_iter": 15, "random_state": 3}
    plain = minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), method="fd", **common)
    dvr = minimize_fw_zo(
        logistic,
        np.zeros(5),
        L1Ball(2.0),
        schedule="fixed",
        n_directions=5,
        refresh_prob=1.0,
        init="full",
        warmup="none",
        **common,
    )
    np.testing.assert_array_equal(plain.x, dvr.x)
    assert plain.n_queries == dvr.n_queries == 15 * 60 * 6


@pytest.mark.parametrize("method", ["dvr", "auto", "acc_szofw_star", "zscg"])
def test_same_seed_same_bits_whatever_the_chunks_and_workers(method, quadratic):
    total = FiniteSum(quadratic.values, 40, 6, dtype=np.float64)
    runs = [
        minimize_fw_zo(total, np.zeros(6), L2Ball(1.0), method=method, max_queries=5000, random_state=7, **kw)
        for kw in ({}, {"chunk_size": 17}, {"chunk_size": 100, "n_jobs": 2})
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.x, runs[0].x)
        assert run.n_queries == runs[0].n_queries
    other = minimize_fw_zo(total, np.zeros(6), L2Ball(1.0), method=method, max_queries=5000, random_state=8)
    assert not np.array_equal(other.x, runs[0].x)


@pytest.mark.parametrize("method", GRADIENT_FREE)
def test_resuming_is_the_uninterrupted_run(method, logistic, tmp_path):
    path = tmp_path / "state"
    common = {"method": method, "random_state": 5, "certificate": "none"}
    whole = minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), max_queries=6000, **common)
    minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), max_queries=3000, checkpoint=path, **common)
    resumed = minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), max_queries=6000, resume=path, **common)
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert resumed.n_queries == whole.n_queries
    assert resumed.n_iter == whole.n_iter
    with pytest.raises(ValueError, match="resume"):
        minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), max_queries=6000, mu=0.03, resume=path, **common)


@pytest.mark.parametrize("name", ["checkpoint", "resume"])
def test_places_that_are_no_paths(name, logistic):
    with pytest.raises(TypeError, match=f"{name} must be a path or None; got 3"):
        minimize_fw_zo(logistic, np.zeros(5), L1Ball(2.0), max_queries=3000, **{name: 3})


@pytest.mark.parametrize("schedule", ["adaptive", "fixed"])
def test_linear_functions_end_in_the_vertex(schedule):
    slopes = np.array([0.5, -2.0, 1.0, 0.1])
    A = np.tile(slopes, (9, 1))
    total = LinearFiniteSum(A, np.zeros(9), lambda m, _y: m)
    vs = []
    result = minimize_fw_zo(
        total,
        np.zeros(4),
        L1Ball(3.0),
        schedule=schedule,
        max_iter=30,
        random_state=0,
        callback=lambda state: vs.append(state.v),
    )
    np.testing.assert_allclose(vs[-1], slopes, atol=1e-6)
    if result.status == 0:
        assert result.x.tolist() == [0.0, 3.0, 0.0, 0.0]
    assert result.fun == pytest.approx(-6.0, abs=6 * 2 / 30)


@pytest.mark.parametrize("method", ["dvr", "auto", "fd", "jaguar", "acc_szofw"])
def test_a_constant_function_has_no_gap(method):
    total = FiniteSum(lambda _X, idx: np.full(len(idx), 2.5), 12, 3)
    result = minimize_fw_zo(total, np.zeros(3), L2Ball(1.0), method=method, max_queries=5000, tol=1e-9)
    assert result.status == 0
    assert result.success
    assert result.gap_estimate == 0.0
    assert result.n_iter <= 2


@settings(max_examples=10, deadline=None)
@given(scale=st.sampled_from([0.25, 2.0, 8.0]), seed=st.integers(0, 1000))
def test_scaling_the_function_does_not_change_the_path(scale, seed):
    rng = np.random.default_rng(seed)
    A, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    total = LinearFiniteSum(A, y, "squared")
    scaled = LinearFiniteSum(A, y, lambda m, t: scale * 0.5 * np.square(m - t))
    runs = [
        minimize_fw_zo(fun, np.zeros(4), L1Ball(1.0), max_queries=3000, random_state=seed)
        for fun in (total, scaled)
    ]
    # A power of two scales every number exactly.
    np.testing.assert_array_equal(runs[0].x, runs[1].x)


def test_shifting_the_function_changes_the_path_by_rounding_only(quadratic):
    shifted = FiniteSum(lambda X, idx: quadratic.values(X, idx) + 1.0, 40, 6)
    plain = FiniteSum(quadratic.values, 40, 6)
    runs = [
        minimize_fw_zo(fun, np.zeros(6), L2Ball(1.0), max_queries=3000, schedule="fixed", random_state=0)
        for fun in (plain, shifted)
    ]
    np.testing.assert_allclose(runs[0].x, runs[1].x, atol=1e-5)


def test_kinds_of_matrices_and_points_give_the_same_path(logistic):
    sparse = LinearFiniteSum(scipy.sparse.csr_matrix(logistic.A), logistic.y, "logistic")
    strided = LinearFiniteSum(np.asfortranarray(logistic.A), logistic.y[::1], "logistic")
    runs = [
        minimize_fw_zo(fun, x0, L1Ball(2.0), max_queries=5000, random_state=0)
        for fun, x0 in (
            (logistic, np.zeros(5)),
            (sparse, np.zeros(5)),
            (strided, np.zeros(10)[::2]),
            (logistic, np.zeros(5, dtype=np.float32)),
            (logistic, torch.zeros(5)),
        )
    ]
    assert isinstance(runs[-1].x, torch.Tensor)
    assert runs[-1].x.dtype == torch.float64
    for run in runs[1:]:
        np.testing.assert_allclose(np.asarray(run.x), runs[0].x, atol=1e-6)


@pytest.mark.parametrize("method", ["dvr", "auto", "fd"])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (5, 1), (1, 1)])
def test_tiny_problems(method, n, d):
    total = LinearFiniteSum(np.ones((n, d)), np.ones(n), "squared")
    result = minimize_fw_zo(total, None, L2Ball(2.0), method=method, max_queries=2000, random_state=0)
    assert result.fun <= 1e-3


def test_batches_larger_than_the_sum_and_starts_on_vertices(logistic):
    result = minimize_fw_zo(
        logistic,
        2.0 * np.eye(5)[0],
        L1Ball(2.0),
        schedule="fixed",
        batch_size=500,
        max_queries=60_000,
        random_state=0,
    )
    assert result.fun - logistic.mean(optimum(logistic, L1Ball(2.0), 3000)) <= 0.01


def test_feasible_queries_never_leave_the_set(quadratic, counted):
    total, counter = counted(quadratic)
    C = L2Ball(1.0)
    result = minimize_fw_zo(
        total, np.eye(6)[0], C, query_domain="feasible", certificate="none", max_queries=8000, random_state=0
    )
    assert all(C.contains(row, 1e-12) for X, _ in counter.seen for row in X)
    assert quadratic.mean(result.x) <= quadratic.mean(optimum(quadratic, C, 500)) + 0.05


@pytest.mark.parametrize(
    ("C", "d"), [(Simplex(), 6), (Birkhoff(3), 9), (Spectrahedron(3), 9)], ids=["simplex", "birkhoff", "psd"]
)
def test_tangent_queries_stay_in_flat_sets(C, d):
    rng = np.random.default_rng(0)
    target, seen = C.sample(3, d), []

    def values(X, idx):
        seen.append(X.copy())
        return ((X - target - 0.01 * noise[idx]) ** 2).sum(axis=1)

    noise = rng.normal(size=(20, d))
    total = FiniteSum(values, 20, d)
    result = minimize_fw_zo(
        total, None, C, query_domain="tangent", certificate="none", max_queries=20_000, random_state=0
    )
    assert all(C.contains(row, 1e-7) for X in seen for row in X[:50])
    assert np.linalg.norm(result.x - target) <= 0.15
    with pytest.raises(ValueError, match="flat"):
        minimize_fw_zo(total, None, C, query_domain="feasible", max_queries=1000)


def _outside(C, method, query_domain, **settings):
    """Return by how much the farthest query leaves C."""
    rng = np.random.default_rng(1)
    A, b = rng.normal(size=(20, 6)), rng.normal(size=20)
    worst = []

    def values(X, idx):
        worst.append(float(C._violation(np.ascontiguousarray(X)).max()))
        return 0.5 * (np.einsum("md,md->m", A[idx], X) - b[idx]) ** 2

    result = minimize_fw_zo(
        FiniteSum(values, 20, 6),
        None,
        C,
        method=method,
        query_domain=query_domain,
        max_queries=2000,
        certificate="full",
        random_state=0,
        **settings,
    )
    return max(worst), result


@pytest.mark.parametrize("mu", ["auto", 0.05])
@pytest.mark.parametrize("method", GRADIENT_FREE)
def test_no_method_leaves_the_set(method, mu):
    # Far from 0 the radius of "auto" grows with the point; the certificate's queries count too.
    for C, domain in ((L1Ball(30.0), "feasible"), (Simplex(30.0), "tangent")):
        assert _outside(C, method, domain, mu=mu)[0] <= 1e-13 * 30.0


@pytest.mark.parametrize(
    "options", [{"variant": name} for name in ("kwsa", "rdsa", "cooge", "unige")], ids=lambda o: o["variant"]
)
def test_no_variant_leaves_the_set(options):
    method = "sgffw" if options["variant"] in ("kwsa", "rdsa") else "acc_szofw"
    for C, domain in ((L1Ball(1.0), "feasible"), (Simplex(), "tangent")):
        assert _outside(C, method, domain, mu=0.02, options=options)[0] <= 1e-13


def test_bounded_directions_estimate_the_same_gradient():
    a = np.array([1.0, -2.0, 0.5, 3.0])
    total = FiniteSum(lambda X, _idx: X @ a, 1, 4, dtype=np.float64)
    vs = []
    for C, domain, seen in (
        (L1Ball(1.0), "feasible", a),
        (Simplex(), "tangent", a - a.mean()),
    ):
        minimize_fw_zo(
            total,
            None,
            C,
            method="zscg",
            batch_size=20_000,
            max_iter=1,
            query_domain=domain,
            random_state=0,
            callback=lambda state: vs.append(state.v),
        )
        # Each component is a mean of 20000 terms span <a, u> u_k, whose second moment is below span |a|^2.
        band = 5.0 * np.sqrt(4.0 * (a @ a) / 20_000)
        np.testing.assert_allclose(vs[-1], seen, atol=band)


def test_radii_that_do_not_fit_into_the_set_are_refused_or_shortened():
    with pytest.raises(ValueError, match=r"mu must be at most 0\.408248"):
        _outside(L1Ball(1.0), "dvr", "feasible", mu=0.5)
    # "auto" is 1.5e-8 here, more than the inradius.
    outside, _ = _outside(L1Ball(2e-8), "dvr", "feasible")
    assert outside <= 1e-20
    with pytest.raises(ValueError, match=r"query_domain must be .free.*too few digits"):
        _outside(L1Ball(1e-12), "dvr", "feasible")


def test_matrix_problems_run(quadratic):
    result = minimize_fw_zo(quadratic, None, NuclearNormBall((2, 3), 1.0), max_queries=8000, random_state=0)
    assert NuclearNormBall((2, 3), 1.0).contains(result.x, 1e-9)


def test_active_sets_mix_to_the_point(logistic):
    for step in ("open-loop", "pairwise", "short"):
        result = minimize_fw_zo(
            logistic, np.zeros(5), L1Ball(2.0), step=step, max_queries=20_000, random_state=0
        )
        vertices, weights = result.active_set
        assert weights.sum() == pytest.approx(1.0)
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights @ vertices, result.x, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"query_domain": "tangent"}, "query_domain='tangent' is for flat sets .* L1Ball"),
        ({"step": "short", "method": "fd"}, "step='short' needs"),
        ({"step": "short", "schedule": "fixed"}, "step='short' needs"),
        ({"step": "short", "E": "sqrt_d"}, "step='short' needs"),
        ({"step": "constant", "method": "jaguar", "max_iter": 9}, "step='constant' is for"),
        ({"step": "constant", "method": "acc_szofw", "max_iter": 9}, "step='constant' is for"),
        ({"step": 0.1, "method": "auto"}, "step .*method='auto'"),
        ({"options": {"variant": "unige"}, "method": "sgffw"}, "variant.*'rdsa', 'kwsa'; got 'unige'"),
        ({"options": {"variant": "kwsa"}, "method": "acc_szofw"}, "variant.*'cooge', 'unige'; got 'kwsa'"),
        ({"options": {"variant": "kwsa"}}, "variant.* is for .*not for method='dvr'"),
    ],
)
def test_settings_that_a_method_would_not_heed_are_refused(logistic, settings, match):
    with pytest.raises(ValueError, match=match):
        minimize_fw_zo(logistic, None, L1Ball(2.0), **{"max_queries": 20_000, **settings})


def test_tolerance_target_callback_and_caps_stop(logistic):
    C, best = L1Ball(2.0), logistic.mean(optimum(logistic, L1Ball(2.0), 3000))
    by_tol = minimize_fw_zo(
        logistic, np.zeros(5), C, tol=0.02, certificate="full", max_queries=10**6, random_state=0
    )
    assert by_tol.status == 0
    assert by_tol.gap <= 0.02
    assert by_tol.fun - best <= by_tol.gap
    by_target = minimize_fw_zo(
        logistic, np.zeros(5), C, target_fun=best + 0.01, max_queries=10**6, random_state=0
    )
    assert by_target.status == 1
    assert by_target.fun <= best + 0.01
    by_call = minimize_fw_zo(
        logistic, np.zeros(5), C, max_queries=10**6, callback=lambda state: state.n_iter >= 3
    )
    assert (by_call.status, by_call.n_iter) == (4, 3)

    def last(state):
        if state.n_iter >= 3:
            raise StopIteration

    by_exception = minimize_fw_zo(logistic, np.zeros(5), C, max_queries=10**6, callback=last)
    assert (by_exception.status, by_exception.n_iter) == (4, 3)
    by_steps = minimize_fw_zo(logistic, np.zeros(5), C, max_iter=4, random_state=0)
    assert (by_steps.status, by_steps.n_iter) == (3, 4)
    missed = minimize_fw_zo(logistic, np.zeros(5), C, tol=1e-12, max_queries=2000, random_state=0)
    assert (missed.status, missed.success) == (2, False)


def test_the_ledger_follows_the_true_error():
    rng = np.random.default_rng(2)
    A = rng.normal(size=(2000, 5))
    total = LinearFiniteSum(A, np.sign(A[:, 0] + rng.normal(size=2000)), "logistic")
    points, rows = [np.zeros(5)], []

    def watch(state):
        error = float(np.sum((state.v - total.gradient(points[-1])) ** 2))
        points.append(state.x)
        rows.append((state.error_variance, error))

    minimize_fw_zo(total, points[0], L1Ball(2.0), max_queries=100_000, random_state=0, callback=watch)
    noisy = np.array([row for row in rows if min(row) > 0.0])
    assert len(noisy) >= 20
    # The ledger is a recursion of estimates: on average it is right within a factor of five.
    assert abs(np.log(noisy[:, 0] / noisy[:, 1]).mean()) <= np.log(5.0)


def test_best_iterate_has_the_least_estimated_gap(logistic):
    states = []
    result = minimize_fw_zo(
        logistic,
        np.zeros(5),
        L1Ball(2.0),
        method="fd",
        max_iter=20,
        return_="best",
        callback=states.append,
    )
    before = [np.zeros(5), *(state.x for state in states)]
    k = int(np.argmin([state.gap_estimate for state in states]))
    np.testing.assert_array_equal(result.x, before[k])


def test_bad_values_are_raised_or_skipped(quadratic):
    def values(X, idx):
        out = quadratic.values(X, idx)
        out[idx == 7] = np.nan
        return out

    total = FiniteSum(values, 40, 6, dtype=np.float64)
    with pytest.raises(FloatingPointError, match="i = 7"):
        minimize_fw_zo(total, np.zeros(6), L2Ball(1.0), init="full", max_queries=5000, random_state=0)
    result = minimize_fw_zo(
        total,
        np.zeros(6),
        L2Ball(1.0),
        max_queries=20_000,
        random_state=0,
        certificate="none",
        options={"on_nan": "skip"},
    )
    assert result.n_bad > 0
    best = quadratic.mean(optimum(quadratic, L2Ball(1.0), 500))
    assert quadratic.mean(result.x) - best <= 0.05


@pytest.mark.parametrize("method", GRADIENT_FREE)
@pytest.mark.parametrize("options", [{}, {"tol": 1e-3}, {"tol": 1e-3, "certificate": "full"}], ids=str)
def test_an_objective_that_is_finite_nowhere_is_no_success(method, options):
    total = FiniteSum(lambda _X, idx: np.full(len(idx), np.nan), 4, 3, dtype=np.float64)
    common = {"method": method, "max_queries": 400, "random_state": 0, **options}
    result = minimize_fw_zo(total, None, L1Ball(), options={"on_nan": "skip"}, **common)
    assert not result.success
    assert result.status == 2
    assert "no difference of the objective was finite" in result.message
    assert result.n_bad > 0
    assert result.gap is None or np.isnan(result.gap)
    with pytest.raises(FloatingPointError, match="not finite"):
        minimize_fw_zo(total, None, L1Ball(), **common)


def test_a_start_that_alone_is_finite_is_no_success():
    result = minimize_fw_zo(
        lambda x: 0.0 if not x.any() else np.nan,
        np.zeros(3),
        L1Ball(),
        max_queries=100,
        random_state=0,
        options={"on_nan": "skip"},
    )
    assert not result.success


def test_plain_callables_have_one_function():
    calls = []

    def f(x):
        calls.append(x)
        return float(((x - 0.1) ** 2).sum())

    result = minimize_fw_zo(f, np.zeros(3), Box(np.zeros(3), np.ones(3)), max_queries=3000, random_state=0)
    assert len(calls) == result.n_queries + result.n_queries_final
    np.testing.assert_allclose(result.x, 0.1, atol=0.02)

    class Batched:
        def __call__(self, x):
            raise AssertionError("the batch is asked instead")

        def batch(self, X):
            return ((X - 0.1) ** 2).sum(axis=1)

    again = minimize_fw_zo(Batched(), np.zeros(3), Box(np.zeros(3), np.ones(3)), max_queries=3000)
    assert again.fun <= 1e-3


def test_single_precision_objectives_get_a_radius_that_they_can_see(quadratic):
    total = FiniteSum(lambda X, idx: quadratic.values(X, idx).astype(np.float32), 40, 6)
    result = minimize_fw_zo(total, np.zeros(6), L2Ball(1.0), max_queries=60_000, random_state=0)
    best = quadratic.mean(optimum(quadratic, L2Ball(1.0), 500))
    assert quadratic.mean(result.x) - best <= 0.01


BAD = {
    "x0 must have 5": {"x0": np.zeros(4)},
    "x0 must be finite": {"x0": np.array([np.nan, 0, 0, 0, 0])},
    "x0 is not feasible": {"x0": np.full(5, 10.0)},
    "method must be one of 'auto', 'dvr'": {"method": "no"},
    "schedule must": {"schedule": "no"},
    "directions must": {"directions": "no"},
    "E must": {"E": 0.0},
    "'sqrt_d'": {"E": "sqrt"},
    "memory must": {"memory": "no"},
    "random directions": {"memory": "average"},
    "preset must": {"preset": "no"},
    "mu must": {"mu": 0.0},
    "m0 must": {"m0": 0},
    "batch_size must": {"batch_size": 0},
    "refresh_prob must": {"refresh_prob": 1.5},
    "n_directions must": {"n_directions": 6},
    "max_queries must be at least": {"max_queries": 3},
    "max_queries or max_iter": {"max_queries": None},
    "method='sfw'": {"method": "sfw", "fun": FiniteSum(lambda _X, idx: np.zeros(len(idx)), 4, 5)},
    "warmup must": {"warmup": "no"},
    "init must": {"init": "no"},
    "step must": {"step": "no"},
    "needs max_iter": {"step": "constant"},
    "needs a polytope": {"step": "pairwise", "constraint": L2Ball(1.0)},
    "certificate must": {"certificate": "no"},
    "options must be among": {"options": {"nothing": 1}},
    "history_every must": {"history_every": 0.5},
    "query_domain must": {"query_domain": "no"},
    "unit directions": {"query_domain": "feasible", "directions": "gaussian"},
    "return_ must": {"return_": "no"},
    "fd must": {"fd": "no"},
    r"\(m,\)": {"fun": FiniteSum(lambda _X, idx: np.zeros((len(idx), 2)), 4, 5)},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_arguments_are_refused_by_name(match, logistic):
    given = {"fun": logistic, "x0": np.zeros(5), "constraint": L1Ball(1.0), "max_queries": 5000, **BAD[match]}
    fun, x0, C = given.pop("fun"), given.pop("x0"), given.pop("constraint")
    with pytest.raises(ValueError, match=match):
        minimize_fw_zo(fun, x0, C, **given)


def test_bad_types_are_refused(logistic):
    with pytest.raises(TypeError, match="fun must be"):
        minimize_fw_zo(3.0, np.zeros(2), L1Ball(), max_queries=10)
    for answer in (None, "low", 1j, np.zeros(3)):
        with pytest.raises(TypeError, match="fun must return one real number; got "):
            minimize_fw_zo(lambda _x, answer=answer: answer, np.zeros(2), L1Ball(), max_queries=100)
    as_array = minimize_fw_zo(lambda x: x[:1] ** 2, np.ones(2) / 2, L1Ball(), max_queries=100, random_state=0)
    as_number = minimize_fw_zo(lambda x: x[0] ** 2, np.ones(2) / 2, L1Ball(), max_queries=100, random_state=0)
    np.testing.assert_array_equal(as_array.x, as_number.x)
    with pytest.raises(ValueError, match="x0 must be a vector of numbers or None; got 'zero'"):
        minimize_fw_zo(logistic, "zero", L1Ball(), max_queries=100)
    with pytest.raises(ValueError, match="fun and constraint must have one dimension; got 5 and 2"):
        minimize_fw_zo(logistic, None, Box([0.0, 0.0], [1.0, 1.0]), max_queries=100)
    with pytest.raises(TypeError, match="constraint"):
        minimize_fw_zo(logistic, np.zeros(5), "l1", max_queries=100)
    with pytest.raises(TypeError, match="callback"):
        minimize_fw_zo(logistic, np.zeros(5), L1Ball(), max_queries=1000, callback=3)
    with pytest.raises(TypeError, match="callback must return True, False or None; got array"):
        minimize_fw_zo(logistic, np.zeros(5), L1Ball(), max_queries=1000, callback=lambda state: state.x)
    with pytest.raises(ValueError, match="dimension"):
        minimize_fw_zo(lambda _x: 0.0, None, L1Ball(), max_queries=10)


def test_infeasible_starts_are_projected_on_request(logistic):
    result = minimize_fw_zo(
        logistic, np.full(5, 10.0), L1Ball(1.0), max_iter=2, options={"project_x0": True}, random_state=0
    )
    assert L1Ball(1.0).contains(result.x)


def test_history_grows_and_plots(logistic):
    from matplotlib.figure import Figure

    result = minimize_fw_zo(
        logistic, np.zeros(5), LInfBall(1.0), max_queries=20_000, random_state=0, verbose=0
    )
    queries = result.history["n_queries"]
    assert all(a < b for a, b in itertools.pairwise(queries))
    for x in ("n_queries", "n_iter", "time"):
        assert result.plot(ax=Figure().subplots(), x=x).has_data()
    with pytest.raises(ValueError, match="x must be one of"):
        result.plot(x="no")


def test_tensors_of_two_digits_are_starts_and_points_are_arrays():
    seen = set()

    def fun(x):
        seen.add((type(x), x.dtype))
        return ((torch.as_tensor(x) - 0.25) ** 2).sum()

    x0 = torch.full((3,), 0.125, dtype=torch.bfloat16)
    result = minimize_fw_zo(fun, x0, L1Ball(1.0), method="auto", max_queries=300, random_state=0)
    assert result.x.dtype == torch.float64
    np.testing.assert_allclose(result.x, 0.25, atol=1e-6)
    assert seen == {(np.ndarray, np.dtype(np.float64))}


@pytest.mark.parametrize("method", ["dvr", "auto", "fcgs", "fd"])
def test_values_whose_squares_overflow_are_refused(method):
    def fun(x):
        return 1e200 * float(((x - 0.25) ** 2).sum())

    with pytest.raises(FloatingPointError, match="squares of the objective's differences must"):
        minimize_fw_zo(fun, np.zeros(3), L1Ball(1.0), method=method, max_queries=300)


def test_an_end_without_tolerance_does_not_claim_one():
    constant = minimize_fw_zo(lambda _x: 1.0, np.zeros(3), L1Ball(1.0), method="auto", max_queries=300)
    assert (constant.status, constant.success, constant.message) == (0, True, "no direction descends")
