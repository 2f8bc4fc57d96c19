"""Adapters: the package, its weights, or an error that says what to do."""

import sys
import types

import numpy as np
import pytest
from sklearn.base import is_regressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlpapers.datasets import fetch_looptabfm_benchmark as original
from mlpapers.icl import (
    DataUnavailableError,
    LoopedClassifier,
    fetch_looptabfm_benchmark,
    make_semisupervised_gmm,
    tabicl_adapter,
    tabpfn_adapter,
)

CASES = [
    (tabpfn_adapter, "tabpfn", "TabPFNRegressor", LinearRegression),
    (tabicl_adapter, "tabicl", "TabICLClassifier", LogisticRegression),
]


@pytest.mark.parametrize(("adapter", "package", "name", "base"), CASES)
def test_missing_package(adapter, package, name, base, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        adapter()


@pytest.mark.parametrize(("adapter", "package", "name", "base"), CASES)
def test_missing_weights(adapter, package, name, base, monkeypatch):
    class Offline(base):
        def fit(self, X, y):
            raise ConnectionError("no network")

    Offline.__name__ = name
    module = types.ModuleType(package)
    setattr(module, name, Offline)
    monkeypatch.setitem(sys.modules, package, module)
    with pytest.raises(DataUnavailableError, match="model_path"):
        adapter()


@pytest.mark.parametrize(("adapter", "package", "name", "base"), CASES)
def test_installed_package(adapter, package, name, base, monkeypatch):
    seen = []

    class Ready(base):
        def fit(self, X, y):
            seen.append(np.unique(y).tolist())
            return super().fit(X, y)

    Ready.__name__ = name
    module = types.ModuleType(package)
    setattr(module, name, Ready)
    monkeypatch.setitem(sys.modules, package, module)
    model = adapter(fit_intercept=False)
    assert model.fit_intercept is False
    assert seen == [[-1, 1]]
    X, y, _, _ = make_semisupervised_gmm(60, 3, random_state=0)
    way = "regress" if is_regressor(model) else "hard"
    assert LoopedClassifier(model, soft=way).fit(X, y).soft_ == way


def test_benchmark_is_that_of_datasets():
    assert fetch_looptabfm_benchmark is original
    assert issubclass(DataUnavailableError, FileNotFoundError)
