from dataclasses import dataclass

import pytest
from sklearn.base import BaseEstimator

from mlpapers.core import Result
from mlpapers.testing import PublicObject, find_vocabulary_violations
from mlpapers.testing.vocabulary import ESTIMATOR_NAMES, NAMES


def violations(value, exempt=(), package="tests.zoo"):
    value.__module__ = package
    for attribute in vars(value).values() if isinstance(value, type) else ():
        if callable(attribute):
            attribute.__module__ = package
    return find_vocabulary_violations(exempt, objects=[PublicObject(package, value.__name__, value)])


def function_with(parameter, name="solve"):
    namespace = {}
    exec(f"def {name}({parameter}): pass", namespace)
    return namespace[name]


@pytest.mark.parametrize("name", NAMES)
def test_replaced_names_are_found_anywhere(name):
    assert violations(function_with(name)) == [f"zoo.solve.{name}: call it {NAMES[name]}"]
    assert violations(function_with(f"*, {name}=None"), exempt=[f"zoo.solve.{name}"]) == []


@pytest.mark.parametrize("name", ESTIMATOR_NAMES)
def test_some_names_are_replaced_in_estimators_only(name):
    namespace = {"BaseEstimator": BaseEstimator}
    source = f"class Lion(BaseEstimator):\n    def __init__(self, {name}=1): pass\n"
    exec(source, namespace)
    assert violations(namespace["Lion"]) == []
    exec(source + "    def fit(self, X): pass\n", namespace)
    assert violations(namespace["Lion"]) == [f"zoo.Lion.{name}: call it {ESTIMATOR_NAMES[name]}"]
    assert violations(function_with(name)) == []


def test_methods_and_class_methods_are_walked():
    class Lion:
        def hunt(self, rng):
            pass

        @classmethod
        def breed(cls, seed):
            pass

        @staticmethod
        def count(jobs):
            pass

        def _private(self, seed):
            pass

    found = violations(Lion)
    assert [line.partition(":")[0] for line in found] == [
        "zoo.Lion.breed.seed",
        "zoo.Lion.count.jobs",
        "zoo.Lion.hunt.rng",
    ]


def test_inherited_methods_of_other_libraries_are_not():
    class Lion(BaseEstimator):
        pass

    assert violations(Lion) == []


def test_stale_exemptions_are_found():
    assert violations(function_with("random_state"), exempt=["zoo.solve.seed"]) == [
        "zoo.solve.seed: is exempt, but breaks no rule"
    ]


def test_fit_order_and_test_data():
    class Lion:
        def fit(self, X, y, X_test=None, sample_weight=None):
            pass

        def score(self, X, y, X_test=None):
            pass

    assert violations(Lion) == [
        "zoo.Lion.fit.X_test: data to learn or value against are X_val",
        "zoo.Lion.fit.sample_weight: make it the third parameter of fit, after X and y",
    ]


def test_sensitive_features_are_keyword_only():
    class Lion:
        def fit(self, X, y, sample_weight=None, *, sensitive_features=None):
            pass

        def predict(self, X, sensitive_features=None):
            pass

    assert violations(Lion) == ["zoo.Lion.predict.sensitive_features: make it keyword-only"]
    assert violations(function_with("A"), package="mlpapers.fairness") == [
        "fairness.solve.A: call it sensitive_features"
    ]
    assert violations(function_with("A")) == []


def test_groups():
    assert violations(function_with("groups=None")) == ["zoo.solve.groups: call it sensitive_features"]
    assert violations(function_with("groups=4")) == ["zoo.solve.groups: a count is n_groups"]
    assert violations(function_with("groups=4"), package="mlpapers.valuation") == [
        "valuation.solve.groups: a count is n_groups"
    ]
    assert violations(function_with("groups=None"), package="mlpapers.valuation") == []
    assert violations(function_with('groups="intersectional"')) == []


def test_metrics_are_distances():
    assert violations(function_with('metric="euclidean"')) == []
    assert violations(function_with("metric", name="pair_distances")) == []
    for default in ("", '="accuracy"'):
        assert violations(function_with(f"metric{default}")) == [
            "zoo.solve.metric: metric is a distance; call it scoring"
        ]


def test_downloads_are_off():
    assert violations(function_with("download=False")) == []
    assert violations(function_with("download=True")) == [
        "zoo.solve.download: download must be False by default"
    ]


def test_theory_may_keep_a_letter_that_it_defines():
    def bound(eps):
        """Bound.

        Parameters
        ----------
        eps : float
        """

    def bare(eps):
        """Bound."""

    assert violations(bound, package="mlpapers.attention.theory") == []
    assert violations(bound) == ["zoo.bound.eps: call it epsilon"]
    assert violations(bare, package="mlpapers.attention.theory") == [
        "attention.theory.bare.eps: call it epsilon"
    ]


def test_alpha_is_no_confidence():
    class Lion:
        def confidence_interval(self, alpha=0.05):
            pass

        def tune(self, alpha=1.0):
            pass

    assert violations(Lion) == ["zoo.Lion.confidence_interval.alpha: call it confidence"]


def test_only_results_are_called_results():
    class LionResult:
        pass

    @dataclass(frozen=True, kw_only=True, eq=False)
    class TigerResult(Result):
        values: int

    assert violations(LionResult) == ["zoo.LionResult: only subclasses of mlpapers.core.Result end in Result"]
    assert violations(TigerResult) == []
