import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.fairness import (
    linear_constraints,
    make_gaussian_groups,
    paper_multipliers,
    paper_rule,
    solve_fair_lp,
)
from mlpapers.fairness.constraints import mean_rates
from mlpapers.fairness.rule import paper_functional

NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity")


def posteriors(seed, n=50, n_cells=3):
    return np.random.default_rng(seed).dirichlet(np.ones(2 * n_cells), size=n).reshape(n, n_cells, 2)


@given(
    st.integers(0, 10**6), st.sampled_from(NOTIONS), st.sampled_from(["difference", "ratio"]), st.floats(0, 1)
)
def test_the_printed_rule_is_the_general_one(seed, notion, measure, tolerance):
    joint = posteriors(seed)
    lam = np.random.default_rng(seed + 1).normal(size=3)
    H = paper_rule(joint, lam, constraint=notion, measure=measure, tolerance=tolerance, cost=0.3)
    W = paper_functional(
        lam, np.eye(3), joint.mean(axis=0), blocks=(notion,), measure=measure, tolerance=tolerance
    )
    Q = np.tensordot(joint, W, axes=2)
    np.testing.assert_allclose(H, joint[:, :, 1].sum(axis=1) - 0.3 - Q, atol=1e-12)


@pytest.mark.parametrize("notion", [*NOTIONS, "equalized_odds"])
@pytest.mark.parametrize(
    ("measure", "form"), [("difference", "complement"), ("ratio", "complement"), ("ratio", "lower")]
)
def test_signed_multipliers_reproduce_the_optimum(notion, measure, form):
    X, _, _, truth = make_gaussian_groups(3000, random_state=0)
    joint = truth.joint(X)
    rows = linear_constraints(
        joint, np.eye(4), constraint=notion, measure=measure, tolerance=0.05, ratio_form=form
    )
    result = solve_fair_lp(joint[:, :, 1].sum(axis=1) - 0.5, rows.A, rows.b)
    lam = paper_multipliers(result, rows)
    H = paper_rule(joint, lam.to_numpy(), constraint=notion, measure=measure, tolerance=0.05)
    off_ties = np.abs(H) > 1e-9
    np.testing.assert_array_equal(result.f[off_ties], H[off_ties] > 0)


def test_the_rule_takes_eta_and_base_rates_from_elsewhere():
    joint = posteriors(0)
    base = mean_rates(joint, np.full(50, 0.02))
    lam = [0.1, -0.2, 0.3]
    plain = paper_rule(joint, lam, constraint="equal_opportunity")
    same = paper_rule(joint, lam, constraint="equal_opportunity", base_rates=base)
    np.testing.assert_allclose(plain, same, atol=1e-14)
    other = paper_rule(joint, lam, constraint="equal_opportunity", eta=np.zeros(50))
    np.testing.assert_allclose(plain - other, joint[:, :, 1].sum(axis=1), atol=1e-15)


def test_what_the_paper_does_not_have_is_refused():
    joint = posteriors(1)
    score = joint[:, :, 1].sum(axis=1) - 0.5
    for options in ({"reference": "pairwise"}, {"measure": "ratio", "ratio_form": "inverse"}):
        rows = linear_constraints(joint, np.eye(3), **options)
        with pytest.raises(ValueError, match="reference='overall'"):
            paper_multipliers(solve_fair_lp(score, rows.A, rows.b, rows.C), rows)
    for lam in ([0.0, 1.0], [0.0, 1.0, np.inf]):
        with pytest.raises(ValueError, match="multipliers must be 3 finite numbers"):
            paper_rule(joint, lam, constraint="demographic_parity")
    with pytest.raises(ValueError, match="base_rates"):
        paper_rule(joint, np.zeros(3), constraint="demographic_parity", base_rates=np.ones((2, 2)))
    with pytest.raises(ValueError, match="cost"):
        paper_rule(joint, np.zeros(3), constraint="demographic_parity", cost=1.0)
    for eta in (np.zeros(49), np.zeros((50, 1)), np.full(50, np.nan)):
        with pytest.raises(ValueError, match="eta must be 50 finite numbers"):
            paper_rule(joint, np.zeros(3), constraint="demographic_parity", eta=eta)
    joint[:, 1, 0], joint[:, 1, 1] = 0.0, joint[:, 1].sum(axis=1)
    with pytest.raises(ValueError, match="base_rates must be positive"):
        paper_rule(joint, np.zeros(3), constraint="predictive_equality")
