import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.fairness import (
    FairnessWarning,
    fairness_report,
    group_rates,
    make_rate_metric,
    mean_difference,
    mean_ratio,
)
from mlpapers.testing import check_result

NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity")


def draw(seed, n=60, n_groups=3):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.repeat(np.arange(n_groups), 2), rng.integers(0, n_groups, n - 2 * n_groups)])
    y = np.concatenate([np.tile([0, 1], n_groups), rng.integers(0, 2, n - 2 * n_groups)])
    return y, rng.integers(0, 2, n), groups, rng.random(n) + 0.1


@pytest.mark.parametrize("notion", NOTIONS)
def test_rates_are_counts(notion):
    y, y_pred, groups, weights = draw(0)
    rates = group_rates(y, y_pred, sensitive_features=groups, constraint=notion, sample_weight=weights)
    assert rates.index[-1] == "overall"
    for name, row in rates.iterrows():
        rows = np.ones(len(y), dtype=bool) if name == "overall" else groups == int(name.split("=")[1])
        if notion == "equal_opportunity":
            rows = rows & (y == 1)
        if notion == "predictive_equality":
            rows = rows & (y == 0)
        hit = (y_pred == y) if notion == "accuracy_parity" else (y_pred == 1)
        assert row["count"] == rows.sum()
        np.testing.assert_allclose(row["rate"], np.average(hit[rows], weights=weights[rows]), rtol=1e-12)


def test_standard_errors_are_binomial_without_weights():
    y, y_pred, groups, _ = draw(1)
    rates = group_rates(y, y_pred, sensitive_features=groups, constraint="demographic_parity")
    np.testing.assert_allclose(rates["se"], np.sqrt(rates["rate"] * (1 - rates["rate"]) / rates["count"]))


def test_several_notions_get_a_level_of_their_own():
    y, y_pred, groups, _ = draw(2)
    rates = group_rates(y, y_pred, sensitive_features=groups, constraint="equalized_odds")
    assert rates.index.get_level_values(0).unique().tolist() == ["equal_opportunity", "predictive_equality"]


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_fairlearn_measures_the_same(seed):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    y, y_pred, groups, _ = draw(seed)
    for reference, method in (("overall", "to_overall"), ("pairwise", "between_groups")):
        options = {"sensitive_features": groups, "reference": reference}
        for constraint, name in (
            ("demographic_parity", "demographic_parity"),
            ("equalized_odds", "equalized_odds"),
        ):
            theirs = getattr(fairlearn, f"{name}_difference")(
                y, y_pred, sensitive_features=groups, method=method
            )
            np.testing.assert_allclose(
                mean_difference(y, y_pred, constraint=constraint, **options), theirs, atol=1e-12
            )
        theirs = fairlearn.demographic_parity_ratio(y, y_pred, sensitive_features=groups, method=method)
        ours = mean_ratio(y, y_pred, ratio_form="inverse", **options)
        np.testing.assert_allclose(ours, 0.0 if np.isnan(theirs) else theirs, atol=1e-12)


def test_a_rate_metric_works_in_metric_frames_and_scorers():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    y, y_pred, groups, weights = draw(3)
    for notion in NOTIONS:
        metric = make_rate_metric(notion)
        frame = fairlearn.MetricFrame(
            metrics=metric,
            y_true=y,
            y_pred=y_pred,
            sensitive_features=groups,
            sample_params={"sample_weight": weights},
        )
        ours = group_rates(y, y_pred, sensitive_features=groups, constraint=notion, sample_weight=weights)
        np.testing.assert_allclose(frame.by_group.to_numpy(), ours["rate"].to_numpy()[:-1], atol=1e-12)
        assert pickle.loads(pickle.dumps(metric))(y, y_pred) == metric(y, y_pred)
    assert np.isnan(make_rate_metric("equal_opportunity")([0, 0], [0, 1]))
    with pytest.raises(ValueError, match="constraint must be one of"):
        make_rate_metric("equalized_odds")


@given(st.integers(0, 10**6), st.sampled_from(NOTIONS))
def test_the_complement_form_treats_both_decisions_alike(seed, notion):
    y, _, groups, _ = draw(seed)
    f = np.random.default_rng(seed).random(len(y))
    options = {"sensitive_features": groups, "constraint": notion}
    if notion == "accuracy_parity":
        # Of 1 - f the accuracy is one minus that of f: errors for accuracies.
        np.testing.assert_allclose(mean_ratio(y, f, **options), mean_ratio(1 - y, f, **options), atol=1e-12)
    np.testing.assert_allclose(mean_ratio(y, f, **options), mean_ratio(y, 1 - f, **options), atol=1e-12)
    np.testing.assert_allclose(
        mean_difference(y, f, **options), mean_difference(y, 1 - f, **options), atol=1e-12
    )


@given(st.integers(0, 10**6), st.sampled_from(NOTIONS), st.sampled_from(["complement", "inverse", "lower"]))
def test_fair_cells_make_fair_unions(seed, notion, form):
    rng = np.random.default_rng(seed)
    table = np.concatenate([[[a, b] for a in (0, 1) for b in (0, 1)] * 2, rng.integers(0, 2, (40, 2))])
    y = np.concatenate([np.repeat([0, 1], 4), rng.integers(0, 2, 40)])
    f = rng.random(48)
    options = {"sensitive_features": table, "constraint": notion}
    assert mean_difference(y, f, groups="marginal", **options) <= mean_difference(y, f, **options) + 1e-12
    cells = mean_ratio(y, f, ratio_form=form, **options)
    assert mean_ratio(y, f, groups="marginal", ratio_form=form, **options) >= cells - 1e-12


def test_ratios_of_zero():
    groups = ["a", "a", "b", "b"]
    nobody = mean_ratio([0, 1, 0, 1], [0, 0, 0, 0], sensitive_features=groups, ratio_form="inverse")
    assert nobody == 1.0
    assert mean_ratio([0, 1, 0, 1], [1, 1, 0, 0], sensitive_features=groups, reference="pairwise") == 0.0


def test_small_and_empty_groups_are_skipped():
    y, f, groups = [1, 0, 1, 0, 0], [1, 0, 0, 0, 1], ["a", "a", "b", "b", "c"]
    options = {"sensitive_features": groups, "constraint": "equal_opportunity"}
    assert mean_difference(y, f, **options) == 0.5  # c has no positives
    assert mean_difference(y, f, min_group_count=1, **options) == 0.5
    with pytest.warns(FairnessWarning, match="nan"):
        assert np.isnan(mean_difference(y, f, min_group_count=2, **options))
    with pytest.warns(FairnessWarning, match="nan"):
        assert np.isnan(mean_ratio([0, 0], [0, 1], sensitive_features=[1, 2], constraint="equal_opportunity"))


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [False, True], [-1, 1], [1.0, 2.0], ["0", "1"]],
    ids=["words", "bool", "signs", "numbers", "digits"],
)
def test_labels_may_be_any_two_of_which_the_greater_is_positive(labels):
    y, y_pred, groups, _ = draw(6)
    options = {"sensitive_features": groups, "constraint": "equalized_odds"}
    expected = mean_difference(y, y_pred, **options)
    given = np.array(labels)[y]
    assert mean_difference(given, np.array(labels)[y_pred], **options) == expected
    assert (
        mean_difference(pd.Series(given, dtype="category"), np.array(labels)[y_pred], **options) == expected
    )
    f = np.random.default_rng(0).random(len(y))
    assert mean_ratio(given, f, **options) == mean_ratio(y, f, **options)
    assert fairness_report(given, f, sensitive_features=groups).accuracy == pytest.approx(
        fairness_report(y, f, sensitive_features=groups).accuracy, abs=1e-12
    )


def test_a_metric_of_one_group_needs_labels_that_name_the_positive_one():
    metric = make_rate_metric("demographic_parity")
    assert metric(["no", "yes", "no"], ["yes", "yes", "no"]) == pytest.approx(2 / 3, abs=1e-15)
    # A group in which everybody has 1 of {1, 2} looks like one of positive labels.
    with pytest.raises(ValueError, match="must hold 0 and 1, or two words; got numbers such as 2"):
        metric([1, 2], [1, 1])
    with pytest.raises(ValueError, match=r"two labels, or 0 and 1; got \['no'\]"):
        metric(["no", "no"], ["no", "no"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": [0, 2, 1]}, "Only binary classification is supported"),
        ({"y_true": ["a", "b", "c"]}, "Only binary classification is supported"),
        ({"y_true": ["a", "a", "a"]}, "two labels, or 0 and 1"),
        ({"y_true": ["a", None, "b"]}, "missing label at 1"),
        ({"y_true": ["a", "b", "a"], "y_pred": ["b", "c", "a"]}, "Only binary classification is supported"),
        ({"y_true": ["a", "b", "a"], "y_pred": [0, 1, 2]}, "labels of one type"),
        ({"y_true": [[0], [1]]}, "y_pred must have shape"),
        ({"y_pred": [0, 1, 1.5]}, "y_pred must hold numbers in"),
        ({"y_pred": ["a", "b", "a"]}, "y_pred must hold numbers in"),
        ({"y_pred": [-1, 1, -1]}, "y_pred must hold numbers in"),
        ({"y_pred": [0, np.nan, 1]}, "y_pred must hold numbers in"),
        ({"y_pred": [0, 1]}, "y_pred must have shape"),
        ({"sensitive_features": [1, 2]}, "sensitive_features must have 3 rows"),
        ({"constraint": "fairness"}, "constraint must be one of"),
        ({"groups": "pairs"}, "groups must be one of"),
        ({"reference": "mean"}, "reference must be one of"),
        ({"min_group_count": 0}, "min_group_count"),
        ({"sample_weight": [0, 0, 0]}, "sample_weight"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"y_true": [0, 1, 1], "y_pred": [0, 1, 0], "sensitive_features": [1, 1, 2], **change}
    y_true, y_pred = arguments.pop("y_true"), arguments.pop("y_pred")
    with pytest.raises(ValueError, match=message):
        mean_difference(y_true, y_pred, **arguments)


def test_the_report_holds_every_measure():
    y, y_pred, groups, _ = draw(5)
    table = np.column_stack([groups, y_pred[::-1]])
    report = fairness_report(y, y_pred, sensitive_features=table)
    assert len(report.measures) == 20
    for row in report.measures.itertuples():
        measure = mean_difference if row.measure == "difference" else mean_ratio
        value = measure(
            y,
            y_pred,
            sensitive_features=table,
            constraint=row.constraint,
            groups="all",
            reference=row.reference,
        )
        np.testing.assert_allclose(row.value, value, atol=1e-12)
    np.testing.assert_allclose(report.accuracy, np.mean(y == y_pred), rtol=1e-12)
    overall = report.measures.query(
        "measure == 'difference' and reference == 'overall' and constraint != 'equalized_odds'"
    )
    for row in overall.itertuples():
        rates = report.rates.query(f"constraint == '{row.constraint}'").set_index("group")["rate"]
        assert abs(abs(rates[row.worst_group] - rates["overall"]) - row.value) <= 1e-12
    check_result(report)


def test_no_samples():
    with pytest.raises(ValueError, match="y_true must hold at least one label"):
        mean_difference([], [], sensitive_features=[])
