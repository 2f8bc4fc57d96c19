"""Forgetting rows beside scikit-learn's retraining and the removal step of certified-removal, re-derived.

``python benchmarks/unlearning.py --peers`` prints ratios; ``pytest benchmarks/unlearning.py`` times ours
alone.

certified-removal (facebookresearch, research code for CUDA) cannot be imported; its method is written out
here: one row at a time, the Hessian of all retained rows anew for every removal, float32, and a spectral norm
by 20 power iterations, which under-estimates it and therefore gives no bound.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from mlpapers.unlearning import DVWUClassifier

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, main, one_thread

N, D = 100_000, 100
# Far above need, so that fast steps are timed; the sequence of deletions has the ordinary budget.
LARGE_EPSILON = 1e9


@cache
def problem(n: int = N, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X, g = rng.standard_normal((n, d)), rng.standard_normal(d)
    y = (rng.random(n) < expit(8.0 * X @ g / np.linalg.norm(g))).astype(int)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, y


@cache
def trained(n: int = N, d: int = D) -> DVWUClassifier:
    values = np.random.default_rng(1).standard_normal(n)
    model = DVWUClassifier(fit_intercept=False, epsilon=LARGE_EPSILON, random_state=0)
    return model.fit(*problem(n, d), data_values=values)


class Requests:
    """Public requests of k rows, the next `n_requests` of them with every call."""

    def __init__(self, k: int, n: int = N, d: int = D, n_requests: int = 1) -> None:
        self.n_requests = n_requests
        self.model = copy.deepcopy(trained(n, d))
        self.batches: Iterator[np.ndarray] = iter(
            np.random.default_rng(2).permutation(n)[: n // k * k].reshape(-1, k)
        )

    def __call__(self) -> None:
        for _ in range(self.n_requests):
            self.model.unlearn(next(self.batches))


def retraining() -> Callable[[], Any]:
    (X, y), w = problem(), trained().weights_

    def run() -> None:
        LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=1000).fit(
            X[1:], y[1:], sample_weight=w[1:]
        )

    return run


def newton_retraining() -> Callable[[], Any]:
    X, y = problem()
    return lambda: LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, solver="newton-cholesky").fit(
        X, y
    )


def certified_removal() -> Callable[[], Any]:
    """One removal as certified-removal makes it: O(n d^2), whatever was removed before."""
    X, y = problem()
    X32 = X.astype(np.float32)
    signs = (2.0 * y - 1.0).astype(np.float32)
    theta = trained()._theta[0].astype(np.float32)

    def run() -> np.ndarray:
        X_R, s_R = X32[1:], signs[1:]
        z = expit(s_R * (X_R @ theta))
        H = (X_R.T * (z * (1 - z))) @ X_R + np.eye(D, dtype=np.float32)
        gradient = (expit(signs[0] * (X32[0] @ theta)) - 1) * signs[0] * X32[0]
        step = np.linalg.solve(H, gradient)
        v = np.ones(D, dtype=np.float32)
        for _ in range(20):
            v = X_R.T @ (X_R @ v)
            v /= np.linalg.norm(v)
        norm = np.sqrt(np.linalg.norm(X_R.T @ (X_R @ v)))
        bound = 0.25 * norm * np.linalg.norm(step) * np.linalg.norm(X_R @ step)
        return np.append(theta + step, bound)

    return run


def request_case(k: int) -> Case:
    """A few requests in a row against one retraining, which between two requests empties every cache."""
    targets = {1: 800.0, 10: 800.0, 100: 300.0, 1000: 150.0}
    n_requests = {1: 20, 10: 20, 100: 5, 1000: 2}[k]  # few enough that rows need not be squeezed meanwhile
    case = Case(
        f"{n_requests} requests of {k} of 1e5 rows",
        Requests(k, n_requests=n_requests),
        {"scikit-learn": retraining},
        {"scikit-learn": targets[k] / n_requests},
        repeats=7,
    )
    if k == 1:
        case.peers["certified-removal"] = certified_removal
        case.targets["certified-removal"] = 100.0 / n_requests
    return case


def sequence_case() -> Case:
    """1000 requests with all re-anchors, against one retraining; 1000 retrainings are 1000 times that."""
    X, y = problem()
    fresh = DVWUClassifier(fit_intercept=False, delta=1e-5, random_state=0).fit(X, y)

    def ours() -> None:
        model = copy.deepcopy(fresh)
        for person in range(1000):
            model.unlearn([person])

    return Case(
        "1000 requests / 1 retraining", ours, {"scikit-learn": retraining}, {"scikit-learn": 0.04}, repeats=3
    )


def fit_case() -> Case:
    X, y = problem()
    ours = DVWUClassifier(fit_intercept=False, perturbation="none")
    return Case(
        "fit 1e5 rows, d=100",
        lambda: ours.fit(X, y),
        {"newton-cholesky": newton_retraining},
        {"newton-cholesky": 1 / 1.5},
        repeats=5,
    )


def size_case() -> Case:
    """The same request at n = 1e4 and n = 1e6: their ratio shows that there is no pass over the data."""
    return Case(
        "unlearn 1 of 1e6 rows, d=20",
        Requests(1, 1_000_000, 20),
        {"n = 1e4": lambda: Requests(1, 10_000, 20)},
        {"n = 1e4": 0.5},
        repeats=25,
    )


def width_exponents() -> None:
    """Print the exponent of the time of one request in d."""
    seconds = {}
    with one_thread():
        for d in (256, 512, 1024, 2048):
            request = Requests(1, 3 * d, d)
            request()
            durations = []
            for _ in range(7):
                started = time.perf_counter()
                request()
                durations.append(time.perf_counter() - started)
            seconds[d] = float(np.median(durations))
    for d, wider in zip(list(seconds), list(seconds)[1:]):
        exponent = np.log2(seconds[wider] / seconds[d])
        print(f"one request, d={d}: {1e3 * seconds[d]:.2f} ms; d={wider}: exponent {exponent:.2f}")


CASES = [*(partial(request_case, k) for k in (1, 10, 100, 1000)), sequence_case, fit_case, size_case]


@pytest.mark.parametrize("k", [1, 100])
def test_request(benchmark, k):
    with one_thread():
        benchmark.pedantic(Requests(k), rounds=20, warmup_rounds=1)


if __name__ == "__main__":
    status = main(CASES)
    width_exponents()
    sys.exit(status)
