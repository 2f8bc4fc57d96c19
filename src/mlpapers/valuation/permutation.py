r"""Random orders of arrival that respect groups, weights or precedence, and how many of them are enough."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_int, check_real

__all__ = ["GroupSampler", "PermutationSampler", "check_weights", "open_uniform", "required_permutations"]

# Uniforms are multiples of 2^-53 in the open interval (0, 1), a set that u -> 1 - u maps onto itself exactly.
_RESOLUTION = 2**53


def required_permutations(n: int, epsilon: float, delta: float, r: float = 1.0) -> int:
    r"""Return how many permutation scans bound the error of all values by `epsilon`.

    By Hoeffding's inequality and a union bound over the players, with

    .. math:: m^* = \left\lceil \frac{r^2}{2 \epsilon^2} \ln \frac{2 n}{\delta} \right\rceil

    scans, :math:`\max_i |\hat\phi_i - \phi_i| \le \epsilon` with probability at least :math:`1 - \delta`.

    Parameters
    ----------
    n : int
        Number of players, >= 1.
    epsilon : float
        Largest error allowed, in units of the utility, > 0.
    delta : float
        Probability of a larger error, in (0, 1).
    r : float, default=1.0
        Range (largest minus smallest possible value) of one marginal contribution, > 0. For accuracy,
        marginals lie in [-1, 1], so only ``r=2`` is safe; 1, the paper's choice, needs marginals of one sign.

    Returns
    -------
    int

    References
    ----------
    .. [1] Zheng, Chang, Jia, Tan, "Towards Data Valuation via Asymmetric Data Shapley", Algorithm 1.

    Examples
    --------
    >>> required_permutations(1000, 0.05, 0.05)
    2120
    """
    n = check_int("n", n, minimum=1)
    epsilon = check_real("epsilon", epsilon, low=0.0, closed="neither")
    delta = check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    r = check_real("r", r, low=0.0, closed="neither")
    return math.ceil(r**2 / (2.0 * epsilon**2) * math.log(2.0 * n / delta))


class PermutationSampler(ABC):
    """Draws orders of the players ``0..n_players-1``.

    Attributes
    ----------
    name : str
        Which procedure draws: "groups", "weights", "forest", "counting" or "mcmc".
    n_players : int
    """

    name: str
    n_players: int

    @abstractmethod
    def sample(self, rng: np.random.Generator, *, mirrored: bool = False) -> NDArray[np.int64]:
        """Draw one order.

        Parameters
        ----------
        rng : Generator
            The only source of randomness.
        mirrored : bool, default=False
            Replace every uniform draw u by 1 - u. A generator of the same seed then gives the antithetic
            partner: an order of the same distribution, in each group of equal weights the reverse.

        Returns
        -------
        ndarray of shape (n_players,) of int
            The players, first to last.
        """

    def boundaries(self) -> list[NDArray[np.int64]]:
        """Return the coalitions that every order passes, from the empty one to all players, sorted."""
        return [np.empty(0, dtype=np.int64), np.arange(self.n_players, dtype=np.int64)]


class GroupSampler(PermutationSampler):
    r"""Orders in which earlier groups come before later ones, random inside each group.

    With weights :math:`\lambda` the order inside a group is built from the back: the last one of those that
    remain is player i with probability :math:`\lambda_i / \sum \lambda`. That is the order of
    :math:`E_i / \lambda_i`, descending, with :math:`E_i` independent standard exponentials. Equal weights
    give uniform shuffles.

    Parameters
    ----------
    groups : ndarray of shape (n,) of int
        Codes 0..T-1.
    weights : ndarray of shape (n,), optional
        Positive weights of the players.

    References
    ----------
    .. [1] Kalai, Samet, "On weighted Shapley values", International Journal of Game Theory 16 (1987).
    """

    def __init__(self, groups: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> None:
        self.groups = groups
        self.weights = weights
        self.n_players = len(groups)
        self.name = "groups" if weights is None else "weights"

    def sample(self, rng: np.random.Generator, *, mirrored: bool = False) -> NDArray[np.int64]:
        """Draw one order; see :class:`PermutationSampler`."""
        keys = open_uniform(rng, self.n_players, mirrored=mirrored)
        if self.weights is not None:
            keys = np.log(keys) / self.weights
        return np.lexsort((keys, self.groups))

    def boundaries(self) -> list[NDArray[np.int64]]:
        """Return the unions of the first 0, 1, ..., T groups."""
        n_groups = int(self.groups.max(initial=-1)) + 1
        return [np.flatnonzero(self.groups < group) for group in range(n_groups + 1)]


def open_uniform(rng: np.random.Generator, size: int, *, mirrored: bool = False) -> NDArray[np.float64]:
    """Draw uniforms from the open interval (0, 1); `mirrored` gives exactly one minus the same draws."""
    draws = rng.integers(1, _RESOLUTION, size=size)
    return (_RESOLUTION - draws if mirrored else draws) / _RESOLUTION


def check_weights(player_weights: Any, n_players: int) -> NDArray[np.float64] | None:
    """Return the weights as float64 (n_players,), None where there are none; ValueError unless positive."""
    if player_weights is None:
        return None
    weights = np.asarray(player_weights, dtype=np.float64)
    if weights.shape != (n_players,):
        raise ValueError(
            f"player_weights must have shape ({n_players},), one per player; got {weights.shape}"
        )
    wrong = ~(np.isfinite(weights) & (weights > 0))
    if wrong.any():
        raise ValueError(f"player_weights must be finite and > 0; got {weights[wrong][0]}")
    return weights
