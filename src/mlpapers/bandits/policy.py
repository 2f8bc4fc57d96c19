"""What all policies share: replications in parallel, one run on a user's oracle, and the log of queries."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.oracle import ComparisonOracle, ComparisonResult, Point, check_gamma, check_point
from mlpapers.bandits.result import RegretResult
from mlpapers.core.parallel import parallel_map, spawn_seeds
from mlpapers.core.validation import check_int, check_workers

__all__ = ["BanditPolicy", "PolicyMismatchError", "Session"]

_N_CHECKPOINTS = 61


class PolicyMismatchError(ValueError):
    """A policy needs something that the system it is to run on does not offer."""


class Session:
    """One run of a policy on an oracle: its queries, and what it reports.

    Attributes
    ----------
    oracle : ComparisonOracle
    horizon : int
    dim : int
    gamma1, gamma2 : float
    rng : numpy.random.Generator
    details : dict of ndarrays
        What the policy wants to be kept.
    """

    def __init__(self, oracle: ComparisonOracle, horizon: int, rng: np.random.Generator) -> None:
        self.oracle = oracle
        self.horizon = horizon
        self.dim = check_int("dim", oracle.dim, minimum=1)
        self.gamma1, self.gamma2 = check_gamma(tuple(oracle.gamma))
        self.rng = rng
        self.details: dict[str, NDArray[np.float64]] = {}
        self.rows: list[tuple[Any, ...]] = []
        self._offset = int(oracle.remaining) - horizon

    @property
    def remaining(self) -> int:
        """Periods that are left of the horizon."""
        return max(int(self.oracle.remaining) - self._offset, 0)

    @property
    def t(self) -> int:
        """Periods played."""
        return self.horizon - self.remaining

    @property
    def clock(self) -> int:
        """Periods played when a query is logged."""
        return self.t

    def compare(
        self, x: Point, x_prime: Point, n: int, *, phase: int = 0, n_cells: int = 0
    ) -> ComparisonResult | None:
        """Compare, for at most the periods left, and log the query; None where none can be made."""
        left = self.remaining
        if left < 2:
            if left:
                self.oracle.play(x, 1)
            return None
        result = self.oracle.compare(x, x_prime, min(int(n), left))
        if result is None:
            return None
        width = float(np.sqrt((self.gamma1 + self.gamma2 * np.log(max(self.horizon, 2))) / result.n))
        self.rows.append(
            (
                self.clock,
                phase,
                tuple(x.tolist()),
                tuple(x_prime.tolist()),
                result.n,
                result.diff,
                width,
                n_cells,
            )
        )
        return result

    def play(self, x: Point, n: int) -> float | None:
        """Play x for at most the periods left."""
        left = self.remaining
        return self.oracle.play(x, min(int(n), left)) if left else None

    def trace(self) -> pd.DataFrame:
        """Return the log of comparisons."""
        columns = ["t", "phase", "x", "x_prime", "n", "diff", "width", "cells"]
        return pd.DataFrame(self.rows, columns=columns)


class BanditPolicy(BaseEstimator, ABC):
    """Base of the policies; a subclass defines ``_validate`` and ``_search``.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> class Stubborn(BanditPolicy):
    ...     def __init__(self, x=0.5):
    ...         self.x = x
    ...
    ...     def _validate(self):
    ...         if not 0 <= self.x <= 1:
    ...             raise ValueError(f"x must be in [0, 1]; got {self.x!r}")
    ...
    ...     def _search(self, session):
    ...         point = np.full(session.dim, self.x)
    ...         session.play(point, session.remaining)
    ...         return point
    >>> env = ConcaveFunctionEnv()
    >>> regret = Stubborn().run(env, horizon=1000).final_regret
    >>> bool(np.isclose(regret[0], 1000 * (env.f_star - env.value([0.5]))))
    True
    """

    @abstractmethod
    def _validate(self) -> None:
        """Raise a ValueError or TypeError that names an impossible parameter."""

    @abstractmethod
    def _search(self, session: Session) -> Point:
        """Play until no period remains and return the recommended point."""

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        from mlpapers.bandits.concave import ConcaveFunctionEnv

        return {
            "method": "run",
            "arguments": {"env": ConcaveFunctionEnv(), "horizon": 2000, "n_replications": 3},
        }

    def run(
        self,
        env: BanditEnv,
        horizon: int,
        *,
        n_replications: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> RegretResult:
        """Run independent replications on an environment.

        Parameters
        ----------
        env : BanditEnv
            Copied for each replication; it is not changed.
        horizon : int >= 2
        n_replications : int
        random_state : int, Generator, RandomState or None
            Replication r gets its own seed from it: the numbers depend neither on `n_jobs` nor on the number
            of replications.
        n_jobs : int or None
            As in joblib.

        Returns
        -------
        RegretResult

        Raises
        ------
        ValueError, TypeError
            For an impossible parameter of the policy, the environment or this method.
        NotImplementedError
            Where a one-dimensional policy meets several dimensions.
        """
        if not isinstance(env, BanditEnv):
            raise TypeError(f"env must be a BanditEnv; got {type(env).__name__} (optimize takes an oracle)")
        horizon = check_int("horizon", horizon, minimum=2)
        n_replications = check_int("n_replications", n_replications, minimum=1)
        check_workers(n_jobs, 0)
        self._validate()
        prepared = clone(env)
        prepared.reset(horizon, 0)
        seeds = spawn_seeds(self._seed(random_state), n_replications)
        times = np.unique(np.geomspace(1.0, horizon, _N_CHECKPOINTS).round().astype(np.int64))
        started = time.perf_counter()
        outcomes = parallel_map(_replicate, enumerate(seeds), n_jobs=n_jobs, shared=(self, prepared, times))
        wall_time = time.perf_counter() - started
        paths, points, queries, details, traces = zip(*outcomes)
        regret = np.stack(paths)
        return RegretResult(
            policy=type(self).__name__,
            env=type(env).__name__,
            horizon=horizon,
            times=times,
            regret=regret,
            final_regret=regret[:, -1].copy(),
            n_queries=np.array(queries, dtype=np.int64),
            x_final=np.stack(points),
            trace_=traces[0],
            details=tuple(details),
            wall_time=wall_time,
        )

    def optimize(self, oracle: ComparisonOracle, horizon: int) -> NDArray[np.float64]:
        """Spend `horizon` periods of an oracle and return the recommended point, shape (dim,).

        Raises
        ------
        ValueError
            Where the oracle has fewer periods left than `horizon`.
        TypeError
            Where `oracle` lacks a member of :class:`ComparisonOracle`.
        """
        if isinstance(oracle, BanditEnv):
            oracle = oracle.as_oracle()
        if not isinstance(oracle, ComparisonOracle):
            raise TypeError(f"oracle must have dim, gamma, remaining, compare and play; got {oracle!r}")
        horizon = check_int("horizon", horizon, minimum=2)
        if oracle.remaining < horizon:
            raise ValueError(f"horizon must be at most the {oracle.remaining} periods left; got {horizon}")
        self._validate()
        return self._search(
            Session(oracle, horizon, np.random.default_rng(spawn_seeds(self._seed(None), 1)[0]))
        )

    def _seed(self, random_state: Any) -> Any:
        """Return the seed of a run: what the method was given, else what the constructor was."""
        own = getattr(self, "random_state", None)
        if own is not None:
            spawn_seeds(copy.deepcopy(own), 1)
        return own if random_state is None else random_state


class OneDimensionalPolicy(BanditPolicy):
    """Base of the policies for intervals."""

    @staticmethod
    def _require_interval(session: Session, name: str) -> None:
        if session.dim != 1:
            raise NotImplementedError(f"{name} is for dim=1; the oracle has dim={session.dim}")


def start_point(x0: ArrayLike | None, dim: int) -> Point:
    """Return the starting point: the centre, or `x0` (a number means every coordinate)."""
    if x0 is None:
        return np.full(dim, 0.5)
    try:
        spread = np.broadcast_to(np.asarray(x0, dtype=np.float64), (dim,))
    except (TypeError, ValueError) as error:
        raise ValueError(f"x0 must be a number or {dim} numbers; got {x0!r}") from error
    return check_point("x0", spread, dim)


def _replicate(
    policy: BanditPolicy, env: BanditEnv, times: NDArray[np.int64], task: tuple[int, np.random.SeedSequence]
) -> tuple[Any, ...]:
    index, seed = task
    world, own = (
        np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, part)) for part in range(2)
    )
    env = copy.copy(env).reset(int(times[-1]), np.random.default_rng(world))
    session = Session(env.as_oracle(), int(times[-1]), np.random.default_rng(own))
    x = policy._search(session)
    trace = session.trace() if index == 0 else None
    return env.regret_path(times), x, len(session.rows), session.details, trace
