"""Monte Carlo values of models against refits, pyDVL's permutation sampler, and one process.

``python benchmarks/valuation_models.py --peers`` prints ratios; ``pytest benchmarks/valuation_models.py``
times ours alone. Peers: ``make peers``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_breast_cancer, load_diabetes
from mlpapers.valuation import AsymmetricShapley

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, main, one_thread

N_SCANS = 4


def shuffled(X: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Return n training points and the rest."""
    rows = np.random.default_rng(0).permutation(len(X))
    return X[rows[:n]], y[rows[:n]], X[rows[n:]], y[rows[n:]]


def ridge_scans(data: tuple[np.ndarray, ...], *, incremental: bool) -> np.ndarray:
    """Values from a few permutation scans of ridge regression."""
    valuer = AsymmetricShapley(
        Ridge(), method="mc", max_permutations=N_SCANS, rtol=0, incremental=incremental, random_state=0
    )
    return valuer.fit(*data).values_


def pydvl_scans(data: tuple[np.ndarray, ...]) -> Callable[[], np.ndarray]:
    """As many permutations of the same utility in pyDVL; other permutations, so other values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pydvl.valuation import (
                Dataset,
                MinUpdates,
                ModelUtility,
                PermutationSampler,
                ShapleyValuation,
                SupervisedScorer,
            )
    except Exception as error:
        raise PeerMissing(f"pydvl does not import: {error!r}") from error
    X, y, X_val, y_val = data
    train, test = Dataset(X, y), Dataset(X_val, y_val)

    def run() -> np.ndarray:
        scorer = SupervisedScorer("r2", test, default=0.0)
        utility = ModelUtility(Ridge(), scorer, show_warnings=False)
        sampler = PermutationSampler(seed=0)
        valuation = ShapleyValuation(utility, sampler, is_done=MinUpdates(N_SCANS), progress=False)
        result = valuation.fit(train).result
        if not np.all(np.asarray(result.counts) == N_SCANS):
            raise RuntimeError(f"pyDVL ran {result.counts.max()} permutations and not {N_SCANS}")
        return np.asarray(result.values)

    return run


def against_refits(n: int, repeats: int) -> Case:
    """Ridge regression on diabetes, updated ("ours") against refitted for each coalition."""
    X, y = load_diabetes(return_X_y=True)
    data = shuffled(X, y, n)
    name = "refit"
    return Case(
        f"Monte Carlo ridge n={n} m={len(X) - n}",
        partial(ridge_scans, data, incremental=True),
        {name: lambda: partial(ridge_scans, data, incremental=False), "pyDVL": partial(pydvl_scans, data)},
        {name: 20.0, "pyDVL": 20.0},
        {name: 1e-12},
        repeats,
    )


def logistic_scans(data: tuple[np.ndarray, ...], n_jobs: int, n_scans: int = 32) -> np.ndarray:
    """Values from permutation scans of logistic regression, which is refitted for each coalition."""
    valuer = AsymmetricShapley(
        LogisticRegression(), method="mc", max_permutations=n_scans, rtol=0, random_state=0, n_jobs=n_jobs
    )
    return valuer.fit(*data).values_


def against_one_process(n: int, repeats: int) -> Case:
    """Logistic regression on breast_cancer, in two processes ("ours") and in one: needs two idle cores."""
    X, y = load_breast_cancer(return_X_y=True)
    data = shuffled(StandardScaler().fit_transform(X), y, n)
    name = "one process"
    return Case(
        f"Monte Carlo logistic n={n}, 2 jobs",
        partial(logistic_scans, data, 2),
        {name: lambda: partial(logistic_scans, data, 1)},
        {name: 1.6},
        {name: 0.0},
        repeats,
    )


CASES: tuple[Callable[[], Case], ...] = (
    partial(against_refits, 200, 5),
    partial(against_one_process, 60, 3),
)


@pytest.mark.parametrize("incremental", [True, False], ids=["updated", "refitted"])
def test_ridge_scans(benchmark: Any, incremental: bool) -> None:
    X, y = load_diabetes(return_X_y=True)
    with one_thread():
        values = benchmark(ridge_scans, shuffled(X, y, 200), incremental=incremental)
    assert np.isfinite(values).all()


if __name__ == "__main__":
    sys.exit(main(CASES))
