"""Exact values of nearest-neighbour games against pyDVL, OpenDataVal, cleanlab, and slower ways of our own.

``python benchmarks/valuation.py --peers`` prints ratios, then how time grows with both sets of points;
``pytest benchmarks/valuation.py`` times ours alone.
Peers: ``make peers``.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import statistics
import sys
import tracemalloc
import types
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpapers.valuation import KNNShapley

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, main, one_thread, peak_memory, timed
from _rows import Row

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


def cleanlab(data: tuple[np.ndarray, ...]) -> Callable[[], np.ndarray]:
    """data_shapley_knn: a set that values itself, ranking only the K nearest of each point."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from cleanlab.data_valuation import data_shapley_knn
    except Exception as error:
        raise PeerMissing(f"cleanlab does not import: {error!r}") from error
    X, y = data
    n = len(y)

    def run() -> np.ndarray:
        scores = data_shapley_knn(y, features=X, metric="euclidean", k=N_NEIGHBORS)
        # Moved to [0, 1], and averaged over n points where each is out of its own game.
        return (2 * scores - 1) * n / (n - 1)

    return run


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


def against_cleanlab(n: int, repeats: int, *, truncated: bool) -> Case:
    """A set that values itself: ranking as few neighbours as cleanlab, or all, which is exact."""
    data = problem(n, 0)[:2]
    name = "cleanlab"
    return Case(
        f"self-valuation n={n}" + (" truncated" if truncated else ""),
        lambda: KNNShapley(N_NEIGHBORS, max_error=1 / N_NEIGHBORS if truncated else 0.0).fit(*data).values_,
        {name: partial(cleanlab, data)},
        tolerances={name: 1e-12} if truncated else {},
        repeats=repeats,
    )


def against_theorem(n: int, m: int, repeats: int) -> Case:
    """The scan ("ours") against the double sums of binomials of the printed theorem, for three groups."""
    data = problem(n, m)
    groups = np.arange(n) * 3 // n

    def printed() -> np.ndarray:
        return KNNShapley(N_NEIGHBORS, algorithm="theorem").fit(*data, groups=groups).values_

    name = "theorem"
    return Case(
        f"asymmetric T=3 n={n} m={m}",
        partial(ours, data, groups),
        {name: lambda: printed},
        tolerances={name: 1e-12},
        repeats=repeats,
    )


def against_loops(n: int, m: int, repeats: int) -> Case:
    """The scan ("ours") against the theorem as a page of Python, with the cases and sums of the print."""
    data = problem(n, m)
    groups = np.arange(n) * 2 // n
    name = "Python's loops"
    return Case(
        f"asymmetric T=2 n={n} m={m}",
        partial(ours, data, groups),
        {name: lambda: partial(term_by_term, data, groups.tolist())},
        tolerances={name: 1e-12},
        repeats=repeats,
    )


def term_by_term(data: tuple[np.ndarray, ...], groups: list[int], k: int = N_NEIGHBORS) -> np.ndarray:
    """Theorem 5.1 from the farthest member of each group inwards."""
    X, y, X_val, y_val = data
    values = np.zeros(len(X))
    for x, label in zip(X_val, y_val):
        order = np.argsort(((X - x) ** 2).sum(axis=1), kind="stable").tolist()
        for group in sorted(set(groups)):
            members: list[int] = []
            earlier: list[int] = []
            nearer: list[int] = []
            for j in order:
                if groups[j] == group:
                    members.append(j)
                    nearer.append(len(earlier))
                elif groups[j] < group:
                    earlier.append(j)
            h = [float(y[j] == label) for j in members]
            g = [float(y[j] == label) for j in earlier[:k]]
            g += [0.0] * (k - len(g))
            size = len(members)
            terms = min(k - nearer[-1], size)
            value = (terms * h[-1] - sum(g[k - terms : k])) / (k * size) if terms > 0 else 0.0
            values[members[-1]] += value
            for i in range(size - 1, 0, -1):
                near, far = nearer[i - 1], nearer[i]
                if far < k:
                    value += (h[i - 1] - h[i]) * min(k - far, i) / (k * i)
                if near < k and near != far:
                    first, total = max(k - far, 0), 0.0
                    for s in range(first, size - 1):
                        for r in range(first, min(k - near - 1, s) + 1):
                            if r < i:
                                ways = math.comb(s, r) * math.comb(size - 2 - s, i - 1 - r)
                                total += ways / math.comb(size - 2, i - 1) * (h[i - 1] - g[k - r - 1]) / k
                    value += total / (size - 1)
                values[members[i - 1]] += value
    return values / len(X_val)


def against_refit(n: int, n_new: int, m: int, repeats: int) -> Case:
    """New points as the next group of a fitted valuer ("ours") against one fit on everything."""
    X, y, *validation = problem(n + n_new, m)
    fitted = KNNShapley(N_NEIGHBORS).fit(X[:n], y[:n], *validation)
    groups = np.repeat([0, 1], [n, n_new])

    def stream() -> np.ndarray:
        # partial_fit replaces attributes and changes none in place: a shallow copy leaves `fitted` as it was.
        return copy.copy(fitted).partial_fit(X[n:], y[n:]).values_

    name = "refit"
    return Case(
        f"partial_fit n={n}+{n_new} m={m}",
        stream,
        {name: lambda: partial(ours, (X, y, *validation), groups)},
        {name: 1 / 0.03},
        {name: 1e-12},
        repeats,
    )


def growth(sizes: tuple[tuple[int, int], ...], repeats: int = 3) -> tuple[float, list[float]]:
    """Return the exponent of time between problems (n, m) of rising size: over all, and step by step.

    One of n and m grows. The sizes take turns, and each exponent is the median over the turns.
    """
    calls = [partial(ours, problem(n, m)) for n, m in sizes]
    scale = np.log([n * m for n, m in sizes])
    with one_thread():
        calls[0]()
        turns = [np.log([timed(call)[0] for call in calls]) for _ in range(repeats)]
    whole = statistics.median((turn[-1] - turn[0]) / (scale[-1] - scale[0]) for turn in turns)
    return whole, np.median([np.diff(turn) / np.diff(scale) for turn in turns], axis=0).tolist()


def growth_exponents(_: bool) -> Iterator[Row]:
    """How the time grows with the numbers of training and of validation points."""
    for name, sizes, most in (
        ("n, m=64", tuple((n, 64) for n in (10_000, 100_000, 1_000_000)), 1.15),
        ("m, n=100000", tuple((100_000, m) for m in (50, 200, 800)), 1.05),
    ):
        exponent, steps = growth(sizes)
        by_step = ", ".join(f"{step:.2f}" for step in steps)
        yield Row(
            what=f"KNN-Shapley, exponent of time in {name}",
            unit="",
            ours=exponent,
            target=most,
            relation="<=",
            note=f"by step {by_step}",
        )


def a_million_by_a_thousand(_: bool) -> Iterator[Row]:
    """Time and memory of a large valuation; it must run first, for the peak is that of the process."""
    n, m = 1_000_000, 1_000
    data = problem(n, m)
    inputs = sum(array.nbytes for array in data) / 2**20
    with one_thread():
        seconds, _ = timed(partial(ours, data))
    what = f"KNN-Shapley n={n} m={m}"
    yield Row(what=what, ours=seconds, turns=1, note="first call of the process")
    yield Row(
        what=what,
        unit="MiB",
        ours=peak_memory() - inputs,
        target=2048.0,
        relation="<=",
        note=f"peak of the process less {inputs:.0f} MiB of data",
    )


def memory_of_many_points(_: bool) -> Iterator[Row]:
    """Peak of what a valuation allocates: no more than `max_memory`, however many validation points."""
    for m in (50, 800):
        data = problem(100_000, m)
        ours(data)
        tracemalloc.start()
        ours(data)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        yield Row(
            what=f"KNN-Shapley n=100000 m={m}, memory",
            unit="MiB",
            ours=peak,
            target=KNNShapley().max_memory,
            relation="<=",
            note=f"the map of distances alone: {8 * 100_000 * m / 2**20:.0f} MiB",
        )


CASES: tuple[Callable[[], Case], ...] = (
    partial(against_peers, 2_000, 500, 5),
    partial(against_peers, 5_000, 500, 5),
    partial(against_peers, 20_000, 100, 3),
    partial(against_peers, 100_000, 50, 3),
    partial(against_symmetric, 2_000, 500, 1 / 1.5, 9),
    partial(against_symmetric, 1_000_000, 64, 2.0, 3),
    partial(against_sort, 1_000_000, 16, 3),
    partial(against_cleanlab, 2_000, 3, truncated=True),
    partial(against_cleanlab, 5_000, 3, truncated=True),
    partial(against_cleanlab, 5_000, 3, truncated=False),
    partial(against_theorem, 500, 50, 3),
    partial(against_loops, 1_200, 100, 3),
    partial(against_refit, 100_000, 1_000, 200, 3),
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
    sys.exit(main(CASES, figures=[a_million_by_a_thousand, growth_exponents, memory_of_many_points]))
