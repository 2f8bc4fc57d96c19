"""Queries and seconds beside copt, CMA-ES and nevergrad at equal queries, and what a query costs.

``python benchmarks/optim.py --peers`` prints f of each at the same budget, and ratios of seconds;
``pytest benchmarks/optim.py`` times ours alone. Peers: ``make peers``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def bare_objective(n: int, d: int, passes: int) -> Callable[[], Any]:
    """The same number of vectorised losses and nothing else."""
    total = large(n, d)
    m, a = total.A @ np.full(d, 1.0 / d), total.A[:, 0].copy()

    def run() -> None:
        for _ in range(passes * (d + 1)):
            total.loss.value(m + 1e-8 * a, total.y)

    return run


@cache
def large(n: int, d: int) -> LinearFiniteSum:
    rng = np.random.default_rng(1)
    A = rng.normal(size=(n, d)) / np.sqrt(d)
    return LinearFiniteSum(A, np.sign(A[:, 0]), "logistic")


def full_differences(n: int, d: int, passes: int) -> np.ndarray:
    result = minimize_fw_zo(
        large(n, d), None, L1Ball(5.0), method="fd", max_iter=passes, certificate="none", random_state=0
    )
    return np.asarray(result.x)


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
    lambda: Case(
        "full differences n=2000 d=500",
        lambda: full_differences(2000, 500, 4),
        {"bare": lambda: bare_objective(2000, 500, 4)},
        targets={"bare": 1.0 / 1.5},
        repeats=3,
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


def growth(_: bool) -> Iterator[Row]:
    """Seconds of growing budgets on a sparse problem, and the exponent between the last two."""
    A, y, _ = make_sparse_logistic(5000, 500, random_state=0)
    total = LinearFiniteSum(A, y, "logistic")
    durations = []
    for budget in (10**5, 10**6, 10**7):
        with one_thread():
            seconds, _ = timed(
                lambda: minimize_fw_zo(total, None, L1Ball(10.0), max_queries=budget, random_state=0)  # noqa: B023
            )
        durations.append(seconds)
        note = f"{budget / seconds:.2e} queries/s"
        yield Row(what=f"sparse logistic n=5000 d=500, {budget:.0e} queries", ours=seconds, note=note)
    exponent = float(np.log10(durations[-1] / durations[-2]))
    yield Row(what="sparse logistic, exponent of time in queries, 1e6 to 1e7", unit="", ours=exponent)


@pytest.mark.parametrize("method", ["dvr", "auto", "fd"])
def test_logistic(benchmark: Any, method: str) -> None:
    benchmark(lambda: solve(method, 10**6))


def test_pair_oracle(benchmark: Any) -> None:
    total, ball = logistic()
    plain = FiniteSum(total.values, 2000, 50, dtype=np.float64)
    benchmark(lambda: minimize_fw_zo(plain, None, ball, max_queries=10**5, random_state=0))


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[values_at_equal_queries, growth]))
