"""Uncertainty of data values: the U-statistic behind Data Shapley, its intervals, and trading on them."""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import shapiro
from sklearn.exceptions import ConvergenceWarning

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.valuation import exact_shapley
from mlpapers.valuation.claims._inputs import Game, random_game
from mlpapers.valuation.claims._populations import (
    Population,
    coverage,
    coverage_runs,
    finite_population,
    two_classes,
)
from mlpapers.valuation.market import posted_price
from mlpapers.valuation.papers import USTATISTIC_SHAPLEY as PAPER
from mlpapers.valuation.variance import ks_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# (n, s) of the coverage experiments, s = sqrt(n).
SETTINGS = ((100, 10), (400, 20))
FRESH_SUBSETS = 20_000
# 1 % points of the Kolmogorov-Smirnov distance for so many runs.
KS_POINT = {100: 0.16, 200: 0.115}


def n_runs(scale: Scale) -> int:
    """Return how many samples the coverage experiments draw."""
    return 100 if scale == "quick" else 200


@functools.cache
def setting_truth(subset_size: int, seed: int) -> float:
    """Return the true value of the point on offer in a market of `subset_size` + 1 points."""
    rng = np.random.default_rng([seed, subset_size, 1])
    return float(two_classes(flip=0.1).true_values(subset_size, FRESH_SUBSETS, rng)[0])


@functools.cache
def setting_runs(n: int, subset_size: int, runs: int, seed: int, **options: object) -> pd.DataFrame:
    """Return repeated estimates of the point on offer, computed once for all claims."""
    truth = setting_truth(subset_size, seed)
    with warnings.catch_warnings():
        # Small pick-and-freeze budgets are run on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return coverage_runs(two_classes(flip=0.1), truth, n, subset_size, runs, seed, **options)


@PAPER.claim(
    "p2-1",
    "Data Shapley is an infinite-order U-statistic: averaged over all subsets of size s it is the mean of "
    "the complete U-statistics of marginal contributions of orders 0 to s, and for s = n the value.",
    source="Bridge theorem (Data Shapley as an infinite-order U-statistic)",
)
def u_statistic_identity(scale: Scale, seed: int) -> Evidence:
    """Enumerate random games of six sample points and one target."""
    n = 6
    rng = np.random.default_rng([seed, 21])
    rows = []
    for trial in range(3 if scale == "quick" else 20):
        game = random_game(rng, n + 1)
        for s in (1, 3, n):
            average = np.mean(
                [subset_value(game, subset, n) for subset in itertools.combinations(range(n), s)]
            )
            orders = [mean_marginal(game, n, order) for order in range(s + 1)]
            rows.append((trial, s, average, np.mean(orders), abs(average - np.mean(orders))))
        shapley = exact_shapley(game, n + 1)[n]
        rows.append((trial, n, shapley, np.mean(orders), abs(shapley - np.mean(orders))))
    table = pd.DataFrame(rows, columns=["game", "s", "mean Shapley value", "mean U-statistic", "gap"])
    gap = Measurement("largest gap between the two sides", table["gap"].max(), "<=", 1e-12)
    return Evidence([gap], table=table)


def subset_value(game: Game, subset: tuple[int, ...], target: int) -> float:
    """Return the Shapley value of `target` in the game restricted to `subset` and itself."""
    players = np.array([*subset, target])
    return float(exact_shapley(lambda members: game(np.sort(players[members])), len(players))[-1])


def mean_marginal(game: Game, target: int, order: int) -> float:
    """Return the mean marginal contribution of `target` to all subsets of size `order`."""
    gains = [
        game(np.array([*subset, target])) - game(np.array(subset, dtype=np.int64))
        for subset in itertools.combinations(range(target), order)
    ]
    return float(np.mean(gains))


@PAPER.claim(
    "p2-2",
    "An interval from Monte Carlo error alone, for fixed data, misses the true value most of the time.",
    source="Introduction (motivation)",
    shares="ustatistic-coverage",
)
def monte_carlo_only(scale: Scale, seed: int) -> Evidence:
    """Cover the true value with and without the variance of the sample."""
    rows, measurements = [], []
    for n, s in SETTINGS:
        runs = setting_runs(n, s, n_runs(scale), seed)
        share = coverage(runs, "mc_stderr")
        rows.append((n, s, share, coverage(runs)))
        measurements.append(
            Measurement(f"coverage of the Monte Carlo interval, n={n}, s={s}", share, "<=", 0.35)
        )
    columns = ["n", "s", "coverage, Monte Carlo error only", "coverage, with the sample's variance"]
    return Evidence(measurements, table=pd.DataFrame(rows, columns=columns))


@PAPER.claim(
    "p2-3",
    "Intervals with the sample's variance cover the true value at the nominal rate as the sample grows; "
    "uncorrected double Monte Carlo errs on the safe side.",
    source="Central limit theorem for the incomplete estimator; coverage experiments",
    shares="ustatistic-coverage",
)
def interval_coverage(scale: Scale, seed: int) -> Evidence:
    """Cover the true value by jackknife and double Monte Carlo intervals of level 95 %."""
    window = (0.88, 0.99) if scale == "quick" else (0.90, 0.98)
    rows, measurements = [], []
    for n, s in SETTINGS:
        jackknife = setting_runs(n, s, n_runs(scale), seed)
        raw = setting_runs(n, s, n_runs(scale), seed, **raw_families(s))
        covered, covered_raw = coverage(jackknife), coverage(raw)
        measurements += [
            Measurement(f"coverage of ij, n={n}, s={s}", covered, "in", window),
            Measurement(f"coverage of raw dmc, n={n}, s={s}", covered_raw, ">=", 0.93),
        ]
        spread = jackknife["error"].std()
        for name, runs in (("ij", jackknife), ("dmc", raw)):
            rows.append((n, s, name, coverage(runs), runs["stderr"].mean(), spread, runs["error"].mean()))
    columns = ["n", "s", "variance", "coverage", "mean stderr", "sd of the estimate", "bias"]
    return Evidence(measurements, table=pd.DataFrame(rows, columns=columns))


def raw_families(subset_size: int) -> dict[str, object]:
    """Return the options of uncorrected double Monte Carlo with 1000 evaluations, families of s."""
    return {"variance": "dmc", "n_outer": 1000 // subset_size, "n_inner": subset_size}


@PAPER.claim(
    "p2-4",
    "The studentised estimate is close to normal.",
    source="Central limit theorem for the incomplete estimator",
    shares="ustatistic-coverage",
)
def normality(scale: Scale, seed: int) -> Evidence:
    """Measure the distance of the studentised errors of repeated samples to N(0, 1)."""
    rows, measurements, studentised = [], [], {}
    for n, s in SETTINGS:
        runs = setting_runs(n, s, n_runs(scale), seed)
        z = np.sort((runs["error"] / runs["stderr"]).to_numpy())
        studentised[f"n={n}, s={s}"] = z
        distance = ks_distance(z)
        rows.append((n, s, distance, shapiro(z).pvalue, z.mean(), z.std(ddof=1)))
        target = KS_POINT[n_runs(scale)]
        measurements.append(Measurement(f"KS distance to N(0, 1), n={n}, s={s}", distance, "<=", target))

    def draw(ax: Axes) -> None:
        for label, z in studentised.items():
            ax.plot(ndtri((np.arange(len(z)) + 0.5) / len(z)), z, ".", label=label)
        ax.axline((0.0, 0.0), slope=1.0, color="0.6", linewidth=0.8)
        ax.set_xlabel("normal quantile")
        ax.set_ylabel("studentised error")
        ax.legend()

    columns = ["n", "s", "KS distance", "Shapiro-Wilk p", "mean", "sd"]
    return Evidence(measurements, table=pd.DataFrame(rows, columns=columns), figure=draw)


@PAPER.claim(
    "p2-4b",
    "On real data, too, the intervals cover the true value and the studentised estimate is close to normal.",
    source="Coverage experiments on real data",
)
def real_data(scale: Scale, seed: int) -> Evidence:
    """Take a data set as the population, so that the true value is known, and sample from it."""
    names = ["digits", "breast_cancer", "wine"] + (["mnist5k", "adult"] if scale == "full" else [])
    n, s = 400, 20
    rows, measurements = [], []
    for name in names:
        population = finite_population(name, seed)
        rng = np.random.default_rng([seed, 42])
        truth = float(population.true_values(s, 5 * FRESH_SUBSETS, rng)[0])
        runs = coverage_runs(population, truth, n, s, 100, seed)
        distance = ks_distance(runs["error"] / runs["stderr"])
        covered = coverage(runs)
        rows.append((name, truth, covered, distance, runs["stderr"].mean(), runs["error"].std()))
        measurements += [
            Measurement(f"coverage of ij, {name}", covered, "in", (0.88, 0.99)),
            Measurement(f"KS distance to N(0, 1), {name}", distance, "<=", KS_POINT[100]),
        ]
    columns = ["data", "true value", "coverage", "KS distance", "mean stderr", "sd of the estimate"]
    return Evidence(measurements, table=pd.DataFrame(rows, columns=columns))


@PAPER.claim(
    "p2-5",
    "Pick-and-freeze needs many evaluations and is then accurate; double Monte Carlo is steadier at equal "
    "cost, and too wide where its families are small and uncorrected.",
    source="Two algorithms and when to use which",
    shares="ustatistic-coverage",
)
def two_algorithms(scale: Scale, seed: int) -> Evidence:
    """Compare the algorithms at 1000 and 20000 evaluations."""
    n, s = SETTINGS[0]
    runs = n_runs(scale)
    plain = setting_runs(n, s, runs, seed)
    small = setting_runs(n, s, runs, seed, variance="pf", n_pairs=500)
    corrected = setting_runs(n, s, runs, seed, variance="dmc", n_outer=20, n_inner=50, bias_correct=True)
    raw = setting_runs(n, s, runs, seed, **raw_families(s))
    large = setting_runs(n, s, 80, seed, variance="pf", n_subsets=2000, n_pairs=10_000)
    steadier = variation(small) - variation(corrected)
    width_ratio = raw["stderr"].mean() / plain["error"].std()
    table = pd.DataFrame(
        [
            ("pf", 1000, coverage(small), variation(small)),
            ("pf", 20_000, coverage(large), variation(large)),
            ("dmc corrected, families of 50", 1000, coverage(corrected), variation(corrected)),
            ("dmc raw, families of 10", 1000, coverage(raw), variation(raw)),
        ],
        columns=["variance", "evaluations", "coverage", "CV of the variance"],
    )
    return Evidence(
        [
            Measurement("coverage of pf, 1000 evaluations", coverage(small), "<=", 0.90),
            Measurement("coverage of pf, 20000 evaluations", coverage(large), ">=", 0.92),
            Measurement("CV of the variance, pf less dmc, 1000 evaluations", steadier, ">", 0.0),
            Measurement("mean width of raw dmc relative to the true one", width_ratio, ">", 1.3),
        ],
        table=table,
    )


def variation(runs: pd.DataFrame) -> float:
    """Return the coefficient of variation of the estimated variance."""
    return float(runs["variance"].std() / runs["variance"].mean())


@PAPER.claim(
    "p2-6",
    "A buyer who pays the lower confidence bound hardly ever overpays, at a small discount; one who pays the "
    "estimate overpays about every second time.",
    source="Data trading experiment",
)
def trading(scale: Scale, seed: int) -> Evidence:
    """Offer 12 points in each of 40 markets at the two prices."""
    n_markets, n_sellers, n, s = (40 if scale == "quick" else 200), 12, 200, 15
    rng = np.random.default_rng([seed, 60])
    everybody = two_classes(0.1, n_markets * n_sellers, rng)
    truth = everybody.true_values(s, FRESH_SUBSETS, np.random.default_rng([seed, 61]))
    deals = []
    for market in range(n_markets):
        sellers = slice(market * n_sellers, (market + 1) * n_sellers)
        population = Population(
            everybody.draw,
            everybody.X_val,
            everybody.y_val,
            everybody.X_new[sellers],
            everybody.y_new[sellers],
        )
        result = population.estimate(n, rng, subset_size=s, n_subsets=600)
        deals.append(
            pd.DataFrame(
                {
                    "market": market,
                    "true value": truth[sellers],
                    "estimate": result.values,
                    "price, point": posted_price(result.values, result.stderr, "point", 0.95),
                    "price, lcb": posted_price(result.values, result.stderr, "lcb", 0.95),
                    "covered": (result.ci_low <= truth[sellers]) & (truth[sellers] <= result.ci_high),
                }
            )
        )
    table = pd.concat(deals, ignore_index=True)
    overpaid = {rule: (table[f"price, {rule}"] > table["true value"]).mean() for rule in ("point", "lcb")}
    discount = 1.0 - table["price, lcb"] / table["estimate"]
    return Evidence(
        [
            Measurement("deals that overpay, paying the estimate", overpaid["point"], "in", (0.4, 0.6)),
            Measurement("deals that overpay, paying the 95 % lower bound", overpaid["lcb"], "<=", 0.08),
            Measurement("coverage of the 95 % interval", table["covered"].mean(), ">=", 0.90),
            Measurement("mean discount of the lower bound", discount.mean(), "<", 0.15),
        ],
        table=table,
        notes=f"Median discount {discount.median():.3f}.",
    )


@PAPER.claim(
    "p2-7",
    "When the population changes, the interval of the old sample goes stale; a new sample's covers again.",
    source="Evolving data",
)
def evolving_data(scale: Scale, seed: int) -> Evidence:
    """Raise the rate of flipped labels from 0.1 to 0.45 after the first fit."""
    n, s, runs = 200, 14, 60 if scale == "quick" else 200
    before, after = two_classes(flip=0.1), two_classes(flip=0.45)
    truth = float(after.true_values(s, 8000, np.random.default_rng([seed, 70]))[0])
    old = coverage_runs(before, truth, n, s, runs, seed, n_subsets=500)
    new = coverage_runs(after, truth, n, s, runs, seed, n_subsets=500)
    table = pd.DataFrame(
        [("before the change", coverage(old)), ("after the change", coverage(new))],
        columns=["sample drawn", "coverage of the value after the change"],
    )
    return Evidence(
        [
            Measurement("coverage of the old interval", coverage(old), "<=", 0.5),
            Measurement("coverage of the refitted interval", coverage(new), ">=", 0.88),
        ],
        table=table,
    )
