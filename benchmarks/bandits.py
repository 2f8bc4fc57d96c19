"""Bandits: microseconds per period of every policy on every environment, beside other libraries.

``python benchmarks/bandits.py --peers`` prints ratios to other libraries, measured in turns with ours in the
same process; without ``--peers`` it prints ours alone. Both check the targets of speed and that the number of
workers changes no number. ``pytest benchmarks/bandits.py`` times ours.

A query costs us the same whatever its length, a period costs the peers an ask and a tell: cost per period is
compared, ours at T = 100,000, theirs at horizons that they finish within seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpapers.bandits import (
    BanditEnv,
    BanditPolicy,
    BlindNRM,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    EstimatedKnapsack,
    ExploreThenCommit,
    GridUCB,
    InexactProximalGradient,
    NetworkRevenueEnv,
    PairwiseComparisonBandit,
    PricingInventoryEnv,
    TournamentLinUCB,
    TrisectionSearch,
)

sys.path.insert(0, str(Path(__file__).parent))
from _harness import PeerMissing, one_thread, timed

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
    "main policy, inventory": (SHOP, INVENTORY, 10**5, 5),
    "tournament k=2, inventory": (TournamentLinUCB(2, 36.0), INVENTORY, 10**5, 5),
    "explore then commit, inventory": (ExploreThenCommit(), INVENTORY, 10**5, 5),
    "grid UCB, inventory": (GridUCB(), INVENTORY, 10**5, 5),
    "main policy, network": (AIRLINE, NETWORK, 10**5, 5),
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


PEERS: dict[str, Callable[[], tuple[int, Callable[[], Any]]]] = {
    "MABWiser": mabwiser,
    "nevergrad TBPSA": nevergrad,
    "scikit-optimize": scikit_optimize,
    "SMPyBandits": smpybandits,
    "duelpy": duelpy,
}


def simulate(name: str) -> Any:
    policy, env, horizon, R = RUNS[name]
    return policy.run(env, horizon, n_replications=R, random_state=0)


def per_period(peers: bool, turns: int) -> list[dict[str, Any]]:
    """Return microseconds per period: ours and, in turns with ours, the peers' with their ratios to ours."""
    prepared: dict[str, tuple[int, Callable[[], Any]]] = {}
    rows: list[dict[str, Any]] = []
    for peer, prepare in PEERS.items() if peers else ():
        try:
            prepared[peer] = prepare()
        except PeerMissing as reason:
            rows.append({"what": peer, "skipped": str(reason)})
    cost: dict[str, list[float]] = {name: [] for name in [*RUNS, *prepared]}
    with one_thread():
        for name in RUNS:
            simulate(name)  # compiles
        for _ in range(turns):
            for name, (_, _, horizon, R) in RUNS.items():
                cost[name].append(1e6 * timed(partial(simulate, name))[0] / (horizon * R))
            for peer, (horizon, run) in prepared.items():
                cost[peer].append(1e6 * timed(run)[0] / horizon)
    slowest = {turn: max(cost[name][turn] for name in RUNS) for turn in range(turns)}
    for name in RUNS:
        row = {"what": name, "us per period": statistics.median(cost[name])}
        if "MABWiser" in cost:
            row["MABWiser / ours"] = statistics.median(b / a for a, b in zip(cost[name], cost["MABWiser"]))
        rows.append(row)
    for peer in prepared:
        ratio = statistics.median(cost[peer][turn] / slowest[turn] for turn in range(turns))
        rows.append(
            {
                "what": peer,
                "us per period": statistics.median(cost[peer]),
                "ratio to our slowest": ratio,
                "reached": ratio > 1.0,
            }
        )
    if "MABWiser" in cost:
        ratio = next(row["MABWiser / ours"] for row in rows if row["what"] == "gradient, concave")
        rows.append({"what": "MABWiser / gradient >= 1000", "value": ratio, "reached": ratio >= 1000.0})
    return rows


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


def targets() -> list[dict[str, Any]]:
    """Return the seconds of whole studies beside their targets."""
    network = InexactProximalGradient(25.9, 40.2, psi=EstimatedKnapsack(50.0), n_init=32)
    limits = [
        ("gradient, concave, 100 x 1e6", seconds(GRADIENT, CONCAVE, 10**6, 100), 0.5),
        ("tournament k=3, concave, 100 x 1e7", seconds(TournamentLinUCB(3, 1.0), CONCAVE, 10**7, 100), 3.0),
        ("main policy, inventory, 100 x 1e6, 2 workers", seconds(SHOP, INVENTORY, 10**6, 100, 2), 30.0),
        ("gradient, network, 20 x 1e7", seconds(network, NETWORK, 10**7, 20), 20.0),
        ("blind prices, network, 20 x 1e7", seconds(BlindNRM(), NETWORK, 10**7, 20), 20.0),
    ]
    with one_thread():
        alone = seconds(SHOP, INVENTORY, 10**6, 5) / 5
        growth = seconds(GRADIENT, CONCAVE, 10**8, 100) / seconds(GRADIENT, CONCAVE, 10**4, 100)
    limits += [
        ("main policy, inventory, us per period", alone, 0.15),
        ("gradient: time at 1e8 / time at 1e4", growth, 4.0),
    ]
    rows = [
        {"what": what, "value": value, "most": most, "reached": value <= most} for what, value, most in limits
    ]
    for name in ("gradient, concave", "main policy, inventory", "main policy, network"):
        policy, env, horizon, R = RUNS[name]
        one, two = (
            policy.run(env, horizon, n_replications=R, random_state=0, n_jobs=n_jobs) for n_jobs in (1, 2)
        )
        same = np.array_equal(one.regret, two.regret) and np.array_equal(one.x_final, two.x_final)
        rows.append({"what": f"{name}: the same with 1 and 2 workers", "reached": bool(same)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = []
    for row in rows:
        line = f"{row['what']:<46}"
        for key, value in row.items():
            if key not in ("what", "reached"):
                line += f"  {key} {value:.4g}" if isinstance(value, float) else f"  {key}: {value}"
        lines.append(line + {True: "  ok", False: "  MISSED", None: ""}[row.get("reached")])
    return "\n".join(lines)


def main() -> int:
    """Print everything; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Microseconds per period, ours and with --peers others'.")
    parser.add_argument("--peers", action="store_true", help="run the other libraries too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns")
    options = parser.parse_args()
    rows = per_period(options.peers, options.repeats)
    print(table(rows), flush=True)
    studies = targets()
    print(table(studies))
    if options.json:
        options.json.write_text(json.dumps(rows + studies, indent=2) + "\n")
    return 1 if any(row.get("reached") is False for row in rows + studies) else 0


@pytest.mark.parametrize("name", RUNS)
def test_run(benchmark: Any, name: str) -> None:
    with one_thread():
        result = benchmark.pedantic(partial(simulate, name), rounds=3, warmup_rounds=1)
    assert np.isfinite(result.final_regret).all()


if __name__ == "__main__":
    sys.exit(main())
