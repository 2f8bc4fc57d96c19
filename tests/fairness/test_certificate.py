import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from mlpapers.fairness import BayesFairClassifier, certify_fairness, make_gaussian_groups, mean_difference
from mlpapers.testing import check_result

RATES = np.array([0.50, 0.45, 0.55, 0.40])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])


def draw(rng, n=4000):
    groups = rng.choice(4, size=n, p=SHARES)
    decided = (rng.random(n) < RATES[groups]).astype(float)
    return groups, decided


@pytest.mark.parametrize("bound", ["normal", "hoeffding", "bernstein"])
@pytest.mark.parametrize(
    ("measure", "reference", "form"),
    [
        ("difference", "overall", "complement"),
        ("difference", "pairwise", "complement"),
        ("ratio", "overall", "complement"),
        ("ratio", "overall", "inverse"),
        ("ratio", "overall", "lower"),
        ("ratio", "pairwise", "complement"),
    ],
)
def test_the_bound_covers_the_truth(bound, measure, reference, form):
    overall = SHARES @ RATES
    truth = {
        ("difference", "overall", "complement"): np.abs(RATES - overall).max(),
        ("difference", "pairwise", "complement"): RATES.max() - RATES.min(),
        ("ratio", "overall", "complement"): 1
        - min((RATES / overall).min(), ((1 - RATES) / (1 - overall)).min()),
        ("ratio", "overall", "inverse"): 1 - min((RATES / overall).min(), (overall / RATES).min()),
        ("ratio", "overall", "lower"): 1 - (RATES / overall).min(),
        ("ratio", "pairwise", "complement"): 1 - RATES.min() / RATES.max(),
    }[measure, reference, form]
    rng = np.random.default_rng(0)
    repetitions, missed, widest = 60, 0, 0.0
    for _ in range(repetitions):
        groups, decided = draw(rng)
        certificate = certify_fairness(
            decided,
            np.zeros((len(groups), 1)),
            np.arange(len(groups)) % 2,
            sensitive_features=groups,
            constraint="demographic_parity",
            measure=measure,
            reference=reference,
            ratio_form=form,
            tolerance=0.2,
            bound=bound,
        )
        missed += certificate.upper_bound < truth
        widest = max(widest, certificate.upper_bound)
    # At least 95 % are covered: 8 misses of 60 have a probability below 1 %.
    assert missed < 8
    assert widest < 1.0


def test_the_radii_are_those_of_the_three_inequalities():
    groups, decided = draw(np.random.default_rng(1))
    widths = {}
    level = 0.05 / (2 * 4) / 2
    for bound in ("normal", "hoeffding", "bernstein"):
        table = certify_fairness(
            decided,
            None,
            np.arange(4000) % 2,
            sensitive_features=groups,
            constraint="demographic_parity",
            tolerance=0.15,
            bound=bound,
        ).per_group
        n, variance = (groups == 3).sum(), decided[groups == 3].var(ddof=1)
        log = np.log(2 / level)
        wanted = {
            "normal": norm.isf(level) * np.sqrt(variance / n),
            "hoeffding": np.sqrt(np.log(1 / level) / (2 * n)),
            "bernstein": np.sqrt(2 * variance * log / n) + 7 * log / (3 * (n - 1)),
        }[bound]
        np.testing.assert_allclose(table["radius"][3], wanted, rtol=1e-12)
        widths[bound] = table["upper_bound"].max()
        share, rest = n / 4000, decided[groups != 3].mean()
        estimate = (1 - share) * abs(decided[groups == 3].mean() - rest)
        upper = estimate + (1 - share) * (table["radius"][3] + table["rest_radius"][3])
        np.testing.assert_allclose(table["upper_bound"][3], upper, rtol=1e-12)
    assert widths["normal"] < widths["hoeffding"] < widths["bernstein"]


def test_coverage_and_width_at_four_thousand_samples():
    # Four groups, the smallest a tenth, which is selected .068 less often than everybody.
    rates = np.array([0.173, 0.173, 0.173, 0.0974])
    overall = SHARES @ rates
    truth = overall - rates[3]
    assert abs(truth - 0.068) < 1e-3
    n, level = 4000, 0.05 / (2 * 4) / 2
    rng = np.random.default_rng(0)
    upper = {"normal": [], "hoeffding": [], "bernstein": []}
    for _ in range(100):
        groups = rng.choice(4, size=n, p=SHARES)
        decided = (rng.random(n) < rates[groups]).astype(float)
        for bound, values in upper.items():
            certificate = certify_fairness(
                decided,
                None,
                np.arange(n) % 2,
                sensitive_features=groups,
                constraint="demographic_parity",
                tolerance=0.15,
                bound=bound,
            )
            values.append(certificate.upper_bound)
    # Both radii at their expected group sizes; the estimate is unbiased where one group is far off.
    sizes = n * np.array([0.1, 0.9])
    variance = np.array([rates[3] * (1 - rates[3]), 0.173 * (1 - 0.173)])
    log = np.log(2 / level)
    wanted = {
        "normal": norm.isf(level) * np.sqrt(variance / sizes),
        "hoeffding": np.sqrt(np.log(1 / level) / (2 * sizes)),
        "bernstein": np.sqrt(2 * variance * log / sizes) + 7 * log / (3 * (sizes - 1)),
    }
    for bound, values in upper.items():
        assert (np.array(values) >= truth).mean() >= 0.99
        assert abs(np.mean(values) - truth - 0.9 * wanted[bound].sum()) < 0.004
    # .118 and .172 are the widths to be expected of the practical and of the rigorous bound.
    assert abs(np.mean(upper["normal"]) - 0.118) < 0.004
    assert abs(np.mean(upper["hoeffding"]) - 0.172) < 0.004
    assert np.mean(upper["hoeffding"]) < np.mean(upper["bernstein"]) < 0.196


def test_kinds_of_rules_agree():
    X, y, sensitive, _ = make_gaussian_groups(2000, random_state=0)
    model = LogisticRegression().fit(X, y)
    options = {"sensitive_features": sensitive, "constraint": "equalized_odds", "tolerance": 0.5}
    bounds = [
        certify_fairness(rule, X, y, **options).upper_bound
        for rule in (model, model.predict, model.predict(X))
    ]
    assert bounds[0] == bounds[1] == bounds[2]
    estimate = certify_fairness(model, X, y, **options).per_group["estimate"].max()
    measured = mean_difference(y, model.predict(X), sensitive_features=sensitive, constraint="equalized_odds")
    np.testing.assert_allclose(estimate, measured, atol=1e-12)
    check_result(certify_fairness(model, X, y, **options))


def test_a_group_that_nobody_represents_is_not_certified():
    y = np.array([0, 0, 1, 1, 0, 0])
    certificate = certify_fairness(
        np.zeros(6), None, y, sensitive_features=list("aabbcc"), constraint="equal_opportunity", tolerance=0.9
    )
    assert not certificate.certified
    assert certificate.upper_bound == 1.0


def test_the_classifier_looks_for_a_rule_that_is_certified():
    X, y, sensitive, _ = make_gaussian_groups(8000, random_state=0)
    fresh = make_gaussian_groups(20_000, random_state=1)
    model = BayesFairClassifier(tolerance=0.1, random_state=0).fit(X, y, sensitive_features=sensitive)
    before = model.multipliers_.copy()
    certificate = model.certify(fresh[0], fresh[1], sensitive_features=fresh[2])
    assert certificate.certified
    assert certificate.upper_bound <= 0.1
    assert 0.0 <= certificate.candidate <= 0.1
    assert certificate.estimator.tolerance == certificate.candidate
    assert model.tolerance == 0.1
    assert model.multipliers_.equals(before)
    small = model.certify(fresh[0][:60], fresh[1][:60], sensitive_features=fresh[2][:60])
    assert not small.certified
    assert small.candidate == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"bound": "exact"}, "bound must be one of"),
        ({"tolerance": 2.0}, "tolerance"),
        ({"sensitive_features": [1]}, "sensitive_features must have"),
        ({"y": [3, 3]}, "Only binary"),
        ({"f_or_estimator": [0.5]}, "2 probabilities"),
        ({"f_or_estimator": [0.5, 1.5]}, "2 probabilities"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "f_or_estimator": [0.5, 0.5],
        "X": None,
        "y": [0, 1],
        "sensitive_features": [1, 2],
        "constraint": "demographic_parity",
        "tolerance": 0.1,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        certify_fairness(**arguments)
