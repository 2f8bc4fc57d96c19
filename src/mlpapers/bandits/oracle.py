"""The pairwise comparison oracle: all that a policy may ask of the system it optimises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int, check_real

__all__ = ["ComparisonOracle", "ComparisonOracleFromSimulator", "ComparisonResult", "required_periods"]

Point = NDArray[np.float64]

# How far outside the unit cube rounding may put a point; it is then moved to the nearest point of the cube.
_CUBE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ComparisonResult:
    r"""The answer to one query: an estimate of :math:`f(x) - f(x')` from n consecutive periods.

    Attributes
    ----------
    diff : float
        Estimates f(x) - f(x'); it may be biased.
    n, n_x, n_xp : int
        Periods spent, in all, at x (first) and at x'.
    gamma1, gamma2 : float
        The error is at most :math:`\sqrt{(\gamma_1 + \gamma_2 \ln(1/\delta)) / n}` with probability
        :math:`1 - \delta`, for every :math:`\delta`.
    aux : tuple of two ndarrays of shape (m,), optional
        Mean consumption of m resources per period at x and at x'.
    """

    diff: float
    n: int
    n_x: int
    n_xp: int
    gamma1: float
    gamma2: float
    aux: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def width(self, delta: float) -> float:
        r"""Return :math:`\sqrt{(\gamma_1 + \gamma_2 \ln(1/\delta)) / n}`; ValueError unless 0 < delta < 1."""
        check_real("delta", delta, low=0.0, high=1.0, closed="neither")
        return math.sqrt((self.gamma1 + self.gamma2 * math.log(1.0 / delta)) / self.n)

    def required_periods(self, max_error: float, delta: float) -> int:
        """Return the least n whose answer errs by at most `max_error` with probability 1 - delta.

        See :func:`required_periods`.
        """
        return required_periods(max_error, delta, (self.gamma1, self.gamma2))


@runtime_checkable
class ComparisonOracle(Protocol):
    """What a system offers to be optimised; implement these five members for your own.

    Optional attributes, read with a default: ``hints`` (dict with ``sigma`` and ``smoothness``),
    ``capacity_left`` (m,), ``play_level(x, level, n) -> (levels, sales)``, ``horizon``, ``bounds``.

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> oracle = ConcaveFunctionEnv().reset(horizon=100, random_state=0).as_oracle()
    >>> isinstance(oracle, ComparisonOracle), oracle.dim, oracle.remaining
    (True, 1, 100)
    """

    @property
    def dim(self) -> int:
        """Number of coordinates of a point; points lie in the unit cube."""

    @property
    def gamma(self) -> tuple[float, float]:
        """The constants (gamma1, gamma2) of the error bound."""

    @property
    def remaining(self) -> int:
        """Periods that are left."""

    def compare(self, x: ArrayLike, x_prime: ArrayLike, n: int) -> ComparisonResult | None:
        """Spend min(n, remaining) periods, first half at x, and estimate f(x) - f(x').

        None iff fewer than two periods remain; the last one, if any, is then played at x.
        """

    def play(self, x: ArrayLike, n: int) -> float | None:
        """Spend min(n, remaining) periods at x; return the observed mean reward, None where none remain."""


class ComparisonOracleFromSimulator:
    """A comparison oracle made of a simulator ``simulate(x, n) -> mean reward of n periods at x``.

    Parameters
    ----------
    simulate : callable
        ``simulate(x, n)`` with x of shape (dim,); returns a finite number.
    dim : int
    gamma : (float, float)
        Constants of the error of the difference of two halves, see :class:`ComparisonResult`.
    horizon : int, optional
        Periods until ``remaining`` is 0; unlimited (2**62) by default.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.bandits import InexactProximalGradient
    >>> rng = np.random.default_rng(0)
    >>> def mean_sales(x, n):
    ...     return 1.0 - (x[0] - 0.7) ** 2 + rng.normal(scale=0.1 / np.sqrt(n))
    >>> shop = ComparisonOracleFromSimulator(mean_sales, dim=1, gamma=(0.0, 0.08), horizon=20_000)
    >>> x = InexactProximalGradient(sigma=2.0, M=2.0).optimize(shop, 20_000)
    >>> bool(abs(x[0] - 0.7) < 0.1)
    True
    """

    def __init__(
        self,
        simulate: Callable[[Point, int], float],
        dim: int,
        gamma: tuple[float, float],
        *,
        horizon: int | None = None,
    ) -> None:
        if not callable(simulate):
            raise TypeError(f"simulate must be callable as simulate(x, n); got {simulate!r}")
        self.simulate = simulate
        self.dim = check_int("dim", dim, minimum=1)
        self.gamma = check_gamma(gamma)
        self.horizon = 2**62 if horizon is None else check_int("horizon", horizon, minimum=2)
        self.remaining = self.horizon

    def compare(self, x: ArrayLike, x_prime: ArrayLike, n: int) -> ComparisonResult | None:
        """See :meth:`ComparisonOracle.compare`."""
        x, x_prime = check_point("x", x, self.dim), check_point("x_prime", x_prime, self.dim)
        n = check_periods(n, minimum=2)
        if self.remaining < 2:
            if self.remaining:
                self.play(x, 1)
            return None
        n = min(n, self.remaining)
        n_x, n_xp = n - n // 2, n // 2
        first, second = self._mean(x, n_x), self._mean(x_prime, n_xp)
        return ComparisonResult(first - second, n, n_x, n_xp, *self.gamma)

    def play(self, x: ArrayLike, n: int) -> float | None:
        """See :meth:`ComparisonOracle.play`."""
        x, n = check_point("x", x, self.dim), check_periods(n, minimum=1)
        return self._mean(x, min(n, self.remaining)) if self.remaining else None

    def _mean(self, x: Point, n: int) -> float:
        self.remaining -= n
        answer = self.simulate(x, n)
        try:
            reward = float(np.asarray(answer, dtype=np.float64).reshape(()))
        except (TypeError, ValueError):
            reward = math.nan
        if not math.isfinite(reward):
            raise ValueError(f"simulate must return a finite number; got {answer!r} at x={x.tolist()}, n={n}")
        return reward


def required_periods(max_error: float, delta: float, gamma: tuple[float, float]) -> int:
    r"""Return how long a comparison must be: the least even n with an error of at most `max_error`.

    .. math:: n = \max\bigl(2, \lceil (\gamma_1 + \gamma_2 \ln(1/\delta)) / \mathrm{max\_error}^2 \rceil\bigr)

    rounded up to an even number, so that both points get half. It is the sample size of an A/B test that is
    to err by no more with probability :math:`1 - \delta`; splitting it into shorter tests would not do.

    Parameters
    ----------
    max_error : float > 0
    delta : float in (0, 1)
        Probability of a larger error.
    gamma : (float, float)
        Constants of the oracle.

    Returns
    -------
    n : int

    Raises
    ------
    ValueError
        For an impossible argument.

    Examples
    --------
    >>> required_periods(0.1, 0.05, (0.0, 0.16))
    48
    """
    max_error = check_real("max_error", max_error, low=0.0, closed="neither")
    delta = check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    gamma1, gamma2 = check_gamma(gamma)
    needed = math.ceil((gamma1 + gamma2 * math.log(1.0 / delta)) / max_error**2)
    return max(2, needed + needed % 2)


def check_gamma(gamma: Any) -> tuple[float, float]:
    """Return (gamma1, gamma2) as floats; ValueError unless it is a pair of non-negative numbers."""
    if not isinstance(gamma, tuple | list) or len(gamma) != 2:
        raise ValueError(f"gamma must be a pair (gamma1, gamma2); got {gamma!r}")
    return check_real("gamma", gamma[0], low=0.0), check_real("gamma", gamma[1], low=0.0)


def check_periods(n: Any, *, minimum: int) -> int:
    """Return `n` as an int; ValueError where it is no integer or below `minimum`."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < minimum:
        raise ValueError(f"n must be an integer >= {minimum}; got {n!r}")
    return int(n)


def check_point(name: str, x: Any, dim: int) -> Point:
    """Return a point of [0,1]^dim as a new float array; ValueError where it is none."""
    try:
        point = np.array(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of {dim} numbers; got {x!r}") from error
    if point.ndim == 0 and dim == 1:
        point = point.reshape(1)
    if point.shape != (dim,):
        raise ValueError(f"{name} must have shape ({dim},); got {point.shape}")
    # NaN fails both comparisons.
    if not (point.min() >= -_CUBE_TOLERANCE and point.max() <= 1.0 + _CUBE_TOLERANCE):
        raise ValueError(f"{name} must lie in [0, 1]^{dim}; got {point.tolist()}")
    return point.clip(0.0, 1.0)
