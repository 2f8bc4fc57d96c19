"""What all environments share: periods, queries, regret, and the barrier between them and a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from mlpapers.bandits.oracle import (
    ComparisonOracle,
    ComparisonResult,
    Point,
    check_periods,
    check_point,
)
from mlpapers.core.validation import check_int, check_rng

__all__ = ["BanditEnv"]

# Members of an oracle -> the environment's attribute; parameters may be called dim or gamma, too.
_MEMBERS = {
    "dim": "_dim",
    "gamma": "_gamma",
    **{name: name for name in ("bounds", "compare", "hints", "horizon", "play", "remaining")},
}


class BanditEnv(BaseEstimator, ABC):
    """Base of the environments: a system with T periods that answers comparisons and knows its regret.

    A policy never gets the environment itself, only :meth:`as_oracle`. ``value``, ``f_star``, ``maximiser``
    and everything with a trailing underscore is for evaluation.

    Attributes
    ----------
    t_ : int
        Periods played since :meth:`reset`.
    regret_ : float
        Cumulative regret.
    n_queries_ : int
        Comparisons answered.

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> env = ConcaveFunctionEnv().reset(horizon=1000, random_state=0)
    >>> answer = env.as_oracle().compare([0.4], [0.9], n=100)
    >>> isinstance(env, BanditEnv), env.remaining, env.n_queries_
    (True, 900, 1)
    """

    # Members beyond the protocol that a policy may see; subclasses extend it.
    _shared: frozenset[str] = frozenset()

    @abstractmethod
    def _build(self) -> Any:
        """Validate the parameters and return an immutable model of the system."""

    @abstractmethod
    def _query(self, x: Point, x_prime: Point, n: int) -> ComparisonResult:
        """Play n - n//2 periods at x, n//2 at x' and estimate the difference."""

    @abstractmethod
    def _play(self, x: Point, n: int) -> float:
        """Play n periods at x and return the observed mean reward."""

    def _start(self) -> None:
        """Prepare the state of the system for the first period."""

    @property
    def model(self) -> Any:
        """The validated, immutable description of the system; built when the parameters have changed."""
        params = tuple(self.get_params(deep=False).values())
        built = getattr(self, "_built", None)
        if built is None or any(old is not new for old, new in zip(built[0], params)):
            self._built = built = (params, self._build())
        return built[1]

    @property
    def f_star(self) -> float:
        """The largest mean reward per period that the benchmark attains."""
        return float(self.model.f_star)

    @property
    def maximiser(self) -> Point:
        """A point that attains ``f_star``, shape (dim,)."""
        return np.array(self.model.x_star)

    @property
    def hints(self) -> dict[str, float]:
        """Constants that the environment declares: ``sigma``, ``smoothness``, costs; where it knows them."""
        return dict(self.model.hints)

    @property
    def horizon(self) -> int:
        """Periods in all; RuntimeError before :meth:`reset`."""
        self._require_reset()
        return int(self._horizon)

    @property
    def remaining(self) -> int:
        """Periods that are left; RuntimeError before :meth:`reset`."""
        self._require_reset()
        return int(self._horizon - self.t_)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Bounds of the coordinates, shape (dim, 2)."""
        return np.tile([0.0, 1.0], (self.model.dim, 1))

    @property
    def history_(self) -> NDArray[np.float64]:
        """One row per query: periods played when it ended, cumulative regret; shape (n_queries, 2)."""
        return np.array(self._queries, dtype=np.float64).reshape(-1, 2)

    def reset(self, horizon: int, random_state: Any = None) -> Self:
        """Begin anew.

        Parameters
        ----------
        horizon : int
            Periods, at least 2.
        random_state : int, Generator, RandomState, SeedSequence or None

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Where a parameter of the environment or `horizon` is impossible.
        """
        horizon = check_int("horizon", horizon, minimum=2)
        self._state = self.model
        self._gamma = tuple(self._state.gamma)
        self._dim = int(self._state.dim)
        self._horizon = horizon
        self._rng = check_rng(random_state)
        self._queries: list[tuple[int, float]] = []
        self._breaks: list[tuple[int, float]] = [(0, 0.0)]
        self.t_ = 0
        self.regret_ = 0.0
        self.n_queries_ = 0
        self._start()
        return self

    def compare(self, x: ArrayLike, x_prime: ArrayLike, n: int) -> ComparisonResult | None:
        """Spend min(n, remaining) periods, ceil(n/2) at x, then floor(n/2) at x'; estimate f(x) - f(x').

        Returns
        -------
        ComparisonResult or None
            None iff fewer than two periods remain; the last one, if any, is played at x.

        Raises
        ------
        ValueError
            For a point outside the unit cube, NaN, a wrong shape, or n that is no integer >= 2.
        RuntimeError
            Before :meth:`reset`.
        """
        self._require_reset()
        x, x_prime = check_point("x", x, self._dim), check_point("x_prime", x_prime, self._dim)
        n = check_periods(n, minimum=2)
        left = self._horizon - self.t_
        if left < 2:
            if left:
                self._play(x, 1)
            return None
        result = self._query(x, x_prime, min(n, left))
        self.n_queries_ += 1
        self._queries.append((self.t_, self.regret_))
        return result

    def play(self, x: ArrayLike, n: int) -> float | None:
        """Spend min(n, remaining) periods at x; return the observed mean reward, None where none remain."""
        self._require_reset()
        x, n = check_point("x", x, self._dim), check_periods(n, minimum=1)
        left = self._horizon - self.t_
        return self._play(x, min(n, left)) if left else None

    def as_oracle(self) -> ComparisonOracle:
        """Return what a policy may see of this environment: the oracle's members, nothing else."""
        self._require_reset()
        return _Oracle(self)

    def regret_path(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cumulative regret after each of `times` periods; linear between changes of action."""
        self._require_reset()
        t, regret = np.array(self._breaks, dtype=np.float64).T
        return np.interp(np.asarray(times, dtype=np.float64), t, regret)

    def __getstate__(self) -> dict[str, Any]:
        # The built model may hold functions that cannot be pickled; it follows from the parameters.
        return {
            key: value for key, value in super().__getstate__().items() if key not in ("_built", "_state")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_horizon" in state:
            self._state = self.model

    def _advance(self, n: int, regret: float) -> None:
        self.t_ += n
        self.regret_ += regret
        self._breaks.append((self.t_, self.regret_))

    def _require_reset(self) -> None:
        if not hasattr(self, "_horizon"):
            raise RuntimeError(f"{type(self).__name__} must be reset(horizon) before it is used")


class _Oracle:
    """A view of an environment that holds no reference to it which an attribute would give away."""

    __slots__ = ("__ask",)

    def __init__(self, env: BanditEnv) -> None:
        members = {**_MEMBERS, **{name: name for name in env._shared}}

        def ask(name: str, *arguments: Any) -> Any:
            if name not in members:
                raise AttributeError(f"a comparison oracle has no attribute {name!r}")
            value = getattr(env, members[name])
            if arguments:
                return value(*arguments)
            # A bound method would carry the environment in __self__.
            return (lambda *given: ask(name, *given)) if callable(value) else value

        self.__ask: Callable[..., Any] = ask

    @property
    def dim(self) -> int:
        return int(self.__ask("dim"))

    @property
    def gamma(self) -> tuple[float, float]:
        gamma1, gamma2 = self.__ask("gamma")
        return gamma1, gamma2

    @property
    def remaining(self) -> int:
        return int(self.__ask("remaining"))

    def compare(self, x: ArrayLike, x_prime: ArrayLike, n: int) -> ComparisonResult | None:
        answer: ComparisonResult | None = self.__ask("compare", x, x_prime, n)
        return answer

    def play(self, x: ArrayLike, n: int) -> float | None:
        answer: float | None = self.__ask("play", x, n)
        return answer

    def __getattr__(self, name: str) -> Any:
        return self.__ask(name)
