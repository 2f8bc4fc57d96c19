import sys
import types

import numpy as np
import pytest
from contract_cases import (
    BROKEN,
    FitsItsParameter,
    Good,
    InheritsExample,
    MisspeltHook,
    NeedsUnknownArgument,
    NeedsUnknownParameter,
    Runner,
)
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge

from mlpapers.testing import all_estimators, check_estimator_contract, contract_checks, make_example


def test_a_good_estimator_passes():
    check_estimator_contract(Good())


def test_a_good_estimator_without_fit_passes():
    check_estimator_contract(Runner(0.5))
    assert {check.name for check in contract_checks(Runner)} >= {"random_state", "n_jobs"}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_the_clause_catches_its_broken_estimator(kind):
    clause, message = BROKEN[kind]
    checks = {check.name: check for check in contract_checks(kind)}
    with pytest.raises(Exception, match=message):
        checks[clause]()


def test_every_clause_has_a_broken_estimator():
    clauses = {check.name for check in contract_checks(Good)}
    assert {clause for clause, _ in BROKEN.values()} == clauses


def test_fitting_a_given_estimator_is_caught():
    with pytest.raises(AssertionError, match=r"attributes: fit changes the objects given as \['estimator'\]"):
        check_estimator_contract(FitsItsParameter(Ridge()))


def test_the_report_lists_broken_clauses_only():
    kind = next(kind for kind, (clause, _) in BROKEN.items() if clause == "n_jobs")
    with pytest.raises(AssertionError, match="breaks the contract") as caught:
        check_estimator_contract(kind())
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == ["- n_jobs"]


def test_expected_failures_must_fail():
    kind = next(kind for kind, (clause, _) in BROKEN.items() if clause == "n_jobs")
    check_estimator_contract(kind(), expected_failures={"n_jobs": "adds the number of workers"})
    with pytest.raises(AssertionError, match=r"pickle: expected to fail .because., but holds"):
        check_estimator_contract(
            kind(), expected_failures={"n_jobs": "adds the number of workers", "pickle": "because"}
        )
    with pytest.raises(AssertionError, match=r"no_such_clause: .*no clause that applies"):
        check_estimator_contract(Good(), expected_failures={"no_such_clause": "because"})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NeedsUnknownArgument, "no example of 'timetable'"),
        (NeedsUnknownParameter, "cannot be made"),
        (MisspeltHook, "unknown keys \\['parameters'\\]"),
    ],
)
def test_a_class_without_example_fails(kind, message):
    (check,) = contract_checks(kind)
    assert check.name == "example"
    with pytest.raises(TypeError, match=message):
        check()


def test_the_example_hook_is_inherited_and_can_be_replaced():
    example = make_example(InheritsExample)
    assert example.method == "run"
    assert example.params == {"step": 0.5, "rounds": 2}
    given = make_example(InheritsExample(2.0), arguments={"start": np.zeros(2), "horizon": 1})
    assert given.params["step"] == 2.0
    assert given.arguments["horizon"] == 1


def test_default_data_follow_the_tags():
    assert set(make_example(LogisticRegression).arguments["y"]) == {0, 1, 2}
    targets = make_example(Ridge).arguments["y"]
    assert targets.dtype == np.float64
    assert len(np.unique(targets)) == len(targets)


def test_all_estimators_finds_public_concrete_classes(monkeypatch, tmp_path):
    package = tmp_path / "zoo"
    (package / "inner").mkdir(parents=True)
    (package / "_private").mkdir()
    source = "from sklearn.base import BaseEstimator\n"
    source += "import abc\n"
    source += "class {0}(BaseEstimator): pass\n"
    source += "class Abstract{0}(BaseEstimator, abc.ABC):\n    @abc.abstractmethod\n    def fit(self): ...\n"
    source += "class Hidden{0}(BaseEstimator): pass\n"
    source += "CONSTANT = 1\n"
    source += "__all__ = ['{0}', 'Abstract{0}', 'CONSTANT']\n"
    (package / "__init__.py").write_text(source.format("Lion"))
    (package / "inner" / "__init__.py").write_text(
        source.format("Tiger") + "from zoo import Lion\n__all__ += ['Lion']"
    )
    (package / "_private" / "__init__.py").write_text(source.format("Bear"))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = all_estimators("zoo")
    assert [name for name, _ in found] == ["zoo.Lion", "zoo.inner.Tiger"]
    assert all(issubclass(kind, BaseEstimator) for _, kind in found)
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo"]:
        monkeypatch.delitem(sys.modules, name)


def test_all_estimators_does_not_hide_a_name_that_does_not_resolve(monkeypatch):
    broken = types.ModuleType("broken_zoo")
    broken.__path__ = []
    broken.__all__ = ["Missing"]
    monkeypatch.setitem(sys.modules, "broken_zoo", broken)
    with pytest.raises(AttributeError, match="Missing"):
        all_estimators("broken_zoo")
