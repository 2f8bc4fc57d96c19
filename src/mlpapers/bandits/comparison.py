"""Every policy on every environment, with the same seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.policy import BanditPolicy, PolicyMismatchError
from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import spawn_seeds
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PolicyComparisonResult", "compare_policies"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyComparisonResult(Result):
    """Final regrets of P policies on E environments.

    Attributes
    ----------
    policies, envs : tuple of str
    horizon : int
    regret : ndarray of shape (P, E, R)
        NaN where a policy cannot run on an environment.
    n_queries : ndarray of shape (P, E, R)
        Comparisons made; NaN likewise.
    seconds : ndarray of shape (P, E)
        Wall time of all replications.
    skipped : tuple of P tuples of E strings
        Why a policy did not run; empty where it did.
    confidence : float
        Of the intervals.
    """

    policies: tuple[str, ...]
    envs: tuple[str, ...]
    horizon: int
    regret: Array
    n_queries: Array
    seconds: Array
    skipped: tuple[tuple[str, ...], ...]
    confidence: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy and environment.

        Returns
        -------
        pandas.DataFrame
            Columns policy, env, regret (mean), low, high (Student's interval), average (per period),
            n_queries (mean), microseconds (per period and replication), skipped.
        """
        R = self.regret.shape[2]
        half = np.full(self.regret.shape[:2], np.nan)
        if R > 1:
            quantile = stats.t.ppf(0.5 + 0.5 * self.confidence, R - 1)
            half = quantile * self.regret.std(axis=2, ddof=1) / np.sqrt(R)
        mean = self.regret.mean(axis=2)
        E = len(self.envs)
        return pd.DataFrame(
            {
                "policy": np.repeat(self.policies, E),
                "env": np.tile(self.envs, len(self.policies)),
                "regret": mean.ravel(),
                "low": (mean - half).ravel(),
                "high": (mean + half).ravel(),
                "average": mean.ravel() / self.horizon,
                "n_queries": self.n_queries.mean(axis=2).ravel(),
                "microseconds": 1e6 * self.seconds.ravel() / (R * self.horizon),
                "skipped": [reason for row in self.skipped for reason in row],
            }
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw mean regrets with their intervals, one column per environment.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.errorbar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        for i, policy in enumerate(self.policies):
            own = frame[(frame["policy"] == policy) & frame["regret"].notna()]
            places = [self.envs.index(env) for env in own["env"]]
            shift = 0.6 * ((i + 0.5) / len(self.policies) - 0.5)
            errors = (own["high"] - own["regret"]).fillna(0.0)
            ax.errorbar(
                np.array(places) + shift,
                own["regret"],
                yerr=errors,
                **{"fmt": "o", "capsize": 2, "label": policy, **options},
            )
        ax.set_xticks(range(len(self.envs)), self.envs)
        ax.set(ylabel=f"regret at T = {self.horizon:,}", xlim=(-0.5, len(self.envs) - 0.5))
        if np.nanmin(self.regret.mean(axis=2), initial=np.inf) > 0.0:
            ax.set_yscale("log")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax


def compare_policies(
    policies: Mapping[str, BanditPolicy] | Sequence[BanditPolicy] | None = None,
    envs: Mapping[str, BanditEnv] | Sequence[BanditEnv] | None = None,
    horizon: int = 10_000,
    *,
    n_replications: int = 10,
    confidence: float = 0.95,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> PolicyComparisonResult:
    """Run every policy on every environment; on one environment, all of them with the same seeds.

    Parameters
    ----------
    policies : mapping of str to BanditPolicy, sequence of BanditPolicy, or None
        Without names, the class names. None: all of this package, on every environment with what it declares
        of itself, the rest estimated or at its default.
    envs : mapping of str to BanditEnv, sequence of BanditEnv, or None
        None: a concave and a bimodal function with adversarial bias, pricing with inventory, and a network.
    horizon : int >= 2
    n_replications : int
    confidence : float
        Of the intervals in the result.
    random_state : int, Generator, RandomState or None
    n_jobs : int or None

    Returns
    -------
    PolicyComparisonResult
        Where a policy needs something that an environment does not have, it is skipped with the reason.

    Raises
    ------
    ValueError, TypeError
        For an impossible argument or parameter.
    """
    worlds = _named("envs", _default_envs() if envs is None else envs, BanditEnv)
    horizon = check_int("horizon", horizon, minimum=2)
    R = check_int("n_replications", n_replications, minimum=1)
    confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    tables = {
        name: _named("policies", _default_policies(env) if policies is None else policies, BanditPolicy)
        for name, env in worlds.items()
    }
    names = list(next(iter(tables.values())))
    shape = (len(names), len(worlds))
    regret, queries = np.full((*shape, R), np.nan), np.full((*shape, R), np.nan)
    seconds, skipped = np.full(shape, np.nan), [[""] * len(worlds) for _ in names]
    for e, (env, seed) in enumerate(zip(worlds, spawn_seeds(random_state, len(worlds)))):
        for p, name in enumerate(names):
            started = time.perf_counter()
            try:
                result = tables[env][name].run(
                    worlds[env], horizon, n_replications=R, random_state=seed, n_jobs=n_jobs
                )
            except (PolicyMismatchError, NotImplementedError) as reason:
                skipped[p][e] = str(reason)
                continue
            seconds[p, e] = time.perf_counter() - started
            regret[p, e], queries[p, e] = result.final_regret, result.n_queries
    return PolicyComparisonResult(
        policies=tuple(names),
        envs=tuple(worlds),
        horizon=horizon,
        regret=regret,
        n_queries=queries,
        seconds=seconds,
        skipped=tuple(map(tuple, skipped)),
        confidence=confidence,
    )


def _named(argument: str, given: Any, kind: type) -> dict[str, Any]:
    """Return a dict of names to objects; a name that is taken gets a number."""
    if isinstance(given, kind) or not isinstance(given, Mapping | Sequence) or isinstance(given, str):
        raise TypeError(f"{argument} must be a mapping or a sequence of {kind.__name__}; got {given!r}")
    named: dict[str, Any] = {}
    for key, value in given.items() if isinstance(given, Mapping) else ((None, value) for value in given):
        if not isinstance(value, kind):
            raise TypeError(f"{argument} must hold {kind.__name__} objects; got {value!r}")
        name = type(value).__name__ if key is None else str(key)
        copies = sum(known == name or known.startswith(f"{name} (") for known in named) if key is None else 0
        named[f"{name} ({copies + 1})" if copies else name] = value
    if not named:
        raise ValueError(f"{argument} must not be empty")
    return named


def _default_envs() -> dict[str, BanditEnv]:
    from mlpapers.bandits.concave import ConcaveFunctionEnv
    from mlpapers.bandits.inventory import PricingInventoryEnv
    from mlpapers.bandits.network import NetworkRevenueEnv

    return {
        "concave": ConcaveFunctionEnv(bias=0.2, bias_mode="adversarial"),
        "bimodal": ConcaveFunctionEnv("bimodal", bias=0.2, bias_mode="adversarial"),
        "inventory": PricingInventoryEnv(),
        "network": NetworkRevenueEnv.example(2),
    }


def _default_policies(env: BanditEnv) -> list[BanditPolicy]:
    """Return one of each policy, told what the environment declares."""
    from mlpapers.bandits.arms import GPUCB, GridUCB
    from mlpapers.bandits.baselines import ConvexBandit1D, KieferWolfowitz, TrisectionSearch
    from mlpapers.bandits.operations import BlindNRM, ExploreThenCommit
    from mlpapers.bandits.pairwise import PairwiseComparisonBandit
    from mlpapers.bandits.penalty import EstimatedKnapsack
    from mlpapers.bandits.proximal import InexactProximalGradient
    from mlpapers.bandits.tournament import TournamentLinUCB

    hints = env.hints
    M = hints.get("smoothness", 1.0)
    psi = None
    if "capacity_left" in env._shared:
        # No unit of a resource is worth more than the dearest product that needs some of it.
        psi = EstimatedKnapsack(10.0 * float(np.max(env.model.high)))
    return [
        # Without declared constants it takes the procedure for smooth functions, which has no penalty.
        PairwiseComparisonBandit(psi=psi if {"sigma", "smoothness"} <= hints.keys() else None),
        TournamentLinUCB(M=M),
        InexactProximalGradient("auto", psi=psi),
        KieferWolfowitz(hints.get("sigma", M), M),
        TrisectionSearch(),
        ConvexBandit1D(),
        GridUCB(),
        GPUCB(max_evals=30),
        ExploreThenCommit(),
        BlindNRM(),
    ]
