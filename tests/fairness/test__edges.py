import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mlpapers.fairness import linear_constraints, make_gaussian_groups, solve_fair_lp, solver
from mlpapers.fairness._crossover import small_program
from mlpapers.fairness._edge_kernels import _crossing
from mlpapers.fairness._edges import descend
from mlpapers.fairness._rule_moments import rule_moments

CEILING = 20.0


def general_solver(A, s, w, b, C, n_equalities, ceiling):
    """The same program by HiGHS: the optimum."""
    m, n = A.shape
    p, k = C.shape[1], m - n_equalities
    e = np.vstack([-np.eye(k), np.zeros((n_equalities, k))])
    matrix = np.hstack([A * w, C, e])
    answer = linprog(
        np.concatenate([-w * s, np.zeros(p), np.full(k, ceiling)]),
        A_ub=matrix[:k],
        b_ub=b[:k],
        A_eq=matrix[k:] if n_equalities else None,
        b_eq=b[k:] if n_equalities else None,
        bounds=[(0, 1)] * n + [(None, None)] * p + [(0, None)] * k,
        method="highs",
    )
    assert answer.status == 0
    return -answer.fun


@settings(max_examples=80)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 30.0]),
)
def test_the_corner_is_that_of_a_general_solver(seed, n, k, free, equality, ties, distance):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(k, n))
    s = rng.normal(size=n)
    if ties:
        A, s = np.round(A[:, rng.integers(0, n, n)]), np.round(s[rng.integers(0, n, n)])
    w = rng.integers(1, 4, n).astype(float)
    # Often out of reach, so that some rows are exceeded at their price.
    b = rng.normal(size=k) * np.sqrt(n)
    C = rng.choice([-1.0, 1.0], size=(k, int(free)))
    if equality:
        A, b, C = np.vstack([A, np.ones(n)]), np.append(b, 0.3 * w.sum()), np.vstack([C, 0.0 * C[:1]])
    start = distance * rng.exponential(size=len(b))
    corner = descend(A, s, w, b, C, start, n_equalities=int(equality), ceiling=CEILING)
    assert corner is not None
    x, lam = corner.x, corner.multipliers
    best = general_solver(A, s, w, b, C, int(equality), CEILING)
    scale = 1e-9 * (1.0 + n)
    primal = (w * s) @ x - CEILING * corner.excess.sum()
    dual = lam @ b + w @ np.maximum(s - lam @ A, 0.0)
    assert abs(primal - best) <= scale
    assert abs(dual - best) <= scale
    assert ((x >= 0.0) & (x <= 1.0)).all()
    left = A @ (w * x) + C @ corner.free - corner.excess - b
    assert (left[:k] <= scale).all()
    assert (np.abs(left[k:]) <= scale).all()
    assert ((lam[:k] >= 0.0) & (lam[:k] <= CEILING)).all()
    np.testing.assert_allclose(C.T @ lam, 0.0, atol=scale)
    assert ((x > 0.0) & (x < 1.0)).sum() <= len(b)


def test_rows_out_of_reach_without_a_price_have_no_corner():
    A, w = np.array([[-1.0, -1.0]]), np.ones(2)
    assert descend(A, np.zeros(2), w, np.array([-3.0]), np.zeros((1, 0)), np.zeros(1)) is None
    corner = descend(A, np.zeros(2), w, np.array([-2.0]), np.zeros((1, 0)), np.ones(1))
    assert corner is not None
    np.testing.assert_array_equal(corner.x, 1.0)


def test_free_scalars_that_depend_on_one_another_are_left_to_others():
    A, C = np.array([[1.0, -1.0, 2.0], [0.5, 1.0, 0.0]]), np.array([[1.0, 2.0], [-1.0, -2.0]])
    ones, b = np.ones(3), np.ones(2)
    assert descend(A, ones, ones, b, C, np.zeros(2)) is None
    solution = small_program(ones, A, b, C, penalty=CEILING)
    value = solution.x.sum() - CEILING * solution.excess
    assert value == pytest.approx(general_solver(A, ones, ones, b, C, 0, CEILING))


@given(st.integers(0, 10**6), st.integers(1, 50), st.booleans())
def test_the_crossing_is_that_of_sorted_breakpoints(seed, n, ties):
    rng = np.random.default_rng(seed)
    at = rng.integers(0, 5, n).astype(float) if ties else rng.random(n)
    gain = rng.random(n) + 0.1
    order = np.lexsort((-gain, at))
    reached = np.cumsum(gain[order])
    for position in range(n + 1):
        # Halfway up a step, where rounding cannot matter; the last slope is never made up for.
        slope = -(reached[position] - 0.05) if position < n else -(reached[-1] + 0.05)
        moved = [at.copy(), gain.copy(), np.arange(n)]
        found = _crossing(*moved, n, slope)
        assert found == (position if position < n else -1)
        if found >= 0:
            assert moved[2][found] == order[position]
            assert set(moved[2][:found]) == set(order[:position])


SETTINGS = list(
    itertools.product(
        ["demographic_parity", "accuracy_parity", "equalized_odds"],
        [("difference", "overall"), ("ratio", "overall"), ("difference", "pairwise"), ("ratio", "pairwise")],
    )
)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(4, 300),
    st.sampled_from(SETTINGS),
    st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    st.sampled_from([0.0, 0.03, 0.3]),
    st.booleans(),
)
def test_a_neighbouring_tolerance_leads_to_the_optimum(seed, n, setting, tolerance, neighbour, ties):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(6, 0.7), size=n).reshape(n, 3, 2)
    if ties:
        joint = joint[rng.integers(0, min(n, 4), n)]
    weights = rng.integers(0, 3, n) + (np.arange(n) == 0)
    constraint, (measure, reference) = setting
    options = {
        "constraint": constraint,
        "measure": measure,
        "reference": reference,
        "sample_weight": weights,
    }
    score = joint[:, :, 1].sum(axis=1) - 0.5
    rows = linear_constraints(joint, np.eye(3), tolerance=neighbour, **options)
    start = solve_fair_lp(score, rows.A, rows.b, rows.C, sample_weight=weights).multipliers
    rows = linear_constraints(joint, np.eye(3), tolerance=tolerance, **options)
    arguments = (score, rows.A, rows.b, rows.C)
    warm = solve_fair_lp(*arguments, sample_weight=weights, warm_start=start)
    general = solve_fair_lp(*arguments, sample_weight=weights, method="highs")
    assert warm.status == "optimal"
    assert abs(warm.primal - general.primal) <= 1e-7
    assert np.all((weights / weights.sum() * warm.f) @ rows.A + rows.C @ warm.free <= rows.b + 1e-7)
    assert np.all(warm.multipliers >= 0)
    np.testing.assert_allclose(rows.C.T @ warm.multipliers, 0.0, atol=1e-7)


def test_few_pivots_lead_from_one_tolerance_to_the_next(monkeypatch):
    X, _, _, truth = make_gaussian_groups(5000, random_state=0)
    joint = truth.joint(X)
    score = joint[:, :, 1].sum(axis=1) - 0.5
    at, near, strict = (linear_constraints(joint, np.eye(4), tolerance=t) for t in (0.05, 0.045, 0.0))
    start = solve_fair_lp(score, at.A, at.b).multipliers
    # From its own optimum it takes no more pivots than there are multipliers to pin down again.
    assert solve_fair_lp(score, at.A, at.b, warm_start=start).n_iter <= np.count_nonzero(start)
    assert solve_fair_lp(score, near.A, near.b, warm_start=start).n_iter <= 50

    quick = solve_fair_lp(score, strict.A, strict.b, warm_start=start)
    monkeypatch.setattr(solver, "descend", lambda *_: None)
    otherwise = solve_fair_lp(score, strict.A, strict.b, warm_start=start)
    assert quick.status == otherwise.status == "optimal"
    assert abs(quick.primal - otherwise.primal) <= 1e-12


@given(st.integers(0, 10**6), st.integers(0, 200), st.floats(0.0, 2.0))
def test_moments_of_rules_near_one_another(seed, n, spread):
    rng = np.random.default_rng(seed)
    flat, score = rng.dirichlet(np.ones(6), size=n), rng.normal(size=n)
    weights = rng.random(n)
    W = rng.normal(size=6) + spread * rng.normal(size=(7, 6))
    objective, moments = rule_moments(W, flat, score, weights)
    says = (score[:, None] > flat @ W.T).astype(float)
    np.testing.assert_allclose(objective, (weights * score) @ says, atol=1e-12)
    np.testing.assert_allclose(moments, (weights[:, None] * flat).T @ says, atol=1e-12)
