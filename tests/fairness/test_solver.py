import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.fairness import linear_constraints, make_gaussian_groups, solve_fair_lp, solver
from mlpapers.fairness._crossover import crossover
from mlpapers.testing import check_result

NOTIONS = (
    "demographic_parity",
    "equal_opportunity",
    "predictive_equality",
    "accuracy_parity",
    "equalized_odds",
)
SETTINGS = [
    ("difference", "overall", "complement"),
    ("ratio", "overall", "complement"),
    ("ratio", "overall", "inverse"),
    ("ratio", "overall", "lower"),
    ("difference", "pairwise", "complement"),
    ("ratio", "pairwise", "complement"),
]


def program(seed, n, n_cells, notion, setting, tolerance, *, ties=False):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(2 * n_cells, 0.7), size=n).reshape(n, n_cells, 2)
    if ties:
        joint = joint[rng.integers(0, 4, n)]
    measure, reference, form = setting
    rows = linear_constraints(
        joint,
        np.eye(n_cells),
        constraint=notion,
        measure=measure,
        tolerance=tolerance,
        reference=reference,
        ratio_form=form,
    )
    return joint[:, :, 1].sum(axis=1) - 0.5, rows


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(4, 300),
    st.integers(1, 3),
    st.sampled_from(NOTIONS),
    st.sampled_from(SETTINGS),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from(["ipm", "sifting"]),
)
def test_the_optimum_is_that_of_a_general_solver(seed, n, m, notion, setting, tolerance, ties, method):
    score, rows = program(seed, n, m, notion, setting, tolerance, ties=ties)
    result = solve_fair_lp(score, rows.A, rows.b, rows.C, method=method)
    reference = solve_fair_lp(score, rows.A, rows.b, rows.C, method="highs")
    assert result.status == "optimal"
    assert -1e-9 <= result.gap <= 1e-7
    assert abs(result.primal - reference.primal) <= 1e-7
    assert np.all(result.f @ rows.A / n + rows.C @ result.free <= rows.b + 1e-7)
    assert np.all(result.multipliers >= 0)
    np.testing.assert_allclose(rows.C.T @ result.multipliers, 0.0, atol=1e-7)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(NOTIONS), st.floats(0.0, 0.5))
def test_no_deterministic_rule_beats_it(seed, notion, tolerance):
    score, rows = program(seed, 8, 2, notion, SETTINGS[0], tolerance)
    result = solve_fair_lp(score, rows.A, rows.b)
    best = -np.inf
    for bits in itertools.product([0.0, 1.0], repeat=8):
        f = np.array(bits)
        if np.all(f @ rows.A / 8 <= rows.b + 1e-12):
            best = max(best, f @ score / 8)
    assert best <= result.primal + 1e-12


def gaussian_program(n, notion="equalized_odds", tolerance=0.05):
    X, _, _, truth = make_gaussian_groups(n, random_state=0)
    joint = truth.joint(X)
    rows = linear_constraints(joint, np.eye(4), constraint=notion, tolerance=tolerance)
    return joint[:, :, 1].sum(axis=1) - 0.5, rows


def test_the_solution_is_a_vertex_and_a_threshold_rule():
    score, rows = gaussian_program(5000)
    result = solve_fair_lp(score, rows.A, rows.b, rows.C)
    assert result.n_fractional <= len(rows.b)
    reduced = score - rows.A @ result.multipliers
    decided = np.abs(reduced) > 1e-9
    np.testing.assert_array_equal(result.f[decided], reduced[decided] > 0)


@pytest.mark.parametrize("method", ["auto", "ipm", "highs"])
@pytest.mark.parametrize(("of_score", "of_rows"), [(1e16, 1.0), (1e-16, 1.0), (1.0, 1e150), (1e-140, 1e-30)])
def test_the_units_of_score_and_rows_do_not_matter(of_score, of_rows, method):
    score, rows = gaussian_program(300)
    plain = solve_fair_lp(score, rows.A, rows.b, rows.C, method=method)
    scale = np.where(np.arange(len(rows.b)) % 2, of_rows, 1.0)
    C = None if rows.C is None else rows.C * scale[:, None]
    start = plain.multipliers * (of_score / scale)
    for warm_start in (None, start):
        far = solve_fair_lp(
            score * of_score, rows.A * scale, rows.b * scale, C, method=method, warm_start=warm_start
        )
        assert far.status == "optimal"
        assert far.primal == pytest.approx(plain.primal * of_score, rel=1e-9)
        np.testing.assert_allclose(far.multipliers, start, rtol=1e-6, atol=1e-9 * start.max())


def test_a_warm_start_leads_to_the_same_optimum():
    score, rows = gaussian_program(20_000)
    cold = solve_fair_lp(score, rows.A, rows.b)
    for factor in (0.0, 0.9, 1.0, 1.1, 10.0):
        warm = solve_fair_lp(score, rows.A, rows.b, warm_start=factor * cold.multipliers)
        assert warm.status == "optimal"
        assert abs(warm.primal - cold.primal) <= 1e-12
    sifted = solve_fair_lp(score, rows.A, rows.b, method="sifting", warm_start=0.95 * cold.multipliers)
    assert abs(sifted.primal - cold.primal) <= 1e-12


def test_groups_that_are_tied_as_a_whole():
    # Knowing the group, equalized odds leaves most of the mass exactly on the boundary.
    truth = make_gaussian_groups(1, random_state=0)[3]
    joint, weights = truth.population(41, aware=True)
    rows = linear_constraints(
        joint, np.eye(4), constraint="equalized_odds", tolerance=0.02, sample_weight=weights
    )
    score = joint[:, :, 1].sum(axis=1) - 0.5
    result = solve_fair_lp(score, rows.A, rows.b, sample_weight=weights)
    reference = solve_fair_lp(score, rows.A, rows.b, sample_weight=weights, method="highs")
    tied = np.abs(score - rows.A @ result.multipliers) <= 1e-7
    assert weights[tied].sum() > 0.5
    assert abs(result.primal - reference.primal) <= 1e-9
    assert result.n_fractional <= len(rows.b)


def test_permuting_samples_and_groups():
    score, rows = gaussian_program(2000, "demographic_parity")
    result = solve_fair_lp(score, rows.A, rows.b)
    order = np.random.default_rng(1).permutation(len(score))
    permuted = solve_fair_lp(score[order], rows.A[order], rows.b)
    np.testing.assert_allclose(permuted.f, result.f[order], atol=1e-7)
    columns = np.random.default_rng(2).permutation(len(rows.b))
    relabelled = solve_fair_lp(score, rows.A[:, columns], rows.b[columns])
    np.testing.assert_allclose(relabelled.multipliers, result.multipliers[columns], atol=1e-9)


def test_integer_weights_are_repetitions():
    score, rows = gaussian_program(1500, "equal_opportunity")
    counts = np.random.default_rng(0).integers(0, 4, len(score))
    weighted = solve_fair_lp(score, rows.A, rows.b, sample_weight=counts)
    repeated = solve_fair_lp(np.repeat(score, counts), np.repeat(rows.A, counts, axis=0), rows.b)
    np.testing.assert_allclose(weighted.multipliers, repeated.multipliers, atol=1e-9)
    assert abs(weighted.primal - repeated.primal) <= 1e-12


def test_equal_empty_and_missing_rows():
    score, rows = gaussian_program(500, "demographic_parity")
    plain = solve_fair_lp(score, rows.A, rows.b)
    A = np.hstack([rows.A, rows.A, np.zeros((500, 1))])
    b = np.concatenate([rows.b, rows.b + 0.01, [0.0]])
    crowded = solve_fair_lp(score, A, b)
    assert abs(crowded.primal - plain.primal) <= 1e-12
    np.testing.assert_allclose(crowded.multipliers[:8], plain.multipliers, atol=1e-9)
    assert not crowded.multipliers[8:].any()
    free = solve_fair_lp(score, np.zeros((500, 0)), np.zeros(0))
    np.testing.assert_array_equal(free.f, score > 0)


def test_rows_that_cannot_be_met_are_reported():
    result = solve_fair_lp([0.5, -0.5], np.array([[-1.0], [-1.0]]), [-2.0])
    assert result.status == "infeasible"
    assert (
        solve_fair_lp([0.5, -0.5], np.array([[-1.0], [-1.0]]), [-2.0], method="highs").status == "infeasible"
    )


def test_many_rows_and_rare_groups():
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.full(60, 0.05), size=2000).reshape(2000, 30, 2)
    rows = linear_constraints(joint, np.eye(30), tolerance=0.01)
    result = solve_fair_lp(joint[:, :, 1].sum(axis=1) - 0.5, rows.A, rows.b)
    assert result.status == "optimal"


def many_rows(n):
    rng = np.random.default_rng(1)
    cells = np.arange(243)
    digits = (cells[:, None] // 3 ** np.arange(5)) % 3
    joint = rng.dirichlet(np.full(486, 0.02), size=n).reshape(n, 243, 2)
    # One digit each, two together, some threes: 15 + 90 + 60 groups, and the cells.
    single = [digits[:, j] == k for j in range(5) for k in range(3)]
    pairs = [a & b for a, b in itertools.combinations(single, 2) if (a & b).any()]
    threes = [a & b & c for a, b, c in itertools.combinations(single, 3) if (a & b & c).any()][:60]
    membership = np.stack([*single, *pairs, *threes, *np.eye(243, dtype=bool)], axis=1).astype(float)
    return joint[:, :, 1].sum(axis=1) - 0.5, linear_constraints(joint, membership, tolerance=0.3)


def test_few_samples_for_many_rows_are_sifted():
    score, rows = many_rows(300)
    assert len(rows.b) == 2 * (15 + 90 + 60 + 243)
    auto, sifted, ipm, highs = (
        solve_fair_lp(score, rows.A, rows.b, method=method) for method in ("auto", "sifting", "ipm", "highs")
    )
    np.testing.assert_array_equal(auto.multipliers, sifted.multipliers)
    for other in (ipm, highs):
        assert other.status == auto.status == "optimal"
        assert auto.primal == pytest.approx(other.primal, abs=1e-8)
    # Few rows are not.
    score, rows = gaussian_program(300)
    auto, ipm = (solve_fair_lp(score, rows.A, rows.b, method=method) for method in ("auto", "ipm"))
    np.testing.assert_array_equal(auto.multipliers, ipm.multipliers)


def test_where_sifting_stalls_the_interior_point_takes_over(monkeypatch):
    score, rows = many_rows(200)

    def wrong_from_nothing(*arguments, start=None, **options):
        vertex = crossover(*arguments, start=start, **options)
        return vertex if start is not None else vertex._replace(multipliers=vertex.multipliers + 1.0)

    monkeypatch.setattr(solver, "crossover", wrong_from_nothing)
    assert solve_fair_lp(score, rows.A, rows.b, method="sifting").status == "stalled"
    assert solve_fair_lp(score, rows.A, rows.b).status == "optimal"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": []}, "score must"),
        ({"score": [0.1, np.nan]}, "score must be finite"),
        ({"A": np.zeros((3, 1))}, "A must have shape"),
        ({"b": [[0.0]]}, "b must be 1-D"),
        ({"C": np.zeros(1)}, "C must have shape"),
        ({"method": "simplex"}, "method must be one of"),
        ({"warm_start": [1.0, 2.0]}, "warm_start"),
        ({"sample_weight": [-1.0, 1.0]}, "sample_weight"),
        ({"tol": 0.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"score": [0.1, -0.1], "A": np.zeros((2, 1)), "b": [0.0], **change}
    with pytest.raises(ValueError, match=message):
        solve_fair_lp(**arguments)


def test_the_result_keeps_its_promises():
    score, rows = gaussian_program(300)
    check_result(solve_fair_lp(score, rows.A, rows.b))
