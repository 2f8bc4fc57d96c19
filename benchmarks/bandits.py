"""Bandits: microseconds per period of every policy on every environment, beside other libraries.

``python benchmarks/bandits.py --peers`` prints ratios to other libraries, measured in turns with ours in the
same process; without ``--peers`` it prints ours alone. Both check the targets of speed and that the number of
workers changes no number. ``pytest benchmarks/bandits.py`` times ours.

A query costs us the same whatever its length, a period costs the peers an ask and a tell: cost per period is
compared, ours at T = 100,000, theirs at horizons that they finish within seconds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpapers.bandits import (
    GPUCB,
    BanditEnv,
    BanditPolicy,
    BlindNRM,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    EstimatedKnapsack,
    ExploreThenCommit,
    GridUCB,
    InexactProximalGradient,
    KieferWolfowitz,
    NetworkRevenueEnv,
    PairwiseComparisonBandit,
    PricingInventoryEnv,
    TournamentLinUCB,
    TrisectionSearch,
)

sys.path.insert(0, str(Path(__file__).parent))
from _harness import PeerMissing, compared, main, one_thread, timed, version_of
from _rows import Row, without_paths

CONCAVE, INVENTORY, NETWORK = ConcaveFunctionEnv(), PricingInventoryEnv(), NetworkRevenueEnv.example(2)
GRADIENT = InexactProximalGradient(4.0, 4.0)
SHOP = PairwiseComparisonBandit(sigma=18.0, M=34.3, x0=0.25)
AIRLINE = PairwiseComparisonBandit(sigma=25.9, M=40.2, psi=EstimatedKnapsack(50.0), n_init=32)
# Policy, environment, horizon, replications.
RUNS: dict[str, tuple[BanditPolicy, BanditEnv, int, int]] = {
    "gradient, concave": (GRADIENT, CONCAVE, 10**5, 20),
    "tournament k=3, concave": (TournamentLinUCB(3, 1.0), CONCAVE, 10**5, 20),
    "trisection, concave": (TrisectionSearch(), CONCAVE, 10**5, 20),
    "convex bandit, concave": (ConvexBandit1D(), CONCAVE, 10**5, 20),
    "grid UCB, concave": (GridUCB(), CONCAVE, 10**5, 20),
    "two-period steps, concave": (KieferWolfowitz(4.0, 4.0), CONCAVE, 10**5, 1),
    "Gaussian process, concave": (GPUCB(), CONCAVE, 10**5, 1),
    "main policy, inventory": (SHOP, INVENTORY, 10**5, 5),
    "tournament k=2, inventory": (TournamentLinUCB(2, 36.0), INVENTORY, 10**5, 5),
    "explore then commit, inventory": (ExploreThenCommit(), INVENTORY, 10**5, 5),
    "grid UCB, inventory": (GridUCB(), INVENTORY, 10**5, 5),
    "main policy, network": (AIRLINE, NETWORK, 10**5, 5),
    "two-period steps, network": (KieferWolfowitz(25.9, 40.2), NETWORK, 10**5, 1),
    "blind prices, network": (BlindNRM(), NETWORK, 10**5, 5),
}


def quadratic(rng: np.random.Generator, x: float) -> float:
    return -2.0 * (x - 0.37) ** 2 + 0.1 * float(rng.standard_normal())


def mabwiser() -> tuple[int, Callable[[], Any]]:
    """UCB on eleven points, one prediction and one update a period."""
    try:
        from mabwiser.mab import MAB, LearningPolicy
    except ImportError as error:
        raise PeerMissing(str(error)) from error
    horizon, arms = 1000, np.linspace(0.0, 1.0, 11).tolist()

    def run() -> None:
        rng, bandit = np.random.default_rng(0), MAB(arms, LearningPolicy.UCB1(alpha=0.2))
        bandit.fit(arms, [quadratic(rng, x) for x in arms])
        for _ in range(horizon):
            x = bandit.predict()
            bandit.partial_fit([x], [quadratic(rng, x)])

    return horizon, run


def nevergrad() -> tuple[int, Callable[[], Any]]:
    """Population search for noisy functions, one ask and one tell a period."""
    try:
        import nevergrad as ng
    except ImportError as error:
        raise PeerMissing(str(error)) from error
    horizon = 1000

    def run() -> None:
        rng = np.random.default_rng(0)
        search = ng.optimizers.TBPSA(parametrization=ng.p.Scalar(lower=0.0, upper=1.0), budget=horizon)
        for _ in range(horizon):
            asked = search.ask()
            search.tell(asked, -quadratic(rng, float(asked.value)))

    return horizon, run


def scikit_optimize() -> tuple[int, Callable[[], Any]]:
    """A Gaussian process, refitted every period."""
    try:
        from skopt import Optimizer
    except ImportError as error:
        raise PeerMissing(str(error)) from error
    horizon = 20

    def run() -> None:
        rng, search = np.random.default_rng(0), Optimizer([(0.0, 1.0)], random_state=0)
        for _ in range(horizon):
            x = search.ask()
            search.tell(x, -quadratic(rng, x[0]))

    return horizon, run


def smpybandits() -> tuple[int, Callable[[], Any]]:
    """UCB on eleven points; does not import with scipy >= 1.12."""
    try:
        from SMPyBandits.Policies import UCBalpha
    except ImportError as error:
        raise PeerMissing(str(error)) from error
    horizon, points = 1000, np.linspace(0.0, 1.0, 11)

    def run() -> None:
        rng, policy = np.random.default_rng(0), UCBalpha(11, alpha=0.2)
        policy.startGame()
        for _ in range(horizon):
            arm = policy.choice()
            policy.getReward(arm, quadratic(rng, float(points[arm])))

    return horizon, run


def duelpy() -> tuple[int, Callable[[], Any]]:
    """Duels of eleven points; does not import with numpy >= 1.24."""
    try:
        from duelpy.algorithms import BeatTheMeanBandit
        from duelpy.environments import FeedbackMechanism
    except (ImportError, AttributeError) as error:
        raise PeerMissing(str(error).splitlines()[0]) from error
    horizon, points = 1000, np.linspace(0.0, 1.0, 11)

    def run() -> None:
        rng = np.random.default_rng(0)

        class Duel(FeedbackMechanism):
            def duel(self, first: int, second: int) -> bool:
                return quadratic(rng, float(points[first])) > quadratic(rng, float(points[second]))

        BeatTheMeanBandit(Duel(list(range(11))), horizon).run()

    return horizon, run


MABWISER = "MABWiser"
TURNS = 3
PEERS: dict[str, Callable[[], tuple[int, Callable[[], Any]]]] = {
    MABWISER: mabwiser,
    "nevergrad TBPSA": nevergrad,
    "scikit-optimize": scikit_optimize,
    "SMPyBandits": smpybandits,
    "duelpy": duelpy,
}


def simulate(name: str) -> Any:
    policy, env, horizon, R = RUNS[name]
    return policy.run(env, horizon, n_replications=R, random_state=0)


def per_period(with_peers: bool) -> Iterator[Row]:
    """Microseconds per period: ours, and in turns with ours the peers'.

    MABWiser stands beside each of ours; the others beside the slowest of ours in the same turn.
    """
    prepared: dict[str, tuple[int, Callable[[], Any]]] = {}
    missing: list[Row] = []
    for peer, prepare in PEERS.items() if with_peers else ():
        try:
            prepared[peer] = prepare()
        except PeerMissing as reason:
            skipped = without_paths(str(reason))
            missing.append(
                Row(
                    what="a period of our slowest policy",
                    peer=peer,
                    version=version_of(peer),
                    target=1.0,
                    skipped=skipped,
                )
            )
    cost: dict[str, list[float]] = {name: [] for name in [*RUNS, *prepared]}
    with one_thread():
        for name in RUNS:
            simulate(name)  # compiles
        for _ in range(TURNS):
            for name, (_, _, horizon, R) in RUNS.items():
                cost[name].append(timed(partial(simulate, name))[0] / (horizon * R))
            for peer, (horizon, run) in prepared.items():
                cost[peer].append(timed(run)[0] / horizon)
    slowest = [max(cost[name][turn] for name in RUNS) for turn in range(TURNS)]
    for name in RUNS:
        if MABWISER in cost:
            target = 1000.0 if name == "gradient, concave" else None
            yield compared(f"a period of: {name}", MABWISER, cost[name], cost[MABWISER], target=target)
        else:
            yield Row(what=f"a period of: {name}", ours=statistics.median(cost[name]), turns=TURNS)
    for peer in prepared:
        yield compared("a period of our slowest policy", peer, slowest, cost[peer], target=1.0)
    yield from missing


def seconds(policy: BanditPolicy, env: BanditEnv, horizon: int, R: int, n_jobs: int = 1) -> float:
    """Return the shortest of three times; of this process's CPU where one worker runs, else on the wall.

    Other work on the machine only ever adds to either, to CPU time the least.
    """
    run = partial(policy.run, env, horizon, n_replications=R, random_state=0, n_jobs=n_jobs)
    # The first run compiles, or starts the workers.
    policy.run(env, horizon, n_replications=min(R, 2), random_state=0, n_jobs=n_jobs)
    durations = []
    for _ in range(3):
        begun = time.process_time()
        wall = timed(run)[0]
        durations.append(time.process_time() - begun if n_jobs == 1 else wall)
    return min(durations)


def studies(_: bool) -> Iterator[Row]:
    """The seconds of whole studies, and how they grow."""
    network = InexactProximalGradient(25.9, 40.2, psi=EstimatedKnapsack(50.0), n_init=32)
    for what, most, arguments in (
        ("gradient, concave, 100 x 1e6", 0.5, (GRADIENT, CONCAVE, 10**6, 100)),
        ("tournament k=3, concave, 100 x 1e7", 3.0, (TournamentLinUCB(3, 1.0), CONCAVE, 10**7, 100)),
        ("main policy, inventory, 100 x 1e6, 2 workers", 30.0, (SHOP, INVENTORY, 10**6, 100, 2)),
        ("gradient, network, 20 x 1e7", 20.0, (network, NETWORK, 10**7, 20)),
        ("blind prices, network, 20 x 1e7", 20.0, (BlindNRM(), NETWORK, 10**7, 20)),
    ):
        yield Row(what=what, ours=seconds(*arguments), turns=3, target=most, relation="<=", note="least of 3")
    with one_thread():
        alone = seconds(SHOP, INVENTORY, 10**6, 5) / (5 * 10**6)
        growth = seconds(GRADIENT, CONCAVE, 10**8, 100) / seconds(GRADIENT, CONCAVE, 10**4, 100)
    yield Row(what="a period of: main policy, inventory, T=1e6", ours=alone, target=0.15e-6, relation="<=")
    yield Row(
        what="gradient, concave: time at T=1e8 / time at 1e4", unit="", ours=growth, target=4.0, relation="<="
    )


def workers(_: bool) -> Iterator[Row]:
    """How far the regrets with one and with two workers lie apart."""
    for name in ("gradient, concave", "main policy, inventory", "main policy, network"):
        policy, env, horizon, R = RUNS[name]
        one, two = (
            policy.run(env, horizon, n_replications=R, random_state=0, n_jobs=n_jobs) for n_jobs in (1, 2)
        )
        gap = max(np.abs(one.regret - two.regret).max(), np.abs(one.x_final - two.x_final).max())
        what = f"{name}: difference between 1 and 2 workers"
        yield Row(what=what, unit="", ours=float(gap), target=0.0, relation="<=")


@pytest.mark.parametrize("name", RUNS)
def test_run(benchmark: Any, name: str) -> None:
    with one_thread():
        result = benchmark.pedantic(partial(simulate, name), rounds=3, warmup_rounds=1)
    assert np.isfinite(result.final_regret).all()


if __name__ == "__main__":
    sys.exit(main((), figures=[per_period, studies, workers]))
