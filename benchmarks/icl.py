"""Semi-supervised estimators beside scikit-learn's, attention in linear time, polynomials by factors.

``python benchmarks/icl.py --peers`` prints ratios; ``pytest benchmarks/icl.py`` times ours alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from mlpapers.icl import (
    GMMEMClassifier,
    LinearAttention,
    LoopedClassifier,
    MiniPFNClassifier,
    SemiSupervisedPlugIn,
    TaskMixture,
    evaluate_attention_polynomial,
    make_semisupervised_gmm,
    optimal_loss,
    plugin_error,
    spi_error,
)

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, compared, main, one_thread, timed
from _rows import Row

N_TASKS, N_LOOPS = 30, 5
STRATEGIES = ("plain", "finetune_prompt", "prompt", "prompt+head")


@functools.cache
def tasks() -> list[tuple[Any, Any, Any, Any]]:
    """Thirty mixtures: 400 rows, 20 of them labelled, d=10, sigma=1; and 1000 test rows."""
    drawn = []
    for seed in range(N_TASKS):
        X, y, _, mu = make_semisupervised_gmm(400, 10, n_labeled=20, random_state=seed)
        rng = np.random.default_rng(1000 + seed)
        y_test = rng.integers(0, 2, 1000)
        X_test = (2.0 * y_test[:, None] - 1.0) * mu + rng.standard_normal((1000, 10))
        drawn.append((X, y, X_test, y_test))
    return drawn


def error(model: Any) -> float:
    """Mean test error over the tasks."""
    wrong = [(model.fit(X, y).predict(X_test) != y_test).mean() for X, y, X_test, y_test in tasks()]
    return float(np.mean(wrong))


def fit(model: Any) -> Callable[[], None]:
    """Fit to every task."""

    def run() -> None:
        for X, y, _, _ in tasks():
            model.fit(X, y)

    return run


def self_training(base: Any) -> Any:
    return SelfTrainingClassifier(base)


def looped_by_hand() -> Callable[[], None]:
    """The fits and predictions of the loops, without the class around them."""

    def run() -> None:
        for X, y, _, _ in tasks()[:3]:
            known = y >= 0
            given, unknown = np.eye(2)[y[known]], X[~known]
            model = MiniPFNClassifier(random_state=0).fit(X[known], y[known])
            rows = np.concatenate([X[known], unknown])
            for _ in range(N_LOOPS):
                P = np.concatenate([given, model.predict_proba(unknown)])
                model = MiniPFNClassifier(random_state=0).fit_soft(rows, P, [0, 1])
            model.predict_proba(unknown)

    return run


def naive_bayes_by_hand() -> Callable[[], None]:
    """The same with naive Bayes: each row once per class, weighted."""

    def run() -> None:
        for X, y, _, _ in tasks():
            known = y >= 0
            given, unknown = np.eye(2)[y[known]], X[~known]
            model = GaussianNB().fit(X[known], y[known])
            rows = np.concatenate([X[known], unknown])
            for _ in range(N_LOOPS):
                P = np.concatenate([given, model.predict_proba(unknown)])
                row, code = np.nonzero(P > 1e-12)
                model = GaussianNB().fit(rows[row], code, sample_weight=P[row, code])
            model.predict_proba(unknown)

    return run


def looped() -> None:
    model = LoopedClassifier(MiniPFNClassifier(random_state=0), n_loops=N_LOOPS, tol=0.0)
    for X, y, _, _ in tasks()[:3]:
        model.fit(X, y)


@functools.cache
def layer_and_rows(T: int, batch: int = 8) -> tuple[LinearAttention, torch.Tensor]:
    torch.manual_seed(0)
    return LinearAttention(11), torch.randn(batch, T, 11)


def attend(T: int, batch: int = 8) -> Any:
    layer, Z = layer_and_rows(T, batch)
    with torch.inference_mode():
        return layer(Z, T - 1)[:, -1].numpy()


def attend_with_matrix(T: int) -> Callable[[], Any]:
    """(Q K') V in the order of the published code."""
    layer, Z = layer_and_rows(T)

    def run() -> Any:
        with torch.inference_mode():
            context = Z[:, : T - 1]
            scores = (Z @ layer.Wq) @ (context @ layer.Wk).transpose(1, 2)
            return (scores @ (context @ layer.Wv) / (T - 1))[:, -1].numpy()

    return run


@functools.cache
def gram(n: int = 200, d: int = 10) -> Any:
    return np.random.default_rng(0).standard_normal((n, d)) / np.sqrt(n)


def polynomial_direction(L: int) -> Any:
    """A(X'X) X'y of L layers, through the eigenvalues."""
    X = gram()
    values, vectors = np.linalg.eigh(X.T @ X)
    A = evaluate_attention_polynomial(values, [0.1] * (L - 1), [-0.3] * (L - 1))
    return vectors @ (A * (vectors.T @ X.sum(axis=0)))


@functools.cache
def fitted_pfn() -> tuple[MiniPFNClassifier, Any]:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((110, 10)), np.arange(110) % 2
    return MiniPFNClassifier(random_state=0).fit(X, y), rng.standard_normal((400, 10))


def predict_pfn() -> Any:
    model, X_new = fitted_pfn()
    return model.predict_proba(X_new)


def bare_forward() -> Callable[[], Any]:
    """The same network on tensors of the same size."""
    from mlpapers.icl.minipfn import _network

    network = _network(None, "cpu")
    x, s, query = torch.randn(4, 110, 16), torch.rand(4, 110), torch.randn(4, 400, 16)

    def run() -> Any:
        with torch.inference_mode():
            return network(x, s, query)

    return run


@functools.cache
def mixtures() -> list[TaskMixture]:
    """300 random mixtures of two to five tasks in eight dimensions."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        n_tasks = int(rng.integers(2, 6))
        roots = rng.standard_normal((n_tasks, 8, 8))
        covariances = roots @ roots.transpose(0, 2, 1) / 8
        drawn.append(TaskMixture(rng.standard_normal((n_tasks, 8)), covariances))
    return drawn


def prompt_losses() -> list[float]:
    return [optimal_loss(mixture, 20, strategy) for mixture in mixtures() for strategy in STRATEGIES]


def fresh_error() -> float:
    plugin_error._exact.cache_clear()
    return spi_error(1000, 1.0, 10)


def times_of_ours(_: bool) -> Iterator[Row]:
    """Seconds that no other library has a counterpart for."""
    for what, function, most in (
        ("300 mixtures, 4 strategies: optimal prompt losses", prompt_losses, 1.0),
        ("SPI error, m=1000", fresh_error, 5e-3),
    ):
        with one_thread():
            function()
            seconds = min(timed(function)[0] for _ in range(5))
        yield Row(what=what, ours=seconds, target=most, relation="<=", note="least of 5")


def em_case() -> Case:
    return Case(
        "EM, 30 fits n=400",
        fit(GMMEMClassifier()),
        {
            "scikit-learn SelfTraining(LogReg)": lambda: fit(self_training(LogisticRegression())),
            "scikit-learn SelfTraining(NB)": lambda: fit(self_training(GaussianNB())),
            "scikit-learn LabelSpreading(knn)": lambda: fit(LabelSpreading(kernel="knn", n_neighbors=7)),
        },
        {"scikit-learn SelfTraining(LogReg)": 50.0},
        repeats=15,
    )


def plugin_case() -> Case:
    return Case(
        "SSPI-inf, 30 fits n=400",
        fit(SemiSupervisedPlugIn(sigma=1.0)),
        {"scikit-learn SelfTraining(LogReg)": lambda: fit(self_training(LogisticRegression()))},
        {"scikit-learn SelfTraining(LogReg)": 50.0},
    )


def loop_case() -> Case:
    return Case("5 loops of MiniPFN", looped, {"by hand": looped_by_hand}, {"by hand": 0.95})


def naive_bayes_case() -> Case:
    return Case(
        "5 loops of naive Bayes",
        fit(LoopedClassifier(GaussianNB(), n_loops=N_LOOPS, tol=0.0)),
        {"by hand": naive_bayes_by_hand},
        {"by hand": 0.95},
        repeats=25,
    )


def attention_case(T: int) -> Case:
    targets = {256: 1.0, 1024: 4.0, 4096: 16.0}
    return Case(
        f"linear attention T={T}",
        partial(attend, T),
        {"(QK')V": lambda: attend_with_matrix(T)},
        {"(QK')V": targets[T]},
        {"(QK')V": 1e-3},
    )


def polynomial_case() -> Case:
    return Case(
        "degree 3279, L=8",
        partial(polynomial_direction, 8),
        {"L=2": lambda: partial(polynomial_direction, 2)},
        {"L=2": 0.5},
    )


def pfn_case() -> Case:
    return Case(
        "MiniPFN 110 + 400 rows", predict_pfn, {"bare network": bare_forward}, {"bare network": 1 / 3}
    )


CASES = [
    em_case,
    plugin_case,
    loop_case,
    naive_bayes_case,
    partial(attention_case, 256),
    partial(attention_case, 1024),
    partial(attention_case, 4096),
    polynomial_case,
    pfn_case,
]


@pytest.mark.parametrize("make", CASES)
def test_speed(benchmark, make):
    case = make()
    with one_thread():
        benchmark(case.ours)


def attention_exponent(_: bool) -> Iterator[Row]:
    """Exponent of the time of attention in the number of rows, 512 to 8192."""
    lengths = 512 * 2 ** np.arange(5)
    with one_thread():
        seconds = [min(timed(partial(attend, int(T), 64))[0] for _ in range(20)) for T in lengths]
    exponent = float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])
    what = "linear attention, exponent of time in T"
    yield Row(what=what, unit="", ours=exponent, target=1.15, relation="<=", note="least of 20")


def errors(with_peers: bool) -> Iterator[Row]:
    """Test errors on the thirty mixtures."""
    ours = {
        "EM": GMMEMClassifier(),
        "SSPI-inf": SemiSupervisedPlugIn(sigma=1.0),
        "looped NB": LoopedClassifier(GaussianNB(), selection="last"),
    }
    peers = {
        "scikit-learn SelfTraining(LogReg)": self_training(LogisticRegression()),
        "scikit-learn SelfTraining(NB)": self_training(GaussianNB()),
        "scikit-learn LabelSpreading(knn)": LabelSpreading(kernel="knn", n_neighbors=7),
    }
    theirs = {name: error(model) for name, model in peers.items()} if with_peers else {}
    for name, model in ours.items():
        found = error(model)
        for peer, value in theirs.items():
            yield compared(f"test error of {name}", peer, [found], [value], unit="")
        if not theirs:
            yield Row(what=f"test error of {name}", unit="", ours=found)


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[attention_exponent, times_of_ours, errors]))
