"""Games: a number of players and the utility of each set of them, evaluated at once or as the set grows."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlpapers.valuation.scan import RefitScan, Scan
from mlpapers.valuation.utility import check_finite


@runtime_checkable
class Game(Protocol):
    """What enumeration and sampling need."""

    @property
    def n_players(self) -> int:
        """Return the number of players."""
        ...

    def evaluate(self, players: NDArray[np.int64]) -> float:
        """Return the utility of a sorted index array."""
        ...

    def scan(self, *, incremental: bool = True) -> Scan:
        """Return a growing coalition."""
        ...


class CallableGame:
    """A function of a sorted index array; its values must be finite."""

    def __init__(self, v: Callable[[NDArray[np.int64]], float], n_players: int) -> None:
        self.v = v
        self.n_players = n_players

    def evaluate(self, players: NDArray[np.int64]) -> float:
        """Return the utility of a sorted index array."""
        value = self.v(players)
        try:
            return check_finite(value, len(players))
        except TypeError as error:
            raise TypeError(f"v must return one number; got {reprlib.repr(value)}") from error

    def scan(self, *, incremental: bool = True) -> Scan:  # noqa: ARG002 - part of the protocol
        """Return a growing coalition, evaluated from scratch each time."""
        return RefitScan(self.evaluate, self.n_players)


class BlockGame:
    """Players of another game united into blocks that enter at once.

    Parameters
    ----------
    game : Game
    blocks : sequence of ndarray of int
        The players behind each block.
    """

    def __init__(self, game: Game, blocks: Sequence[NDArray[np.int64]]) -> None:
        self.game = game
        self.blocks = blocks
        self.n_players = len(blocks)

    def evaluate(self, players: NDArray[np.int64]) -> float:
        """Return the utility of a sorted index array of blocks."""
        inner = [self.blocks[block] for block in players]
        return self.game.evaluate(np.sort(np.concatenate(inner)) if inner else np.empty(0, dtype=np.int64))

    def scan(self, *, incremental: bool = True) -> Scan:
        """Return a growing coalition of blocks."""
        return _BlockScan(self.game.scan(incremental=incremental), self.blocks)


class _BlockScan(Scan):
    def __init__(self, scan: Scan, blocks: Sequence[NDArray[np.int64]]) -> None:
        self.scan = scan
        self.blocks = blocks

    def clear(self) -> None:
        self.scan.clear()

    def insert(self, player: int) -> None:
        for inner in self.blocks[player]:
            self.scan.insert(int(inner))

    def value(self) -> float:
        return self.scan.value()


def as_game(v: Game | Callable[[NDArray[np.int64]], float], n_players: int) -> Game:
    """Return `v` as a game: as it is where it evaluates and scans sets of `n_players`, else wrapped."""
    if isinstance(v, Game):
        if v.n_players != n_players:
            raise ValueError(f"n_players must be {v.n_players}, that of v; got {n_players}")
        return v
    if not callable(v):
        raise TypeError(f"v must be callable on a sorted index array; got {type(v).__name__}")
    return CallableGame(v, n_players)
