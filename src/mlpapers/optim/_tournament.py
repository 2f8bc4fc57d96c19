"""A tournament: the largest of d keys, kept up to date in O(log d) per changed key."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Tournament"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Tournament:
    """A complete binary tree over keys; each node holds the index of the larger of its two children's keys.

    Parameters
    ----------
    keys : ndarray of shape (d,)
        Owned by the tournament from now on.

    Attributes
    ----------
    played : int
        Matches since the beginning, the measure of what it cost.
    """

    def __init__(self, keys: Array) -> None:
        self.keys = keys
        leaves = 1 << max(len(keys) - 1, 0).bit_length()
        self.tree = np.full(2 * leaves, -1, dtype=np.int64)
        self.tree[leaves : leaves + len(keys)] = np.arange(len(keys))
        _play_all(self.keys, self.tree)
        self.played = leaves - 1

    @property
    def winner(self) -> int:
        """Index of the largest key, the lowest one in ties."""
        return int(self.tree[1])

    def change(self, k: Ints, keys: Array) -> None:
        """Give the members `k` new keys."""
        self.keys[k] = keys
        self.played += _play_above(self.keys, self.tree, k)


@njit(cache=True)
def _match(keys: Array, a: int, b: int) -> int:
    """Return the winner; members are met in order, so that the left one is the lower and wins ties."""
    if b < 0:
        return a
    return b if keys[b] > keys[a] else a


@njit(cache=True)
def _play_all(keys: Array, tree: Ints) -> None:
    for node in range(len(tree) // 2 - 1, 0, -1):
        tree[node] = _match(keys, tree[2 * node], tree[2 * node + 1])


@njit(cache=True)
def _play_above(keys: Array, tree: Ints, members: Ints) -> int:
    played = 0
    for k in members:
        node = (len(tree) // 2 + k) // 2
        while node >= 1:
            tree[node] = _match(keys, tree[2 * node], tree[2 * node + 1])
            node //= 2
            played += 1
    return played
