import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.fairness import FairnessWarning, linear_constraints, mean_difference, mean_ratio

NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity")
FORMS = ("complement", "inverse", "lower")


def sample(seed, n=40, n_cells=4):
    """Labels, cells and a random rule; posteriors that know both, so that rates are those of the sample."""
    rng = np.random.default_rng(seed)
    cell = np.concatenate([np.repeat(np.arange(n_cells), 2), rng.integers(0, n_cells, n - 2 * n_cells)])
    y = np.concatenate([np.tile([0, 1], n_cells), rng.integers(0, 2, n - 2 * n_cells)])
    joint = np.zeros((n, n_cells, 2))
    joint[np.arange(n), cell, y] = 1.0
    return cell, y, joint, rng.random(n)


def rate(notion, y, f):
    if notion == "accuracy_parity":
        return np.mean(y * f + (1 - y) * (1 - f))
    event = {"demographic_parity": y >= 0, "equal_opportunity": y == 1, "predictive_equality": y == 0}[notion]
    return f[event].mean()


@given(st.integers(0, 10**6), st.sampled_from(NOTIONS), st.floats(0, 1))
def test_rows_are_the_rates_of_the_definition(seed, notion, tolerance):
    cell, y, joint, f = sample(seed)
    G = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]])  # overlapping groups
    rates = np.array([rate(notion, y[G[cell, j] == 1], f[G[cell, j] == 1]) for j in range(3)])
    overall = rate(notion, y, f)
    tau = 1.0 - tolerance
    wanted = {
        ("difference", "overall", "complement"): [rates - overall - tolerance, overall - rates - tolerance],
        ("ratio", "overall", "complement"): [
            tau * overall - rates,
            tau * (1 - overall) - (1 - rates),
        ],
        ("ratio", "overall", "inverse"): [tau * overall - rates, tau * rates - overall],
        ("ratio", "overall", "lower"): [tau * overall - rates],
    }
    for (measure, reference, form), sides in wanted.items():
        rows = linear_constraints(
            joint,
            G,
            constraint=notion,
            measure=measure,
            tolerance=tolerance,
            reference=reference,
            ratio_form=form,
        )
        excess = f @ rows.A / len(f) - rows.b
        np.testing.assert_allclose(excess, np.stack(sides, axis=1).ravel(), atol=1e-12)
    # Pairwise: the rows hold for some u exactly where the spread of the rates allows it.
    u = rates.min()
    rows = linear_constraints(joint, G, constraint=notion, tolerance=tolerance, reference="pairwise")
    excess = f @ rows.A / len(f) + rows.C[:, 0] * u - rows.b
    np.testing.assert_allclose(excess[0::2], u - rates, atol=1e-12)
    np.testing.assert_allclose(excess[1::2], rates - u - tolerance, atol=1e-12)
    rows = linear_constraints(
        joint, G, constraint=notion, measure="ratio", tolerance=tolerance, reference="pairwise"
    )
    u = rates.max()
    excess = f @ rows.A / len(f) + rows.C[:, 0] * u - rows.b
    np.testing.assert_allclose(excess[0::2], tau * u - rates, atol=1e-12)
    np.testing.assert_allclose(excess[1::2], rates - u, atol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(NOTIONS), st.sampled_from(FORMS))
def test_a_rule_keeps_the_rows_exactly_up_to_its_measure(seed, notion, form):
    cell, y, joint, f = sample(seed)
    difference = mean_difference(y, f, sensitive_features=cell, constraint=notion)
    ratio = mean_ratio(y, f, sensitive_features=cell, constraint=notion, ratio_form=form)
    for measure, violation in (("difference", difference), ("ratio", 1.0 - ratio)):
        for shift, holds in ((1e-9, True), (-1e-9, False)):
            tolerance = violation + shift
            if not 0 <= tolerance <= 1:
                continue
            rows = linear_constraints(
                joint, np.eye(4), constraint=notion, measure=measure, tolerance=tolerance, ratio_form=form
            )
            assert np.all(f @ rows.A / len(f) <= rows.b + 1e-12) == holds


def test_predicting_one_for_everybody_has_rate_one_and_accuracy_is_accuracy():
    _, y, joint, _ = sample(1)
    for notion in NOTIONS[:3]:
        rows = linear_constraints(joint, np.eye(4), constraint=notion, tolerance=0.0)
        np.testing.assert_allclose(rows.A.mean(axis=0) - rows.b, 0.0, atol=1e-12)
    everyone = linear_constraints(
        joint, np.ones((4, 1)), constraint="accuracy_parity", measure="ratio", tolerance=1.0
    )
    # tau = 0: the first row says -rate <= 0.
    f = y.astype(float)
    np.testing.assert_allclose(f @ everyone.A[:, 0] / len(f) - everyone.b[0], -1.0, atol=1e-12)


def test_composite_notions_stack_their_blocks():
    _, _, joint, _ = sample(2)
    both = linear_constraints(joint, np.eye(4), constraint="equalized_odds", reference="pairwise")
    parts = [
        linear_constraints(joint, np.eye(4), constraint=notion, reference="pairwise")
        for notion in ("equal_opportunity", "predictive_equality")
    ]
    np.testing.assert_array_equal(both.A, np.hstack([part.A for part in parts]))
    assert both.C.shape == (16, 2)
    assert not both.C[:8, 1].any()
    assert not both.C[8:, 0].any()
    assert both.labels["block"].unique().tolist() == ["equal_opportunity", "predictive_equality"]
    stacked = linear_constraints(
        joint, np.eye(4), constraint=("equalized_odds", "predictive_equality"), reference="pairwise"
    )
    np.testing.assert_array_equal(stacked.A, both.A)


def test_integer_weights_are_repetitions():
    _, _, joint, _ = sample(3)
    counts = np.random.default_rng(0).integers(1, 4, len(joint))
    weighted = linear_constraints(joint, np.eye(4), sample_weight=counts)
    repeated = linear_constraints(np.repeat(joint, counts, axis=0), np.eye(4))
    np.testing.assert_allclose(np.repeat(weighted.A, counts, axis=0), repeated.A, atol=1e-12)
    np.testing.assert_allclose(weighted.b, repeated.b, atol=1e-15)


def test_a_group_without_mass_is_left_out_with_a_warning():
    joint = np.zeros((3, 2, 2))
    joint[:, 0, :] = 0.3, 0.3
    joint[:, 1, 0] = 0.4  # cell 1 has no positives
    with pytest.warns(FairnessWarning, match=r"\('equal_opportunity', 1\)"):
        rows = linear_constraints(joint, np.eye(2), constraint="equal_opportunity")
    assert rows.labels["group"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="no group"):
        linear_constraints(joint, np.array([[0], [1]]), constraint="equal_opportunity")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("constraint", "parity"),
        ("constraint", ()),
        ("measure", "gap"),
        ("reference", "best"),
        ("ratio_form", "upper"),
        *itertools.product(["tolerance"], [-0.1, 1.1, np.nan, "small"]),
    ],
)
def test_bad_options_are_named(name, value):
    _, _, joint, _ = sample(4)
    with pytest.raises(ValueError, match=name):
        linear_constraints(joint, np.eye(4), **{name: value})


def test_bad_arrays_are_named():
    _, _, joint, _ = sample(4)
    with pytest.raises(ValueError, match="joint must have shape"):
        linear_constraints(joint[:, :, 0], np.eye(4))
    with pytest.raises(ValueError, match="sum to 1"):
        linear_constraints(2 * joint, np.eye(4))
    with pytest.raises(ValueError, match="membership"):
        linear_constraints(joint, np.eye(3))
    with pytest.raises(ValueError, match="sample_weight"):
        linear_constraints(joint, np.eye(4), sample_weight=np.zeros(len(joint)))
