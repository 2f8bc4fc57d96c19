"""Exact values of small games by enumeration, and their Harsanyi dividends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.core.validation import check_int, relabel_groups
from mlpapers.valuation._games import Game, as_game
from mlpapers.valuation._precedence import PartialOrder, count_extensions
from mlpapers.valuation.permutation import check_weights

__all__ = ["ExactValues", "enumerate_values", "exact_shapley", "harsanyi_dividends"]

_LastProbability = Callable[[NDArray[np.int64], int], NDArray[np.float64]]

_MAX_PLAYERS = 20
_COALITIONS_PER_TASK = 256


def exact_shapley(
    v: Callable[[NDArray[np.int64]], float],
    n_players: int,
    groups: ArrayLike | None = None,
    player_weights: ArrayLike | None = None,
    *,
    precedence: Iterable[tuple[int, int]] | None = None,
) -> NDArray[np.float64]:
    r"""Exact Shapley values of a game: symmetric, asymmetric, weighted, or under precedence constraints.

    With :math:`U_t` the players of earlier groups, the members of group t play :math:`w(S) = v(U_t \cup S) -
    v(U_t)`. Let the coalition form in a random order, built from the back: the last of those in S is i with
    probability :math:`p(i \mid S)`, and :math:`R(S)` is the probability that S are the first :math:`|S|`.
    Then

    .. math:: \phi_i = \sum_{S \ni i} R(S)\, p(i \mid S)\, \big( w(S) - w(S - i) \big),

    where p is 1/\|S\| for plain Shapley values, :math:`\lambda_i / \sum_S \lambda` with weights [1]_, and
    :math:`e(S - i) / e(S)`, e counting linear extensions, with precedence (uniform over all consistent
    orders).

    Parameters
    ----------
    v : callable
        Maps a sorted index array to the utility of these players.
    n_players : int
    groups : array-like of shape (n_players,) of int, optional
        Smaller = earlier. At most 20 players in each group.
    player_weights : array-like of shape (n_players,), optional
        Weights :math:`\lambda > 0`.
    precedence : iterable of (before, after), optional
        Partial order of at most 20 players; without `groups` and `player_weights`.

    Returns
    -------
    ndarray of shape (n_players,)
        In units of v; they sum to v(all) - v(nobody), group by group.

    Raises
    ------
    ValueError
        If a group has more than 20 players, an argument is malformed, or v is not finite (with the subset
        size).

    References
    ----------
    .. [1] Kalai, Samet, "On weighted Shapley values", International Journal of Game Theory 16 (1987).

    Examples
    --------
    >>> exact_shapley(lambda S: float(len(S) > 0), 3).round(4).tolist()
    [0.3333, 0.3333, 0.3333]
    >>> exact_shapley(lambda S: float(len(S) > 0), 3, groups=[0, 1, 2]).tolist()
    [1.0, 0.0, 0.0]
    """
    n_players = check_int("n_players", n_players, minimum=1)
    codes, order, weights = check_structure(n_players, groups, precedence, player_weights)
    game = as_game(v, n_players)
    return enumerate_values(game, codes, order=order, weights=weights, limit=_MAX_PLAYERS).values


def harsanyi_dividends(v: Callable[[NDArray[np.int64]], float], n_players: int) -> NDArray[np.float64]:
    r"""Harsanyi dividends of a game, the coefficients of its unanimity games.

    .. math:: d(R) = \sum_{Q \subseteq R} (-1)^{|R| - |Q|} v(Q), \qquad v(S) = \sum_{R \subseteq S} d(R).

    Parameters
    ----------
    v : callable
        Maps a sorted index array to the utility of these players.
    n_players : int
        At most 20.

    Returns
    -------
    ndarray of shape (2^n_players,)
        By bitmask: entry ``sum(2**i for i in R)`` is d(R).

    Raises
    ------
    ValueError
        If there are more than 20 players, or v is not finite (with the subset size).

    Examples
    --------
    >>> harsanyi_dividends(lambda S: float(len(S) ** 2), 2).tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    n = check_int("n_players", n_players, minimum=1, maximum=_MAX_PLAYERS)
    dividends, _ = _coalition_utilities(as_game(v, n), np.empty(0, dtype=np.int64), np.arange(n))
    for player in range(n):
        halves = dividends.reshape(-1, 2, 1 << player)
        halves[:, 1] -= halves[:, 0]
    return dividends


@dataclass(frozen=True, eq=False)
class ExactValues:
    """Values by enumeration, with the utilities at both ends and the number of coalitions evaluated."""

    values: NDArray[np.float64]
    total_utility: float
    empty_utility: float
    n_evaluations: int


def check_structure(
    n_players: int, groups: Any, precedence: Any, player_weights: Any
) -> tuple[NDArray[np.int64], PartialOrder | None, NDArray[np.float64] | None]:
    """Return group codes, partial order and weights; ValueError where they are malformed or contradictory."""
    if precedence is not None and groups is not None:
        raise ValueError("groups and precedence must not be given together: precedence can express groups")
    if precedence is not None and player_weights is not None:
        raise ValueError(
            "player_weights and precedence must not be given together: weights act inside groups"
        )
    order = None if precedence is None else PartialOrder(precedence, n_players)
    return relabel_groups("groups", groups, n_players), order, check_weights(player_weights, n_players)


def enumerate_values(
    game: Game,
    groups: NDArray[np.int64],
    *,
    order: PartialOrder | None = None,
    weights: NDArray[np.float64] | None = None,
    size_weights: NDArray[np.float64] | None = None,
    limit: int = _MAX_PLAYERS,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> ExactValues:
    """Return exact values; see :func:`exact_shapley`.

    Parameters
    ----------
    game : Game
    groups : ndarray of shape (n,) of int
        Codes 0..T-1.
    order : PartialOrder, optional
        For one group without weights.
    weights : ndarray of shape (n,), optional
    size_weights : ndarray of shape (n,), optional
        Factor of the marginal contributions to k others, for semivalues of one group.
    limit : int
        Largest group allowed.
    n_jobs, verbose
        Evaluations are spread over workers in fixed chunks.
    """
    sizes = np.bincount(groups)
    if sizes.max() > limit:
        raise ValueError(
            f"exact enumeration takes groups of at most {limit} players; group {int(sizes.argmax())} has "
            f"{sizes.max()} (use method='mc')"
        )
    values = np.empty(game.n_players)
    n_evaluations = 0
    base_utility = empty_utility = 0.0
    for group in range(len(sizes)):
        members = np.flatnonzero(groups == group)
        counts = None if order is None else count_extensions(order)
        utilities, n_new = _coalition_utilities(
            game,
            np.flatnonzero(groups < group),
            members,
            base_utility=None if group == 0 else base_utility,
            wanted=None if counts is None else counts > 0,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        if group == 0:
            empty_utility = float(utilities[0])
        base_utility = float(utilities[-1])
        n_evaluations += n_new
        if counts is not None:
            values[members] = _values_from_the_back(utilities, _last_by_extensions(counts), counts > 0)
        elif weights is not None:
            values[members] = _values_from_the_back(utilities, _last_by_weights(weights[members]))
        else:
            values[members] = _semivalues(utilities, size_weights)
    return ExactValues(values, base_utility, empty_utility, n_evaluations)


def _coalition_utilities(
    game: Game,
    base: NDArray[np.int64],
    members: NDArray[np.int64],
    *,
    base_utility: float | None = None,
    wanted: NDArray[np.bool_] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> tuple[NDArray[np.float64], int]:
    """Return the utilities of `base` and each subset of `members`, by bitmask, and how many were evaluated.

    `base_utility` is that of `base` alone where it is known; masks that are not `wanted` are left 0.
    """
    masks = np.arange(1 << len(members)) if wanted is None else np.flatnonzero(wanted)
    utilities = np.zeros(1 << len(members))
    if base_utility is not None:
        utilities[0] = base_utility
        masks = masks[1:]
    tasks = [masks[chunk] for chunk in chunk_slices(len(masks), _COALITIONS_PER_TASK)]
    results = parallel_map(
        _evaluate_masks, tasks, n_jobs=n_jobs, shared=(game, base, members), verbose=verbose
    )
    for task, result in zip(tasks, results):
        utilities[task] = result
    return utilities, len(masks)


def _evaluate_masks(
    game: Game, base: NDArray[np.int64], members: NDArray[np.int64], masks: NDArray[np.int64]
) -> list[float]:
    bits = np.arange(len(members))
    results = []
    for mask in masks:
        chosen = members[(mask >> bits) & 1 == 1]
        results.append(game.evaluate(np.sort(np.concatenate([base, chosen]))))
    return results


def _semivalues(
    utilities: NDArray[np.float64], size_weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    r"""Weigh marginals to k others by :math:`w_k / (m \binom{m-1}{k})`; w = 1 are Shapley values."""
    m = len(utilities).bit_length() - 1
    # C(m-1, k) by recursion: at most C(19, 9), exact in float64.
    binomial = np.ones(m)
    for k in range(1, m):
        binomial[k] = binomial[k - 1] * (m - k) / k
    coefficient = (np.ones(m) if size_weights is None else size_weights) / (m * binomial)
    by_mask = coefficient[np.minimum(np.bitwise_count(np.arange(len(utilities))), m - 1)]
    values = np.empty(m)
    for player in range(m):
        halves = utilities.reshape(-1, 2, 1 << player)
        without = by_mask.reshape(-1, 2, 1 << player)[:, 0]
        values[player] = (without * (halves[:, 1] - halves[:, 0])).sum()
    return values


def _values_from_the_back(
    utilities: NDArray[np.float64],
    last: _LastProbability,
    reachable: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Sum R(S) p(i | S) (w(S) - w(S - i)) from the largest coalition down; ``last(S, i)`` is p(i | S)."""
    m = len(utilities).bit_length() - 1
    masks = np.arange(len(utilities)) if reachable is None else np.flatnonzero(reachable)
    size = np.bitwise_count(masks)
    reach = np.zeros(len(utilities))
    reach[-1] = 1.0
    values = np.zeros(m)
    for k in range(m, 0, -1):
        layer = masks[size == k]
        for player in range(m):
            holders = layer[(layer >> player) & 1 == 1]
            without = holders ^ (1 << player)
            flow = reach[holders] * last(holders, player)
            values[player] += (flow * (utilities[holders] - utilities[without])).sum()
            reach[without] += flow
    return values


def _last_by_extensions(counts: NDArray[np.int64]) -> _LastProbability:
    """Return p(i | S) = e(S - i) / e(S)."""

    def probability(coalitions: NDArray[np.int64], player: int) -> NDArray[np.float64]:
        return np.asarray(counts[coalitions ^ (1 << player)] / counts[coalitions])

    return probability


def _last_by_weights(weights: NDArray[np.float64]) -> _LastProbability:
    """Return p(i | S), the share of i in the weight of S."""
    sums = np.zeros(1)
    for weight in weights:
        sums = np.concatenate([sums, sums + weight])

    def probability(coalitions: NDArray[np.int64], player: int) -> NDArray[np.float64]:
        return np.asarray(weights[player] / sums[coalitions])

    return probability
