r"""Partial orders of the players and their linear extensions: counted exactly, drawn uniformly."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mlpapers.valuation.permutation import PermutationSampler, open_uniform

__all__ = ["PartialOrder", "PrecedenceSampler", "count_extensions"]

# 2^20 counts of 8 bytes, and 20! < 2^63.
_MAX_COUNTED = 20
_SLOW_CHAIN = 200
_PROPOSALS_AT_ONCE = 1 << 16


class PartialOrder:
    """A partial order on the players ``0..n-1``, the transitive closure of (before, after) pairs.

    Parameters
    ----------
    pairs : iterable of (int, int)
        Who comes before whom.
    n_players : int

    Attributes
    ----------
    precedes : ndarray of shape (n, n) of bool
        The closure: ``precedes[i, j]`` where i comes before j in every consistent order.
    topological : ndarray of shape (n,) of int
        One consistent order.

    Raises
    ------
    ValueError
        If `pairs` are not pairs of players, or contain a cycle.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]], n_players: int) -> None:
        self.n_players = n_players
        edges = _check_pairs(pairs, n_players)
        followers: list[list[int]] = [[] for _ in range(n_players)]
        predecessors: dict[int, list[int]] = {player: [] for player in range(n_players)}
        for before, after in edges:
            followers[before].append(after)
            predecessors[after].append(before)
        try:
            order = list(TopologicalSorter(predecessors).static_order())
        except CycleError as error:
            cycle = " -> ".join(map(str, error.args[1]))
            raise ValueError(f"precedence has a cycle: {cycle}") from error
        self.topological = np.array(order, dtype=np.int64)
        self.precedes = np.zeros((n_players, n_players), dtype=bool)
        for player in reversed(order):
            for follower in followers[player]:
                self.precedes[player, follower] = True
                self.precedes[player] |= self.precedes[follower]

    def covers(self) -> NDArray[np.bool_]:
        """Return the transitive reduction (n, n): i before j with nobody between them."""
        # Sums of at most n ones are exact in float32 up to n = 2^24.
        closure = self.precedes.astype(np.float32)
        return self.precedes & ~((closure @ closure) > 0)

    def restrict(self, members: NDArray[np.int64]) -> PartialOrder:
        """Return the order of `members` among themselves, renumbered 0..len(members)-1."""
        part = PartialOrder((), len(members))
        part.precedes = self.precedes[np.ix_(members, members)]
        rank = np.empty(self.n_players, dtype=np.int64)
        rank[self.topological] = np.arange(self.n_players)
        part.topological = np.argsort(rank[members])
        return part

    def predecessor_masks(self) -> NDArray[np.int64]:
        """Return for each player the bitmask of those who must come before (n <= 62)."""
        bits = np.int64(1) << np.arange(self.n_players, dtype=np.int64)
        return self.precedes.T.astype(np.int64) @ bits


def count_extensions(order: PartialOrder) -> NDArray[np.int64]:
    r"""Count the linear extensions of every set of players that holds its own predecessors.

    .. math:: e(\emptyset) = 1, \qquad e(S) = \sum_{i \text{ maximal in } S} e(S - i)

    Parameters
    ----------
    order : PartialOrder of n <= 20 players

    Returns
    -------
    ndarray of shape (2^n,) of int
        By bitmask; 0 for sets that lack a predecessor of a member.
    """
    n = order.n_players
    masks = np.arange(1 << n, dtype=np.int64)
    closed = np.ones(len(masks), dtype=bool)
    for player, before in enumerate(order.predecessor_masks()):
        closed &= ((masks >> player) & 1 == 0) | (masks & before == before)
    ideals = masks[closed]
    size = np.bitwise_count(ideals)
    counts = np.zeros(len(masks), dtype=np.int64)
    counts[0] = 1
    for k in range(1, n + 1):
        layer = ideals[size == k]
        for player in range(n):
            holders = layer[(layer >> player) & 1 == 1]
            # e is 0 where removing a player that is not maximal leaves no closed set.
            counts[holders] += counts[holders ^ (1 << player)]
    return counts


class PrecedenceSampler(PermutationSampler):
    """Uniform linear extensions of a partial order.

    The connected parts of the order are drawn independently and interleaved by a uniform shuffle. A part
    whose covering relation is a forest (everybody has at most one direct predecessor, or at most one direct
    follower) is drawn by a recursive shuffle, a part of at most 20 players by counting, both exactly; any
    other by the Karzanov-Khachiyan chain.

    Parameters
    ----------
    order : PartialOrder

    Attributes
    ----------
    name : {"forest", "counting", "mcmc"}
        The least exact of the procedures in use.
    """

    def __init__(self, order: PartialOrder) -> None:
        self.n_players = order.n_players
        covers = order.covers()
        n_parts, part_of = connected_components(coo_array(covers), directed=False)
        self.parts: list[tuple[NDArray[np.int64], _Extensions]] = []
        by_part = np.argsort(part_of, kind="stable")
        for members in np.split(by_part, np.cumsum(np.bincount(part_of, minlength=n_parts))[:-1]):
            if len(members) > 1:
                self.parts.append(
                    (members, _choose(order.restrict(members), covers[np.ix_(members, members)]))
                )
        in_use = {part.name for _, part in self.parts}
        self.name = next((name for name in ("mcmc", "counting") if name in in_use), "forest")

    def sample(self, rng: np.random.Generator, *, mirrored: bool = False) -> NDArray[np.int64]:
        """Draw one order; see :class:`PermutationSampler`."""
        order = np.argsort(open_uniform(rng, self.n_players, mirrored=mirrored))
        place = np.empty_like(order)
        place[order] = np.arange(self.n_players)
        for members, part in self.parts:
            order[np.sort(place[members])] = members[part.sample(rng, mirrored=mirrored)]
        return order


class _Extensions(ABC):
    """Uniform linear extensions of one connected part."""

    name: str

    @abstractmethod
    def sample(self, rng: np.random.Generator, *, mirrored: bool) -> NDArray[np.int64]: ...


def _choose(order: PartialOrder, covers: NDArray[np.bool_]) -> _Extensions:
    if (covers.sum(axis=0) <= 1).all():
        return _Forest(order, covers, roots_first=True)
    if (covers.sum(axis=1) <= 1).all():
        return _Forest(order, covers.T, roots_first=False)
    if order.n_players <= _MAX_COUNTED:
        return _Counted(order)
    return _Chain(order)


class _Forest(_Extensions):
    """A rooted tree: the smallest key of a subtree goes to its root, from the top down.

    Exchanging the key of the root with the smallest leaves a uniformly random assignment of the others: each
    outcome has one preimage per place where the smallest key may have stood.
    """

    name = "forest"

    def __init__(self, order: PartialOrder, parent_of: NDArray[np.bool_], *, roots_first: bool) -> None:
        n = order.n_players
        children = [np.flatnonzero(row) for row in parent_of]
        sequence: list[int] = []
        stack = [int(np.flatnonzero(~parent_of.any(axis=0))[0])]
        while stack:
            node = stack.pop()
            sequence.append(node)
            stack.extend(int(child) for child in children[node])
        self.preorder = np.array(sequence, dtype=np.int64)
        size = np.ones(n, dtype=np.int64)
        for node in reversed(sequence):
            size[node] += size[children[node]].sum()
        self.subtree = size[self.preorder]
        self.roots_first = roots_first

    def sample(self, rng: np.random.Generator, *, mirrored: bool) -> NDArray[np.int64]:
        keys = open_uniform(rng, len(self.preorder), mirrored=mirrored)
        _settle_keys(keys, self.subtree)
        order = self.preorder[np.argsort(keys)]
        return order if self.roots_first else order[::-1]


class _Counted(_Extensions):
    """Built from the back: the last of S is i with probability e(S - i) / e(S)."""

    name = "counting"

    def __init__(self, order: PartialOrder) -> None:
        self.counts = count_extensions(order)
        self.bits = np.int64(1) << np.arange(order.n_players, dtype=np.int64)

    def sample(self, rng: np.random.Generator, *, mirrored: bool) -> NDArray[np.int64]:
        n = len(self.bits)
        draws = open_uniform(rng, n, mirrored=mirrored)
        order = np.empty(n, dtype=np.int64)
        remaining = (1 << n) - 1
        for place in range(n - 1, -1, -1):
            ways = np.where(remaining & self.bits, self.counts[remaining & ~self.bits], 0).cumsum()
            last = int(np.searchsorted(ways, draws[place] * ways[-1], side="right"))
            order[place] = last
            remaining &= ~(1 << last)
        return order


class _Chain(_Extensions):
    """Random exchanges of neighbours that may be exchanged; uniform after about n^3 log n proposals.

    References
    ----------
    Karzanov, Khachiyan, "On the conductance of order Markov chains", Order 8 (1991).
    """

    name = "mcmc"

    def __init__(self, order: PartialOrder) -> None:
        self.start = order.topological
        self.precedes = order.precedes
        n = order.n_players
        self.n_proposals = math.ceil(n**3 * math.log(n) / 2)
        if n > _SLOW_CHAIN:
            warnings.warn(
                f"precedence ties {n} players together: each order takes {self.n_proposals:.1e} steps of a "
                f"Markov chain; up to {_SLOW_CHAIN} players are quick",
                UserWarning,
                stacklevel=2,
            )

    def sample(self, rng: np.random.Generator, *, mirrored: bool) -> NDArray[np.int64]:
        order = self.start.copy()
        for done in range(0, self.n_proposals, _PROPOSALS_AT_ONCE):
            size = min(_PROPOSALS_AT_ONCE, self.n_proposals - done)
            draws = rng.integers(0, 2 * (len(order) - 1), size=size)
            _exchange(order, self.precedes, draws, 1 if mirrored else 0)
        return order


@njit(cache=True, nogil=True)
def _settle_keys(keys: Any, subtree: Any) -> None:
    for root in range(len(keys)):
        smallest = root
        for node in range(root + 1, root + subtree[root]):
            if keys[node] < keys[smallest]:
                smallest = node
        keys[root], keys[smallest] = keys[smallest], keys[root]


@njit(cache=True, nogil=True)
def _exchange(order: Any, precedes: Any, draws: Any, coin: Any) -> None:
    for draw in draws:
        place = draw >> 1
        first, second = order[place], order[place + 1]
        if draw & 1 == coin and not precedes[first, second]:
            order[place], order[place + 1] = second, first


def _check_pairs(pairs: Any, n_players: int) -> NDArray[np.int64]:
    listed = list(pairs)
    if not listed:
        return np.empty((0, 2), dtype=np.int64)
    try:
        edges = np.asarray(listed)
    except ValueError as error:
        raise ValueError("precedence must be a list of (before, after) pairs of players") from error
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(
            "precedence must be a list of (before, after) pairs of integers; "
            f"got an array of shape {edges.shape} and dtype {edges.dtype}"
        )
    outside = edges[(edges < 0) | (edges >= n_players)]
    if outside.size:
        raise ValueError(f"precedence must name players in [0, {n_players}); got {outside[0]}")
    return edges.astype(np.int64)
