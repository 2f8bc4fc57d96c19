"""Forgetting rows beside scikit-learn's retraining and the removal step of certified-removal, re-derived.

``python benchmarks/unlearning.py --peers`` prints ratios; ``pytest benchmarks/unlearning.py`` times ours
alone.

certified-removal (facebookresearch, research code for CUDA) cannot be imported; its method is written out
here: one row at a time, the Hessian of all retained rows anew for every removal, float32, and a spectral norm
by 20 power iterations, which under-estimates it and therefore gives no bound. erasus is compared by where it
ends, where it is installed (``make peers``).
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from mlpapers.unlearning import DeletionLog, DVWUClassifier

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, compared, main, one_thread, timed
from _rows import Row, without_paths

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
        {"scikit-learn newton-cholesky": newton_retraining},
        {"scikit-learn newton-cholesky": 1 / 1.5},
        repeats=5,
    )


def prediction_case() -> Case:
    """Both are one product with the coefficients."""
    X, y = problem()
    ours, theirs = trained(), LogisticRegression(fit_intercept=False, max_iter=20)
    return Case(
        "predict 1e5 rows, d=100",
        lambda: ours.predict(X),
        {"scikit-learn": lambda: partial(theirs.fit(X, y).predict, X)},
        {"scikit-learn": 1 / 1.05},
        repeats=25,
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


def memory_of_a_request(_: bool) -> Iterator[Row]:
    """Peak of what requests of one row and of 100 allocate; the rows themselves are 80 MB."""
    for k in (1, 100):
        request = Requests(k)
        request()
        tracemalloc.start()
        request()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        what = f"request of {k} of 1e5 rows, memory"
        yield Row(what=what, unit="MB", ours=peak, target=1.0, relation="<=")


def width_exponents(_: bool) -> Iterator[Row]:
    """How the time of one request grows with d.

    Up to d = 512 the Hessian is factorised anew, O(d^3); from there on its factor is downdated, O(k d^2).
    """
    widths = (256, 512, 1024, 2048)
    with one_thread():
        requests = {d: Requests(1, 3 * d, d) for d in widths}
        durations: dict[int, list[float]] = {d: [] for d in widths}
        for _ in range(15):
            for d, request in requests.items():
                durations[d].append(timed(request)[0])
    seconds = {d: float(np.median(times[1:])) for d, times in durations.items()}
    for chosen, target in ((widths[:2], 3.0), (widths[1:], 2.2)):
        exponent = float(np.polyfit(np.log(chosen), np.log([seconds[d] for d in chosen]), 1)[0])
        yield Row(
            what=f"one request, exponent of time in d from {chosen[0]} to {chosen[-1]}",
            unit="",
            ours=exponent,
            target=target,
            relation="<=",
            note=", ".join(f"d={d} {1e3 * seconds[d]:.2f} ms" for d in chosen),
        )


def log_figures(_: bool) -> Iterator[Row]:
    """The time of an append without waiting for the disk, and of reading 1e4 records back, checked."""
    fsync, os.fsync = os.fsync, lambda _: None
    try:
        with tempfile.TemporaryDirectory() as folder:
            log = DeletionLog(Path(folder) / "log")
            log.append("fit", indices=[])
            started = time.perf_counter()
            for person in range(5000):
                log.append("request", request_id=f"r{person}", indices=[person])
                log.append("commit", request_id=f"r{person}", indices=[person], params_digest="0" * 64)
            append = (time.perf_counter() - started) / 10_000
            reading, report = timed(DeletionLog(log.path).verify)
    finally:
        os.fsync = fsync
    if not report.ok:
        raise RuntimeError("the log that was just written does not verify")
    yield Row(what="deletion log, one append without fsync", ours=append, target=1e-3, relation="<=")
    yield Row(what="deletion log, 1e4 records read and verified", ours=reading, target=1.0, relation="<=")


def beside_erasus(with_peers: bool) -> list[Row]:
    """How near retraining erasus' strategies end, and ours, on a linear model and on networks.

    Speed says nothing here: the two do not compute the same. Strategies have their default options, but for
    the learning rate of gradient ascent, which is ours.
    """
    if not with_peers:
        return []
    try:
        from erasus.strategies.data_methods.certified_removal import CertifiedRemovalStrategy
        from erasus.strategies.gradient_methods.gradient_ascent import GradientAscentStrategy
        from erasus.strategies.gradient_methods.weighted_gradient_ascent import WGAStrategy
    except ImportError as reason:
        return [Row(what="distance to retraining", peer="erasus", skipped=without_paths(str(reason)))]
    wga, ascent = WGAStrategy(), GradientAscentStrategy(lr=0.05)
    return [
        linear_beside(CertifiedRemovalStrategy()),
        *networks_beside({"erasus WGA": wga, "erasus gradient ascent": ascent}),
    ]


def loader(rows: Any, batch_size: int) -> Any:
    import torch

    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*rows),
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
    )


def linear_beside(strategy: Any) -> Row:
    """Distances to the retrained parameters: 2000 rows of 20 columns, 100 forgotten."""
    import torch

    X, y = problem(2000, 20)
    model = DVWUClassifier(fit_intercept=False, perturbation="none", alpha=2.0).fit(X, y)
    theta = model.coef_[0].copy()
    network = torch.nn.Linear(20, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(torch.as_tensor(np.stack([-theta / 2, theta / 2])))
    rows = torch.as_tensor(X), torch.as_tensor(y)
    forget, retain = (
        loader([part[chosen] for part in rows], 64) for chosen in (slice(100), slice(100, None))
    )
    torch.manual_seed(0)
    moved = strategy.unlearn(network, forget, retain)[0].weight.detach().numpy()
    model.unlearn(np.arange(100))
    retrained = model.retrain().coef_[0]
    before, theirs, ours = (
        float(np.linalg.norm(found - retrained)) for found in (theta, moved[1] - moved[0], model.coef_[0])
    )
    return compared(
        "parameters after one step on a linear model, distance to retraining",
        "erasus certified removal",
        [ours],
        [theirs],
        unit="",
        note=f"before the step {before:.2g}",
    )


def networks_beside(strategies: dict[str, Any]) -> Iterator[Row]:
    """Test errors at the retrained networks' forget loss, or after 60 epochs: noisy digits."""
    import torch
    from torch.nn.functional import cross_entropy

    from mlpapers.unlearning.claims.ascent import settings

    found: dict[str, list[tuple[float, float, float]]] = {}
    for setting in settings("quick", 0.3, 0)[:4]:
        forget, retain = loader(setting.forget, 64), loader(setting.retain, 64)
        for name, strategy in strategies.items():
            for epochs in (1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 60):
                torch.manual_seed(0)
                network = strategy.unlearn(copy.deepcopy(setting.trained), forget, retain, epochs=epochs)[
                    0
                ].eval()
                with torch.no_grad():
                    X, labels = setting.forget
                    loss = float(cross_entropy(network(X), labels))
                if loss >= setting.target:
                    break
            found.setdefault(name, []).append((setting.accuracy(network), loss, setting.target))
        for name, variant, options in (
            ("joint ascent, uniform", "uniform", {"retain_mode": "joint", "n_steps": 400}),
            ("joint ascent, forget weights", "forget", {"retain_mode": "joint", "n_steps": 400}),
            ("alternating, forget and retain weights", "forget+retain", {"n_steps": 300}),
        ):
            run = setting.unlearn(variant, lr=0.05, **options)
            scores = run["accuracy"], setting.target + run["gap"], setting.target
            found.setdefault(name, []).append(scores)
    means = {name: np.mean(runs, axis=0) for name, runs in found.items()}
    for ours, theirs in itertools.product([name for name in means if name not in strategies], strategies):
        accuracy, loss, target = means[ours]
        their_accuracy, their_loss, _ = means[theirs]
        yield compared(
            f"networks on noisy digits, test error: {ours}",
            theirs,
            [100.0 - accuracy],
            [100.0 - their_accuracy],
            unit="%",
            note=f"forget loss ours {loss:.2f}, theirs {their_loss:.2f}, retrained {target:.2f}",
        )


CASES = [
    *(partial(request_case, k) for k in (1, 10, 100, 1000)),
    sequence_case,
    fit_case,
    prediction_case,
    size_case,
]


@pytest.mark.parametrize("k", [1, 100])
def test_request(benchmark, k):
    with one_thread():
        benchmark.pedantic(Requests(k), rounds=20, warmup_rounds=1)


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[width_exponents, memory_of_a_request, log_figures, beside_erasus]))
