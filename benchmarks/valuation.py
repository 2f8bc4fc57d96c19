"""Exact values of nearest-neighbour games against pyDVL, OpenDataVal, and a plain sort.

``python benchmarks/valuation.py --peers`` prints ratios; ``pytest benchmarks/valuation.py`` times ours alone.
Peers: ``pip install --no-deps -r requirements-peers.txt``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mlpapers.datasets import load_diabetes
from mlpapers.valuation import AsymmetricShapley, KNNShapley

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, main, one_thread

N_NEIGHBORS = 5


def problem(n: int, m: int, d: int = 32, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Gaussian classes, overlapping, so that values are neither all positive nor all noise."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(10, d)) * 0.5
    y, y_val = rng.integers(0, 10, size=n), rng.integers(0, 10, size=m)
    return centres[y] + rng.normal(size=(n, d)), y, centres[y_val] + rng.normal(size=(m, d)), y_val


def ours(data: tuple[np.ndarray, ...], groups: np.ndarray | None = None) -> np.ndarray:
    return KNNShapley(N_NEIGHBORS).fit(*data, groups=groups).values_


def pydvl(data: tuple[np.ndarray, ...]) -> Callable[[], np.ndarray]:
    """KNNShapleyValuation; the data set objects are made beforehand."""
    from sklearn.neighbors import KNeighborsClassifier

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pydvl.valuation import Dataset, KNNShapleyValuation
    except Exception as error:
        raise PeerMissing(f"pydvl does not import: {error!r}") from error
    X, y, X_val, y_val = data
    train, test = Dataset(X, y), Dataset(X_val, y_val)

    def run() -> np.ndarray:
        valuation = KNNShapleyValuation(KNeighborsClassifier(n_neighbors=N_NEIGHBORS), test, progress=False)
        result = valuation.fit(train).result
        return np.asarray(result.values)[np.argsort(np.asarray(result.indices), kind="stable")]

    return run


def opendataval(data: tuple[np.ndarray, ...]) -> Callable[[], np.ndarray]:
    """OpenDataVal's KNNShapley, loaded from its file: the package itself imports all its models and more."""
    try:
        module = load_opendataval()
    except Exception as error:
        raise PeerMissing(f"opendataval does not import: {error!r}") from error
    torch = importlib.import_module("torch")
    X, y, X_val, y_val = data
    classes = np.unique(np.concatenate([y, y_val]))
    tensors = [
        torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)
        for array in (X, y[:, None] == classes, X_val, y_val[:, None] == classes)
    ]

    def run() -> np.ndarray:
        module.tqdm.tqdm = lambda items: items
        valuer = module.KNNShapley(k_neighbors=N_NEIGHBORS, batch_size=4096)
        return valuer.input_data(*tensors).train_data_values().evaluate_data_values()

    return run


@cache
def load_opendataval() -> types.ModuleType:
    """Return the module of KNNShapley, with bare packages around it and no data loaders or models."""
    spec = importlib.util.find_spec("opendataval")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("opendataval is not installed")
    root = Path(spec.submodule_search_locations[0])
    for name, attributes in {
        "opendataval": {},
        "opendataval.dataval": {},
        "opendataval.dataval.knnshap": {},
        "opendataval.dataloader": {"DataFetcher": object},
        "opendataval.model": {"Model": object},
        "opendataval.model.api": {"Model": object},
    }.items():
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        vars(package).update(attributes)
        sys.modules[name] = package
    return importlib.import_module("opendataval.dataval.knnshap.knnshap")


def stable_argsort(data: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """Sort random distances of as many validation points: the part of the work that others cannot avoid."""
    block = np.random.default_rng(1).random((len(data[2]), len(data[0])))

    def run() -> None:
        for row in block:
            np.argsort(row, kind="stable")

    return run


def against_peers(n: int, m: int, repeats: int) -> Case:
    data = problem(n, m)
    return Case(
        f"KNN-Shapley n={n} m={m}",
        partial(ours, data),
        {"pyDVL": partial(pydvl, data), "opendataval": partial(opendataval, data)},
        {"pyDVL": 50.0, "opendataval": 20.0},
        {"pyDVL": 1e-10, "opendataval": 1e-5},  # opendataval: single precision swaps near-ties
        repeats,
    )


def against_symmetric(n: int, m: int, least: float, repeats: int) -> Case:
    """Four groups in time order ("ours") against one group."""
    data = problem(n, m)
    groups = np.arange(n) * 4 // n
    name = "one group"
    return Case(
        f"asymmetric T=4 n={n} m={m}",
        partial(ours, data, groups),
        {name: lambda: partial(ours, data)},
        {name: least},
        repeats=repeats,
    )


def ridge_scans(data: tuple[np.ndarray, ...], *, incremental: bool, n_scans: int = 4) -> np.ndarray:
    """Values from a few permutation scans of ridge regression."""
    valuer = AsymmetricShapley(
        Ridge(), method="mc", max_permutations=n_scans, rtol=0, incremental=incremental, random_state=0
    )
    return valuer.fit(*data).values_


def against_refit(n: int, repeats: int) -> Case:
    """Ridge regression on diabetes, updated ("ours") against refitted for each coalition."""
    X, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    data = X[rows[:n]], y[rows[:n]], X[rows[n:]], y[rows[n:]]
    name = "refit"
    return Case(
        f"Monte Carlo ridge n={n} m={len(X) - n}",
        partial(ridge_scans, data, incremental=True),
        {name: lambda: partial(ridge_scans, data, incremental=False)},
        {name: 20.0},
        {name: 1e-12},
        repeats,
    )


def against_sort(n: int, m: int, repeats: int) -> Case:
    data = problem(n, m)
    name = "argsort"
    return Case(
        f"KNN-Shapley n={n} m={m}",
        partial(ours, data),
        {name: partial(stable_argsort, data)},
        {name: 2.0},
        repeats=repeats,
    )


CASES: tuple[Callable[[], Case], ...] = (
    partial(against_peers, 2_000, 500, 5),
    partial(against_peers, 5_000, 500, 5),
    partial(against_peers, 20_000, 100, 3),
    partial(against_peers, 100_000, 50, 3),
    partial(against_symmetric, 2_000, 500, 1 / 1.5, 9),
    partial(against_symmetric, 1_000_000, 64, 2.0, 3),
    partial(against_sort, 1_000_000, 16, 3),
    partial(against_refit, 200, 5),
)


@pytest.mark.parametrize(("n", "m"), [(2_000, 500), (5_000, 500), (100_000, 50)])
def test_symmetric(benchmark: Any, n: int, m: int) -> None:
    data = problem(n, m)
    with one_thread():
        values = benchmark(ours, data)
    assert np.isfinite(values).all()


@pytest.mark.parametrize(("n", "m"), [(2_000, 500), (100_000, 50)])
def test_asymmetric(benchmark: Any, n: int, m: int) -> None:
    data = problem(n, m)
    with one_thread():
        values = benchmark(ours, data, np.arange(n) * 4 // n)
    assert np.isfinite(values).all()


if __name__ == "__main__":
    sys.exit(main(CASES))
