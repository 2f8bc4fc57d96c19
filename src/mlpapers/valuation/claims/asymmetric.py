"""Asymmetric data Shapley: what is true of every game, and what the algorithms compute."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.valuation import (
    AsymmetricShapley,
    KNNShapley,
    exact_shapley,
    harsanyi_dividends,
    required_permutations,
)
from mlpapers.valuation.claims._inputs import Array, Game, Labels, digits_split, random_game
from mlpapers.valuation.papers import ASYMMETRIC_SHAPLEY as PAPER

EXACT = 1e-12


def largest(gap: object) -> float:
    """Return the largest absolute entry; 0.0 of an empty array."""
    return float(np.max(np.abs(np.asarray(gap, dtype=float)), initial=0.0))


def table_of(game: Game, n: int) -> Array:
    """Return the 2^n coalition values in bitmask order."""
    members = [np.flatnonzero([mask >> i & 1 for i in range(n)]) for mask in range(2**n)]
    return np.array([game(coalition) for coalition in members])


def game_of(values: Array) -> Game:
    """Return the game with these 2^n coalition values."""
    return lambda coalition: float(values[(1 << coalition).sum()])


def average_over_orders(game: Game, groups: Labels) -> Array:
    """Return the mean marginal contribution over all orders in which lower groups come first."""
    n = len(groups)
    values = table_of(game, n)
    blocks = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    total = np.zeros(n)
    orders = list(itertools.product(*(itertools.permutations(block) for block in blocks)))
    for order in orders:
        before = 0
        for player in map(int, itertools.chain(*order)):
            after = before | 1 << player
            total[player] += values[after] - values[before]
            before = after
    return total / len(orders)


@PAPER.claim(
    "p1-1",
    "Asymmetric data Shapley is efficient, linear, symmetric within a group, pays nothing to null players, "
    "telescopes over the groups, and is data Shapley when there is one group.",
    source="Theorem 4.1, Propositions 4.1-4.3",
)
def axioms(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    worst = dict.fromkeys(
        ["efficiency", "telescoping", "linearity", "null player", "symmetry", "one group"], 0.0
    )
    for trial in range(60 if scale == "quick" else 600):
        n = int(rng.integers(2, 9))
        groups = rng.integers(0, 3, size=n)
        draw = random_knn_game if trial % 2 else random_game
        values = table_of(draw(rng, n), n)
        phi = exact_shapley(game_of(values), n, groups)
        gaps = {"efficiency": phi.sum() - (values[-1] - values[0])}

        sets = [sum(1 << i for i in range(n) if groups[i] <= group) for group in np.unique(groups)]
        gains = np.diff([values[0], *values[sets]])
        gaps["telescoping"] = np.bincount(np.unique(groups, return_inverse=True)[1], weights=phi) - gains

        other = table_of(draw(rng, n), n)
        gaps["linearity"] = exact_shapley(game_of(2.0 * values - 3.0 * other), n, groups) - (
            2.0 * phi - 3.0 * exact_shapley(game_of(other), n, groups)
        )

        masks = np.arange(2**n)
        without_null = values[masks & ~1]  # player 0 changes no coalition's value
        gaps["null player"] = exact_shapley(game_of(without_null), n, groups)[0]

        # Values that depend on players 0 and 1 only through how many of them are in.
        twins = values[np.where((masks & 3) == 2, masks ^ 3, masks)]
        same_group = np.where(np.arange(n) == 1, groups[0], groups)
        twin_values = exact_shapley(game_of(twins), n, same_group)
        gaps["symmetry"] = twin_values[0] - twin_values[1]

        if n <= 6:
            gaps["one group"] = exact_shapley(game_of(values), n) - average_over_orders(
                game_of(values), np.zeros(n, dtype=np.int64)
            )
        for name, gap in gaps.items():
            worst[name] = max(worst[name], largest(gap))
    return Evidence(
        [Measurement(f"largest violation: {name}", gap, "<=", EXACT) for name, gap in worst.items()]
    )


def knn_game(
    distances: NDArray[np.floating], y: Array, target: float, n_neighbors: int, task: str, empty_value: float
) -> Game:
    """Return the utility of one validation point straight from its definition.

    `task` is "classification" (divide by K), "refined" (divide by min(K, |S|)) or "regression".
    """

    def value(coalition: NDArray[np.int64]) -> float:
        nearest = coalition[np.argsort(distances[coalition], kind="stable")][:n_neighbors]
        if task == "regression":
            return -((y[nearest].sum() / n_neighbors - target) ** 2)
        if task == "refined" and not len(nearest):
            return empty_value
        divisor = len(nearest) if task == "refined" else n_neighbors
        return float(np.sum(y[nearest] == target) / divisor)

    return value


def random_knn_game(rng: np.random.Generator, n_players: int) -> Game:
    """Return a nearest-neighbour game of random order, scores, task and K in 1..10."""
    task = str(rng.choice(["classification", "refined", "regression"]))
    regression = task == "regression"
    y = rng.standard_normal(n_players) if regression else rng.integers(0, 2, size=n_players).astype(float)
    target = float(rng.standard_normal()) if regression else 1.0
    return knn_game(rng.permutation(n_players) + 1.0, y, target, int(rng.integers(1, 11)), task, 0.25)


@PAPER.claim(
    "p1-2",
    "The sorted recursions compute the k-nearest-neighbour values exactly, also for K > n, an early group "
    "smaller than K, and groups smaller than K.",
    source="Theorem 5.1, Algorithm 2 (corrected base case)",
)
def exact_recursion(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    rows = []
    for instance in range(400 if scale == "quick" else 4000):
        n, n_neighbors = int(rng.integers(1, 8)), int(rng.integers(1, 11))
        groups = rng.integers(0, 3, size=n)
        distances = rng.permutation(n) + 1.0
        for task in ("classification", "refined", "regression"):
            y = rng.standard_normal(n) if task == "regression" else rng.integers(0, 2, size=n).astype(float)
            target = float(rng.standard_normal()) if task == "regression" else 1.0
            empty_value = 0.25
            game = knn_game(distances, y, target, n_neighbors, task, empty_value)
            model = KNNShapley(
                n_neighbors,
                task="regression" if task == "regression" else "classification",
                denominator="min" if task == "refined" else "k",
                empty_value=empty_value if task == "refined" else None,
            ).fit(distances[:, None], y, np.zeros((1, 1)), np.array([target]), groups=groups)
            error = largest(model.values_ - average_over_orders(game, groups))
            rows.append({"instance": instance, "task": task, "n": n, "K": n_neighbors, "error": error})
    frame = pd.DataFrame(rows)
    worst = frame.groupby("task")["error"].max()
    return Evidence(
        [
            Measurement(f"largest error against enumeration: {task}", e, "<=", EXACT)
            for task, e in worst.items()
        ],
        table=frame.groupby("task")
        .agg(instances=("error", "size"), largest_error=("error", "max"))
        .reset_index(),
    )


@PAPER.claim(
    "p1-6",
    "Monte Carlo values converge at the rate R^(-1/2) for any utility, and the stated number of permutations "
    "keeps the error below epsilon.",
    source="Definition 5.1, Algorithm 1",
)
def monte_carlo(scale: Scale, seed: int) -> Evidence:
    split = digits_split(seed, 60, 50)
    groups = np.repeat([0, 1, 2], 20)
    exact = KNNShapley(5).fit(*split, groups=groups).values_
    repeats = 2 if scale == "quick" else 20
    rows = []
    for n_permutations in (50, 200, 800, 2000):
        for repeat in range(repeats):
            run = AsymmetricShapley(
                method="mc",
                n_neighbors=5,
                max_permutations=n_permutations,
                rtol=0.0,
                random_state=seed + repeat,
            ).fit(*split, groups=groups)
            rows.append(
                {
                    "permutations": n_permutations,
                    "rmse": math.sqrt(np.mean((run.values_ - exact) ** 2)),
                    "predicted": math.sqrt(np.mean(run.stderr_**2)),
                }
            )
    frame = pd.DataFrame(rows).pow(2).groupby(pd.DataFrame(rows)["permutations"]).mean().pow(0.5)
    frame = frame.drop(columns="permutations").reset_index()
    slope = np.polyfit(np.log(frame["permutations"]), np.log(frame["rmse"]), 1)[0]
    ratio = frame["rmse"] / frame["predicted"]

    small = digits_split(seed + 1, 20, 50)
    halves = np.repeat([0, 1], 10)
    truth = KNNShapley(3).fit(*small, groups=halves).values_
    errors = [
        largest(
            AsymmetricShapley(method="mc", n_neighbors=3, epsilon=0.05, delta=0.1, random_state=seed + repeat)
            .fit(*small, groups=halves)
            .values_
            - truth
        )
        for repeat in range(20)
    ]

    def draw(ax):
        ax.loglog(frame["permutations"], frame["rmse"], "o-", label="measured")
        ax.loglog(frame["permutations"], frame["predicted"], "--", label="predicted from the variance")
        ax.set(xlabel="permutations", ylabel="root mean squared error")
        ax.legend()

    return Evidence(
        [
            Measurement("slope of log RMSE over log permutations", slope, "in", (-0.65, -0.35)),
            Measurement("smallest RMSE / predicted", ratio.min(), ">=", 0.6),
            Measurement("largest RMSE / predicted", ratio.max(), "<=", 1.6),
            Measurement(
                "permutations for (0.05, 0.1)", required_permutations(20, 0.05, 0.1), "in", (1199, 1199)
            ),
            Measurement(
                "runs of 20 with an error above epsilon", sum(error > 0.05 for error in errors), "<=", 0
            ),
        ],
        table=frame,
        figure=draw,
    )


def min_norm_risk(X: Array, y: Array, X_val: Array, y_val: Array) -> Game:
    """Return the game v(S) = -(validation mean squared error) of the minimum-norm least-squares fit to S."""

    def value(coalition: NDArray[np.int64]) -> float:
        weights = np.linalg.pinv(X[coalition]) @ y[coalition] if len(coalition) else np.zeros(X.shape[1])
        return -float(np.mean((X_val @ weights - y_val) ** 2))

    return value


def unanimity_game(carrier: NDArray[np.int64]) -> Game:
    """Return the game that is worth 1 to a coalition that contains all of `carrier`, else 0."""
    return lambda coalition: float(np.isin(carrier, coalition).all())


def values_from_dividends(game: Game, groups: Labels, weights: Array) -> Array:
    """Share each Harsanyi dividend by weight among the members of the coalition's last group."""
    n = len(groups)
    dividends = harsanyi_dividends(game, n)
    phi = np.zeros(n)
    for mask in range(1, 2**n):
        members = np.flatnonzero([mask >> i & 1 for i in range(n)])
        last = members[groups[members] == groups[members].max()]
        phi[last] += dividends[mask] * weights[last] / weights[last].sum()
    return phi


@PAPER.claim(
    "p1-12",
    "Duplicating all sources halves data Shapley but not the originals' asymmetric values; identical sources "
    "in different rounds earn differently; the values are the unique weighted split of Harsanyi dividends.",
    source="Lemmas 3.1 and 3.2, Definition 4.1 (corrected premise), Theorem 4.1, Appendix B.3",
)
def lemmas(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    X, X_val = rng.standard_normal((4, 3)), rng.standard_normal((10, 3))
    y, y_val = rng.standard_normal(4), rng.standard_normal(10)
    single = exact_shapley(min_norm_risk(X, y, X_val, y_val), 4)
    doubled = min_norm_risk(np.vstack([X, X]), np.concatenate([y, y]), X_val, y_val)
    copies = np.repeat([0, 1], 4)
    symmetric = exact_shapley(doubled, 8)
    asymmetric = exact_shapley(doubled, 8, copies)

    votes = exact_shapley(lambda coalition: float(len(coalition) > 0), 3, np.arange(3))
    additive = exact_shapley(lambda coalition: float(len(coalition)), 2, np.arange(2))

    gaps = []
    for _ in range(30 if scale == "quick" else 300):
        n = int(rng.integers(2, 8))
        groups = np.unique(rng.integers(0, 3, size=n), return_inverse=True)[1]
        weights = rng.uniform(0.5, 2.0, size=n)
        carrier = np.union1d(0, np.flatnonzero(rng.random(n) < 0.5))
        for game in (random_game(rng, n), unanimity_game(carrier)):
            equal = values_from_dividends(game, groups, np.ones(n)) - exact_shapley(game, n, groups)
            weighted = values_from_dividends(game, groups, weights) - exact_shapley(
                game, n, groups, player_weights=weights
            )
            gaps.append(max(largest(equal), largest(weighted)))
    half = (symmetric[4:].sum() - single.sum() / 2, symmetric[:4].sum() - single.sum() / 2)
    return Evidence(
        [
            Measurement(
                "data Shapley: copies' total minus half of the original total", largest(half), "<=", 1e-10
            ),
            Measurement(
                "asymmetric: originals minus their values alone",
                largest(asymmetric[:4] - single),
                "<=",
                1e-10,
            ),
            Measurement("vote example minus (1, 0, 0)", largest(votes - [1, 0, 0]), "<=", EXACT),
            Measurement("v = |S|, two singleton groups, minus (1, 1)", largest(additive - 1), "<=", EXACT),
            Measurement("dividends minus permutations", max(gaps), "<=", EXACT),
        ]
    )
