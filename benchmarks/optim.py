"""Queries and seconds beside copt, CMA-ES and nevergrad at equal queries, and what a query costs.

``python benchmarks/optim.py --peers`` prints f of each at the same budget, and ratios of seconds;
``pytest benchmarks/optim.py`` times ours alone. Peers: ``make peers``.
"""

from __future__ import annotations

import math
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from mlpapers.optim import (
    FiniteSum,
    L1Ball,
    LinearFiniteSum,
    NuclearNormBall,
    make_sparse_logistic,
    minimize_fw_zo,
)

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, compared, main, one_thread, timed
from _rows import Row, without_paths

BUDGET = 3060 * 2000
# Queries that bring f below what copt reaches in 200 epochs; `values_at_equal_queries` shows by how much.
TO_COPT = {"auto": 3 * 2000 * 50, "dvr": 15 * 2000 * 50}


@cache
def logistic(n: int = 2000, d: int = 50) -> tuple[LinearFiniteSum, L1Ball]:
    """Dense logistic regression, rows of norm 1, L1 ball of radius 20."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, d))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    w = np.zeros(d)
    w[:5] = rng.normal(scale=3.0, size=5)
    y = np.where(rng.random(n) < 1.0 / (1.0 + np.exp(-4.0 * (A @ w))), 1.0, -1.0)
    return LinearFiniteSum(A, y, "logistic"), L1Ball(20.0)


def solve(method: str = "dvr", budget: int = BUDGET) -> np.ndarray:
    total, ball = logistic()
    result = minimize_fw_zo(total, None, ball, method=method, max_queries=budget, random_state=0)
    return np.array([result.fun])


def copt() -> Callable[[], np.ndarray]:
    """minimize_sfw with exact gradients, batch 50, 200 epochs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from copt import constraint, loss, randomized
    except Exception as error:
        raise PeerMissing(f"copt does not import: {error!r}") from error
    total, _ = logistic()
    f = loss.LogLoss(total.A, (total.y + 1.0) / 2.0)

    def run(epochs: int = 200) -> np.ndarray:
        answer = randomized.minimize_sfw(
            f.partial_deriv,
            total.A,
            (total.y + 1.0) / 2.0,
            np.zeros(50),
            constraint.L1Ball(20.0).lmo,
            batch_size=50,
            max_iter=epochs,
            tol=0.0,
        )
        return np.array([total.mean(answer.x)])

    run(1)  # compiles
    return run


def cma() -> Callable[[], np.ndarray]:
    """CMA-ES on full values of projected points: as many values of single functions as ours."""
    try:
        import cma as library
    except Exception as error:
        raise PeerMissing(f"cma does not import: {error!r}") from error
    total, ball = logistic()

    def run() -> np.ndarray:
        strategy = library.CMAEvolutionStrategy(
            np.zeros(50), 1.0, {"seed": 1, "maxfevals": BUDGET // 2000, "verbose": -9}
        )
        strategy.optimize(lambda x: total.mean(ball.project(np.asarray(x))))
        return np.array([strategy.result.fbest])

    return run


def nevergrad() -> Callable[[], np.ndarray]:
    """NGOpt on full values of projected points."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nevergrad as library
    except Exception as error:
        raise PeerMissing(f"nevergrad does not import: {error!r}") from error
    total, ball = logistic()

    def run() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parameters = library.p.Array(shape=(50,))
            parameters.random_state.seed(0)
            optimizer = library.optimizers.NGOpt(parameters, budget=BUDGET // 2000)
            best = optimizer.minimize(lambda x: total.mean(ball.project(x)))
        return np.array([total.mean(ball.project(best.value))])

    return run


@cache
def matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1000, 500))


def lmo_nuclear() -> np.ndarray:
    return NuclearNormBall((1000, 500)).lmo(matrix().ravel())


def svds_one() -> Callable[[], np.ndarray]:
    from scipy.sparse.linalg import svds

    G = matrix()
    start = np.random.default_rng(0).normal(size=500)

    def run() -> np.ndarray:
        u, _, vt = svds(G, k=1, v0=start)
        return -np.outer(u[:, 0], vt[0]).ravel()

    return run


def bare_losses(total: LinearFiniteSum, n_queries: int, *, compiled: bool) -> Callable[[], Any]:
    """So many losses of moved margins in arrays of n, by numpy or by the compiled loops, and nothing else."""
    n, d = total.A.shape
    m, a = total.A @ np.full(d, 1.0 / d), total.A[:, 0].copy()
    loss = total.loss.value if compiled else numpy_logistic

    def run() -> None:
        for _ in range(n_queries // n):
            loss(m + 1e-8 * a, total.y)

    return run


def numpy_logistic(m: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log(1 + exp(-m y)) with as few arrays as numpy needs."""
    t = m * y
    size = np.abs(t)
    np.negative(size, out=size)
    np.exp(size, out=size)
    size += 1.0
    np.log(size, out=size)
    np.minimum(t, 0.0, out=t)
    size -= t
    return size


@cache
def large(n: int, d: int, loss: str = "logistic") -> LinearFiniteSum:
    rng = np.random.default_rng(1)
    A = rng.normal(size=(n, d)) / np.sqrt(d)
    return LinearFiniteSum(A, np.sign(A[:, 0]), loss)


def spend(total: FiniteSum, **options: Any) -> Any:
    return minimize_fw_zo(total, None, L1Ball(5.0), certificate="none", random_state=0, **options)


def overhead(what: str, n: int, d: int, target: float | None = 1.0 / 1.5, **options: Any) -> Case:
    """A run beside nothing but as many losses."""
    total = large(n, d)
    n_queries = spend(total, **options).n_queries
    return Case(
        f"{what} n={n} d={d}, {n_queries:.0e} queries",
        lambda: spend(total, **options).x,
        {
            "bare numpy losses": lambda: bare_losses(total, n_queries, compiled=False),
            "bare compiled losses": lambda: bare_losses(total, n_queries, compiled=True),
        },
        targets={} if target is None else {"bare numpy losses": target},
        repeats=3,
    )


# Rows of a black box that are asked at once: 4 MiB of points of d = 1000.
CHUNK = 512


def black_box() -> Case:
    """A run on an objective that takes points, beside the objective alone on as many."""
    linear = large(10000, 1000)
    total = FiniteSum(linear.values, 10000, 1000, dtype=np.float64)
    n_queries = spend(total, max_queries=5 * 10**5, chunk_size=CHUNK).n_queries
    X, idx = np.zeros((CHUNK, 1000)), np.random.default_rng(0).integers(0, 10000, CHUNK)

    def bare() -> None:
        for _ in range(n_queries // CHUNK):
            linear.values(X, idx)

    return Case(
        f"black box n=10000 d=1000, dvr, {n_queries:.0e} queries",
        lambda: spend(total, max_queries=5 * 10**5, chunk_size=CHUNK).x,
        {"bare objective": lambda: bare},
        targets={"bare objective": 1.0 / 1.5},
        repeats=3,
    )


@cache
def costs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=10**6)


def copt_lmo() -> Callable[[], np.ndarray]:
    """Returns the vertex less x; at x = 0 that is the vertex. It takes minus the costs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from copt import constraint
    except Exception as error:
        raise PeerMissing(f"copt does not import: {error!r}") from error
    ball, u, x = constraint.L1Ball(1.0), -costs(), np.zeros(len(costs()))
    return lambda: ball.lmo(u, x)[0]


CASES = [
    lambda: Case(
        "to copt's f, auto with values only",
        lambda: solve("auto", budget=TO_COPT["auto"]),
        {"copt": copt},
        targets={"copt": 20.0},
        repeats=3,
    ),
    lambda: Case(
        "to copt's f, dvr with values only",
        lambda: solve(budget=TO_COPT["dvr"]),
        {"copt": copt},
        targets={"copt": 20.0},
        repeats=3,
    ),
    lambda: Case(
        "logistic n=2000 d=50, dvr",
        solve,
        {"cma": cma, "nevergrad": nevergrad},
        repeats=1,
    ),
    lambda: Case(
        "logistic n=2000 d=50, auto",
        lambda: solve("auto"),
        {"cma": cma, "nevergrad": nevergrad},
        targets={"cma": 2.0, "nevergrad": 2.0},
        repeats=1,
    ),
    lambda: overhead("full differences", 2000, 500, method="fd", max_iter=4),
    lambda: overhead("full differences", 10000, 1000, method="fd", max_iter=2),
    lambda: overhead("dvr", 10000, 1000, max_queries=2 * 10**7),
    lambda: overhead("dvr", 10000, 1000, max_queries=10**8),
    black_box,
    lambda: Case(
        "LMO L1 d=1e6",
        lambda: L1Ball(1.0).lmo(costs()),
        {"copt": copt_lmo},
        targets={"copt": 1.0},
        tolerances={"copt": 0.0},
        repeats=21,
    ),
    lambda: Case(
        "LMO nuclear 1000x500",
        lmo_nuclear,
        {"scipy svds": svds_one},
        targets={"scipy svds": 1.0 / 1.2},
        tolerances={"scipy svds": 1e-8},
        repeats=3,
    ),
]


def values_at_equal_queries(with_peers: bool) -> Iterator[Row]:
    """How far each ends above the best of all: beside copt, which has gradients, after fewer queries."""
    what = "logistic n=2000 d=50, f above the best"
    ours = {"dvr": solve(), "auto": solve("auto")}
    ours |= {f"{method}, queries of copt's row": solve(method, spent) for method, spent in TO_COPT.items()}
    theirs: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, prepare in {"cma": cma, "nevergrad": nevergrad, "copt": copt}.items() if with_peers else ():
        try:
            theirs[name] = float(prepare()()[0])
        except PeerMissing as reason:
            missing[name] = without_paths(str(reason))
    values = {name: float(value[0]) for name, value in ours.items()}
    best = min([*values.values(), *theirs.values()])
    for name, value in values.items():
        beside = [peer for peer in theirs if (peer == "copt") == ("copt" in name)]
        for peer in beside:
            yield compared(f"{what}: {name}", peer, [value - best], [theirs[peer] - best], unit="")
        if not beside:
            yield Row(what=f"{what}: {name}", unit="", ours=value - best)
    for name, reason in missing.items():
        yield Row(what=what, peer=name, skipped=reason)


def rates(_: bool) -> Iterator[Row]:
    """Counted queries per second of dense linear models, and what they are made of."""
    n, d = 10000, 1000
    budget = 2 * n * d
    runs: list[tuple[str, str, float, dict[str, Any]]] = [
        ("logistic", "full differences", 1e8, {"method": "fd", "max_iter": 2}),
        ("logistic", "dvr, 2 n d queries", 2e7, {"max_queries": budget}),
        ("smooth_hinge", "full differences, numpy's loss", 2e7, {"method": "fd", "max_iter": 2}),
        ("smooth_hinge", "dvr, 2 n d queries, numpy's loss", 2e7, {"max_queries": budget}),
    ]
    for loss, what, target, options in runs:
        total = large(n, d, loss)
        with one_thread():
            spend(total, **options)
            measured = [timed(lambda: spend(total, **options)) for _ in range(3)]  # noqa: B023
        rate = float(np.median([result.n_queries / seconds for seconds, result in measured]))
        yield Row(
            what=f"dense {loss.replace('_', ' ')} n={n} d={d}, {what}",
            unit="queries/s",
            ours=rate,
            turns=3,
            target=target,
        )


def growth(_: bool) -> Iterator[Row]:
    """Seconds of growing budgets on a sparse problem, and the exponent by least squares over all of them."""
    A, y, _ = make_sparse_logistic(5000, 500, random_state=0)
    total = LinearFiniteSum(A, y, "logistic")
    budgets = np.array([1e5, 1e6, 1e7, 1e8])
    for schedule in ("adaptive", "fixed"):
        durations = []
        for budget in budgets:
            turns = 9 if budget < 1e7 else 3 if budget < 1e8 else 1
            options = {"schedule": schedule, "max_queries": int(budget)}
            with one_thread():
                seconds = [timed(lambda: spend(total, **options))[0] for _ in range(turns)]  # noqa: B023
            durations.append(float(np.median(seconds)))
            yield Row(
                what=f"sparse logistic n=5000 d=500, dvr {schedule}, {budget:.0e} queries",
                ours=durations[-1],
                turns=turns,
                note=f"{budget / durations[-1]:.2e} queries/s",
            )
        exponent = float(np.polyfit(np.log(budgets), np.log(durations), 1)[0])
        yield Row(
            what=f"sparse logistic, dvr {schedule}, exponent of time in queries: distance from 1, 1e5 to 1e8",
            unit="",
            ours=abs(exponent - 1.0),
            target=0.1,
            relation="<=",
            note=f"the exponent is {exponent:.2f}",
        )


def lean(_: bool) -> Iterator[Row]:
    """Seconds of a step with one direction and sqrt(n) pairs, for growing d at 14 entries a row."""
    n, durations = 2500, []
    rng = np.random.default_rng(0)
    values, y = rng.normal(size=14 * n), np.sign(rng.normal(size=n))
    for d in (10**3, 10**4, 10**5, 10**6):
        A = scipy.sparse.csr_array((values, rng.integers(0, d, 14 * n), np.arange(0, 14 * n + 1, 14)), (n, d))
        total = LinearFiniteSum(A, y, "logistic")
        options: dict[str, Any] = {
            "schedule": "fixed",
            "n_directions": 1,
            "batch_size": math.isqrt(n),
            "refresh_prob": 1.0 / math.sqrt(n),
            "init": "zero",
            "step_offset": d * math.sqrt(n) / 4.0,
        }
        with one_thread():
            short, long = (
                min(timed(lambda: spend(total, max_iter=steps, **options))[0] for _ in range(3))  # noqa: B023
                for steps in (200, 1200)
            )
        durations.append((long - short) / 1000.0)
        yield Row(what=f"lean step, sparse logistic n={n} d={d:.0e}", ours=durations[-1], turns=3)
    yield Row(
        what="lean step, dearest d over cheapest, d=1e3 to 1e6",
        unit="",
        ours=max(durations) / min(durations),
        target=2.0,
        relation="<=",
    )


def memory(_: bool) -> Iterator[Row]:
    """Numbers of 8 bytes that a run holds at most beside the data, for each of nnz + n + d + chunk_size."""
    held = []
    for n, d in ((2000, 2000), (10**4, 10**3), (10**4, 10**4)):
        A, y, _ = make_sparse_logistic(n, d, random_state=0)
        total = LinearFiniteSum(A, y, "logistic")
        spend(total, max_queries=n * d // 10)
        tracemalloc.start()
        result = spend(total, max_queries=n * d)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        held.append(peak / 8.0 / (A.nnz + n + d + 65536))
        note = f"{peak / 2**20:.1f} MiB; batches of up to {result.history['batch'].max():.0e} pairs"
        yield Row(
            what=f"memory per number of nnz + n + d + chunk_size, dvr, sparse logistic n={n} d={d}",
            unit="numbers",
            ours=held[-1],
            target=16.0,
            relation="<=",
            note=note,
        )


@pytest.mark.parametrize("method", ["dvr", "auto", "fd"])
def test_logistic(benchmark: Any, method: str) -> None:
    benchmark(lambda: solve(method, 10**6))


def test_pair_oracle(benchmark: Any) -> None:
    total, ball = logistic()
    plain = FiniteSum(total.values, 2000, 50, dtype=np.float64)
    benchmark(lambda: minimize_fw_zo(plain, None, ball, max_queries=10**5, random_state=0))


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[memory, values_at_equal_queries, rates, growth, lean]))
