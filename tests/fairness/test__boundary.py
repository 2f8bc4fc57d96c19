import tracemalloc

import numpy as np
import pytest

from mlpapers.fairness import _boundary, linear_constraints, make_gaussian_groups, solve_fair_lp
from mlpapers.fairness._boundary import Program, approach


def gaussian(n, constraint="demographic_parity", **options):
    X, _, _, truth = make_gaussian_groups(n, random_state=0)
    joint = truth.joint(X)
    rows = linear_constraints(joint, np.eye(4), constraint=constraint, tolerance=0.03, **options)
    return Program(joint[:, :, 1].sum(axis=1) - 0.5, np.ones(n), rows.A, rows.b * n, rows.C)


def dual(program, multipliers):
    reduced = program.score - program.rows @ multipliers
    return (program.b @ multipliers + program.scale @ np.maximum(reduced, 0.0)) / len(reduced)


@pytest.mark.parametrize("reference", ["overall", "pairwise"])
@pytest.mark.parametrize("constraint", ["demographic_parity", "accuracy_parity", "equalized_odds"])
def test_few_samples_lead_to_the_same_optimum_as_all(constraint, reference):
    program = gaussian(30_000, constraint, reference=reference)
    everything = program.solve(1e-8, 100)
    found = approach(program, None, tol=1e-8, max_iter=100)
    assert everything.converged
    best = dual(program, everything.multipliers)
    # The error of a window is per sample of the window, so it bounds that of the whole.
    near = 1e-7 if found.converged else found.error
    assert found.error <= _boundary._USABLE
    assert abs(dual(program, found.multipliers) - best) <= near
    # The interior f reaches the optimum within the bounds, those decided beforehand included.
    assert program.score @ found.f / 30_000 >= best - near
    free = program.C @ found.free
    assert ((found.f @ program.rows + free - program.b) / 30_000 <= near).all()
    exact = solve_fair_lp(program.score, program.rows, program.b / 30_000, program.C)
    assert exact.status == "optimal"
    assert abs(exact.dual - best) <= 1e-7


def test_what_is_left_to_the_crossover_may_be_wrong_about_feasibility(monkeypatch):
    # The samples nearest a boundary that up to 30 others cross cannot meet the rows by themselves.
    X, _, _, truth = make_gaussian_groups(30_000, random_state=2)
    joint = truth.joint(X)
    rows = linear_constraints(joint, np.eye(4), constraint="equal_opportunity", tolerance=0.05)
    score = joint[:, :, 1].sum(axis=1) - 0.5
    exact = solve_fair_lp(score, rows.A, rows.b)
    monkeypatch.setattr(_boundary, "_FEW", 1e-3)
    rough = solve_fair_lp(score, rows.A, rows.b)
    assert exact.status == rough.status == "optimal"
    assert abs(exact.primal - rough.primal) <= 1e-12


def test_most_samples_are_not_looked_at(monkeypatch):
    program = gaussian(40_000)
    sizes = []
    solve = Program.solve

    def counted(self, tol, max_iter):
        sizes.append(len(self.score))
        return solve(self, tol, max_iter)

    monkeypatch.setattr(_boundary.Program, "solve", counted)
    approach(program, None, tol=1e-8, max_iter=100)
    assert sum(sizes) <= 0.5 * 40_000


@pytest.mark.parametrize("factor", [0.0, 50.0])
def test_a_misleading_start_costs_time_only(factor):
    program = gaussian(12_000)
    everything = program.solve(1e-8, 100)
    start = factor * (1.0 + np.arange(8.0))
    found = approach(program, start, tol=1e-8, max_iter=100)
    assert abs(dual(program, found.multipliers) - dual(program, everything.multipliers)) <= 1e-7


def test_weights_count_in_the_part_and_in_the_window():
    X, _, _, truth = make_gaussian_groups(26_000, random_state=1)
    joint = truth.joint(X)
    weights = np.random.default_rng(0).exponential(size=26_000)
    rows = linear_constraints(joint, np.eye(4), tolerance=0.03, sample_weight=weights)
    score = joint[:, :, 1].sum(axis=1) - 0.5
    result = solve_fair_lp(score, rows.A, rows.b, sample_weight=weights)
    reference = solve_fair_lp(score, rows.A, rows.b, sample_weight=weights, method="highs")
    assert abs(result.primal - reference.primal) <= 1e-9
    assert result.gap <= 1e-9


def test_many_rows_over_many_samples():
    X, _, _, truth = make_gaussian_groups(30_000, n_groups=30, random_state=0)
    joint = truth.joint(X)
    rows = linear_constraints(joint, np.eye(30), tolerance=0.05)
    result = solve_fair_lp(joint[:, :, 1].sum(axis=1) - 0.5, rows.A, rows.b)
    assert rows.A.shape[1] == 60
    assert result.status == "optimal"
    assert result.gap <= 1e-9


def test_memory_is_linear_in_the_samples():
    peaks = []
    for n in (40_000, 80_000):
        program = gaussian(n)
        tracemalloc.start()
        solve_fair_lp(program.score, program.rows, program.b / n)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= 2.2 * peaks[0]
    # A few arrays as large as the rows (8 columns of 8 bytes), never one of n x n.
    assert peaks[1] <= 6 * 80_000 * 64
