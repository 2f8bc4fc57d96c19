"""Small problems that many tests share."""

from __future__ import annotations

import numpy as np
import pytest

from mlpapers.unlearning import DVWUClassifier, DVWURegressor
from mlpapers.unlearning.losses import make_loss

LOSSES = ("log_loss", "softmax", "squared", "pseudo_huber", "smooth_hinge")


def draw_problem(name, rng, n=60, d=4, scale=None):
    """Return (loss, X, y, w) with rows of norm at most 1 and weights between 0.1 and 2."""
    loss = make_loss(name, scale=scale if scale is not None else float(rng.uniform(0.4, 2.0)), n_classes=3)
    X = rng.normal(size=(n, d))
    X /= np.sqrt((X**2).sum(1).max())
    z = 4.0 * X @ rng.normal(size=d)
    if name == "softmax":
        y = rng.integers(0, 3, size=n)
    elif name in ("squared", "pseudo_huber"):
        y = z + rng.normal(size=n)
    else:
        y = np.where(z + rng.logistic(size=n) > 0, 1.0, -1.0)
    return loss, X, y, rng.uniform(0.1, 2.0, size=n)


@pytest.fixture
def problem():
    return draw_problem


@pytest.fixture
def binary():
    """200 noisy rows of five columns, two classes, and validation rows."""
    rng = np.random.default_rng(7)
    direction = rng.normal(size=5)
    X, X_val = rng.normal(size=(200, 5)), rng.normal(size=(60, 5))
    y = (X @ direction + rng.logistic(size=200) > 0).astype(int)
    return X, y, X_val, (X_val @ direction > 0).astype(int)


@pytest.fixture
def classify(binary):
    """Fit a DVWUClassifier on `binary`; keyword arguments are its parameters."""
    X, y, X_val, y_val = binary

    def fit(data_values=None, **params):
        model = DVWUClassifier(**{"random_state": 0, **params})
        if model.value_function is None:
            return model.fit(X, y, data_values=data_values)
        return model.fit(X, y, X_val=X_val, y_val=y_val)

    return fit


@pytest.fixture
def regress(binary):
    """Fit a DVWURegressor on the columns of `binary`; keyword arguments are its parameters."""
    X = binary[0]
    y = X @ [1.0, -2.0, 0.5, 0.0, 3.0] + np.random.default_rng(3).normal(size=len(X))

    def fit(data_values=None, **params):
        return DVWURegressor(**{"random_state": 0, **params}).fit(X, y, data_values=data_values)

    return fit
