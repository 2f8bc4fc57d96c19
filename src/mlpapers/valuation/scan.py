"""Scans: the utility of a coalition that grows one player at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["RefitScan", "Scan"]


class Scan(ABC):
    """A coalition that grows from nobody, one player at a time.

    Call :meth:`start`, then :meth:`add` for each player of an order; or :meth:`clear` and :meth:`insert`
    where the utility in between is not wanted.
    """

    @abstractmethod
    def clear(self) -> None:
        """Empty the coalition."""

    @abstractmethod
    def insert(self, player: int) -> None:
        """Let a player enter."""

    @abstractmethod
    def value(self) -> float:
        """Return the utility of those who have entered."""

    def run(self, order: NDArray[np.int64], known: Mapping[int, float]) -> NDArray[np.float64]:
        """Return the utilities (n,) of the first 1, 2, ..., n players of `order`.

        `known` maps numbers of players to utilities that need no evaluation.
        """
        self.clear()
        values = np.empty(len(order))
        for size, player in enumerate(order.tolist(), start=1):
            self.insert(player)
            values[size - 1] = known[size] if size in known else self.value()
        return values

    def start(self) -> float:
        """Empty the coalition and return its utility."""
        self.clear()
        return self.value()

    def add(self, player: int) -> float:
        """Let a player enter and return the utility of those who have entered."""
        self.insert(player)
        return self.value()


class RefitScan(Scan):
    """A scan that evaluates each coalition from scratch.

    Parameters
    ----------
    evaluate : callable
        Maps a sorted index array to the utility.
    n_players : int
    """

    def __init__(self, evaluate: Callable[[NDArray[np.int64]], float], n_players: int) -> None:
        self.evaluate = evaluate
        self.member = np.zeros(n_players, dtype=bool)

    def clear(self) -> None:
        """Empty the coalition."""
        self.member[:] = False

    def insert(self, player: int) -> None:
        """Let a player enter."""
        self.member[player] = True

    def value(self) -> float:
        """Return the utility of those who have entered."""
        return self.evaluate(np.flatnonzero(self.member))
