"""Every public estimator keeps the library's contract; predictors pass scikit-learn's checks besides."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from mlpapers.testing import all_estimators, contract_checks, make_example

# Qualified class name -> {check: why it cannot hold}. A check that passes all the same fails the test.
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}


def contract_cases():
    for name, kind in all_estimators():
        expected = EXPECTED_FAILURES.get(name, {})
        for check in contract_checks(kind):
            reason = expected.get(check.name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param(check, id=f"{name.removeprefix('mlpapers.')}-{check.name}", marks=marks)


def sklearn_cases():
    for name, kind in all_estimators():
        if hasattr(kind, "fit") and hasattr(kind, "predict"):
            expected = EXPECTED_FAILURES.get(name)
            checks = estimator_checks_generator(
                make_example(kind).estimator, expected_failed_checks=expected, mark="xfail", xfail_strict=True
            )
            for case in checks:
                # A marked case is a pytest.param, another a plain pair; both are tuples.
                marks = getattr(case, "marks", ())
                estimator, check = getattr(case, "values", case)
                title = f"{name.removeprefix('mlpapers.')}-{check.func.__name__}"
                yield pytest.param(estimator, check, id=title, marks=marks)


@pytest.mark.parametrize("check", list(contract_cases()))
def test_contract(check):
    check()


# scikit-learn's checks bring data and arguments that deserve a warning; they are about what comes out.
# They know nothing of sensitive features, so a fair classifier has nothing to constrain there.
@pytest.mark.filterwarnings("ignore:without sensitive_features:mlpapers.fairness.FairnessWarning")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), list(sklearn_cases()))
def test_sklearn_check(estimator, check):
    check(estimator)


def test_expected_failures_name_estimators():
    assert set(EXPECTED_FAILURES) <= {name for name, _ in all_estimators()}
