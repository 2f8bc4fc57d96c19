"""Small problems that the tests of this package share."""

import numpy as np
import pytest

from mlpapers.optim import FiniteSum, LinearFiniteSum, QuadraticFiniteSum


class Counting:
    """A FiniteSum whose function counts the rows that it sees."""

    def __init__(self, fun):
        self.rows, self.seen = 0, []
        self.inner = fun

    def __call__(self, X, idx):
        self.rows += len(idx)
        self.seen.append((X.copy(), idx.copy()))
        return self.inner(X, idx)


@pytest.fixture
def counted():
    """Return a function that wraps a sum into one that counts, and the counter."""

    def make(total):
        counter = Counting(total.values)
        return FiniteSum(counter, total.n_functions, total.dim, dtype=np.float64, grad=total.grad), counter

    return make


@pytest.fixture(scope="session")
def quadratic():
    rng = np.random.default_rng(0)
    m = rng.normal(size=6)
    m /= np.linalg.norm(m)
    b = 2.0 * m + 0.5 * rng.normal(size=(40, 6)) / np.sqrt(6)
    return QuadraticFiniteSum(rng.uniform(0.5, 1.5, size=(40, 6)), b)


@pytest.fixture(scope="session")
def logistic():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(60, 5))
    y = np.where(A @ np.array([2.0, -1.0, 0.0, 0.0, 0.0]) + rng.normal(size=60) > 0, 1.0, -1.0)
    return LinearFiniteSum(A, y, "logistic")
