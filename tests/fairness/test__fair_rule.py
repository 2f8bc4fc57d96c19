import copy

import numpy as np
import pytest

from mlpapers.fairness import BayesFairClassifier, make_gaussian_groups, solve_fair_lp
from mlpapers.fairness._fair_rule import _violation
from mlpapers.fairness.metrics import label_violation


@pytest.fixture(scope="module")
def fitted():
    X, y, sensitive, _ = make_gaussian_groups(3000, random_state=1)
    weights = np.random.default_rng(0).integers(0, 3, len(y))
    model = BayesFairClassifier(tolerance=0.1, random_state=0)
    return model.fit(X, y, sample_weight=weights, sensitive_features=sensitive)


@pytest.mark.parametrize("least", [1, 900])
@pytest.mark.parametrize(
    ("measure", "reference", "ratio_form"),
    [
        ("difference", "overall", "complement"),
        ("difference", "pairwise", "complement"),
        ("ratio", "overall", "complement"),
        ("ratio", "overall", "inverse"),
        ("ratio", "pairwise", "complement"),
    ],
)
def test_the_violation_is_that_of_the_metrics(fitted, measure, reference, ratio_form, least):
    posteriors = fitted._posteriors
    notions = ("demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity")
    f = np.random.default_rng(0).random(len(posteriors.y)) * (0.5 + 0.5 * (posteriors.encoding.codes == 1))
    for blocks in (*((notion,) for notion in notions), notions):
        asked = fitted._asked.options._replace(
            blocks=blocks, measure=measure, reference=reference, ratio_form=ratio_form
        )
        expected = label_violation(
            posteriors.y.astype(float),
            f,
            posteriors.encoding,
            blocks=blocks,
            measure=measure,
            reference=reference,
            ratio_form=ratio_form,
            weights=posteriors.weights,
            min_group_count=least,
        )
        found = _violation(f, posteriors, fitted._asked._replace(options=asked, min_group_count=least))
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12)


def test_no_group_large_enough_has_no_violation(fitted):
    posteriors = fitted._posteriors
    asked = fitted._asked._replace(min_group_count=10**6)
    assert np.isnan(_violation(np.zeros(len(posteriors.y)), posteriors, asked))


def test_the_start_is_the_neighbour_where_its_rows_mean_the_same(fitted, monkeypatch):
    starts = []

    def recorded(*arguments, warm_start=None, **options):
        starts.append(warm_start)
        return solve_fair_lp(*arguments, warm_start=warm_start, **options)

    monkeypatch.setattr("mlpapers.fairness._fair_rule.solve_fair_lp", recorded)
    model = copy.copy(fitted)
    before = model.solution_.multipliers
    model.resolve(tolerance=0.03)
    assert starts.pop() is before
    model.resolve(constraint="equal_opportunity")
    assert starts.pop() is None
    assert model.multipliers_.index.get_level_values("block").unique().tolist() == ["equal_opportunity"]
    # Pairwise rows have the same names; their multipliers are another matter, and no worse a start than any.
    model.resolve(reference="pairwise")
    assert starts.pop() is not None
    assert model.solution_.status == "optimal"
    model.resolve(multipliers=np.zeros(4))
    assert model.solution_ is None
    model.resolve(multipliers=None)
    assert starts.pop() is None


def test_how_decisions_are_drawn_is_no_part_of_the_rule(fitted):
    model = copy.copy(fitted)
    rule = model._found
    assert model.resolve(randomize="independent")._found is rule
    assert model.resolve(tolerance=0.1)._found is rule
    assert model.resolve(tolerance=0.05)._found is not rule
