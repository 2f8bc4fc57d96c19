"""Nearest-neighbour games of many validation points: memory, chunks, and their sum over workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import DistanceBlocks, read_only, rows_per_chunk
from mlpapers.core.knn import key_shift, sort_keys
from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.valuation import _knn
from mlpapers.valuation._knn import Groups, Labels, Nearest, Rule, Space
from mlpapers.valuation._labels import Scores, ValidationTargets

# At most so many partial sums over validation points are kept until they are added up in order.
_MAX_TASKS = 64
# Validation points below which splitting the work further does not pay.
_MIN_TASK = 32


@dataclass(frozen=True, eq=False)
class NearestState:
    """The nearest members seen so far, of each of M games: all that a later group needs.

    Parameters
    ----------
    distance, index, score : ndarray of shape (M, min(K, n_seen))
        Near to far; index counts training points in the order they arrived.
    count : ndarray of shape (M,) of int
        How many entries a game has.
    n_seen : int
        Members so far, an excluded one included.
    """

    distance: NDArray[np.float64]
    index: NDArray[np.int64]
    score: NDArray[np.float64]
    count: NDArray[np.int64]
    n_seen: int

    @classmethod
    def empty(cls, n_val: int) -> NearestState:
        """Return the state before any member."""
        none = np.zeros((n_val, 0))
        return cls(none, none.astype(np.int64), none, np.zeros(n_val, dtype=np.int64), 0)

    def part(self, chunk: slice, width: int) -> NearestState:
        """Return a copy of some games with room for `width` entries."""
        m = chunk.stop - chunk.start
        held = self.distance.shape[1]
        distance, score = np.full((m, width), np.inf), np.zeros((m, width))
        index = np.full((m, width), -1, dtype=np.int64)
        distance[:, :held] = self.distance[chunk]
        index[:, :held] = self.index[chunk]
        score[:, :held] = self.score[chunk]
        return NearestState(distance, index, score, self.count[chunk].copy(), self.n_seen)

    @classmethod
    def join(cls, parts: list[NearestState], n_seen: int) -> NearestState:
        """Put the games of several parts one after the other."""
        return cls(
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.count for part in parts]),
            n_seen,
        )


@dataclass(frozen=True, eq=False)
class KNNGame:
    """Groups that arrive after `earlier`, with everything that says what they are worth.

    Parameters
    ----------
    blocks : DistanceBlocks
        Columns ordered by group.
    bounds : ndarray of shape (T + 1,) of int
        First column of each group.
    scores : Scores
        In the order of the columns.
    targets : ValidationTargets
    rule : Rule
    earlier : NearestState
    excluded : ndarray of shape (M,) of int
        Column that does not play in the game of a validation point; -1 for none.
    n_nearest : int
        Members of the first group that are ranked.
    max_memory : float
        MiB.
    """

    blocks: DistanceBlocks
    bounds: NDArray[np.int64]
    scores: Scores
    targets: ValidationTargets
    rule: Rule
    earlier: NearestState
    excluded: NDArray[np.int64]
    n_nearest: int
    max_memory: float

    @property
    def n_columns(self) -> int:
        """Return the number of members, an excluded one included."""
        return self.blocks.n_columns

    @property
    def n_val(self) -> int:
        """Return the number of validation points."""
        return len(self.excluded)

    @property
    def n_sorted(self) -> int:
        """Return how many groups need a full sort: until K members play in every game, each can matter."""
        left_out = 1 if np.any(self.excluded >= 0) else 0
        seen = self.earlier.n_seen + self.bounds[:-1] - left_out
        return int(np.count_nonzero(seen < self.rule.k))

    def total(self, n_jobs: int | None, verbose: int) -> tuple[NDArray[np.float64], NearestState]:
        """Return the sum of the values over validation points, by column, and the state after all groups."""
        most = max(1, min(_MAX_TASKS, int(self.max_memory * 2**20 / 4) // (8 * self.n_columns)))
        size = max(min(_MIN_TASK, self.n_val), -(-self.n_val // most))
        tasks = chunk_slices(self.n_val, size)
        parts = parallel_map(
            chunk_total, tasks, n_jobs=n_jobs, shared=(self,), prefer="threads", verbose=verbose
        )
        values = parts[0][0]
        for part, _ in parts[1:]:
            values += part
        return values, NearestState.join([state for _, state in parts], self.earlier.n_seen + self.n_columns)

    def play(self, chunk: slice, out: NDArray[np.float64]) -> NearestState:
        """Add the values of the games in `chunk` to `out`, one row each or all in one; return their state."""
        m, n = chunk.stop - chunk.start, self.n_columns
        distances = np.empty((m, n))
        self.blocks.compute(chunk, distances)
        excluded = self.excluded[chunk]
        left_out = np.flatnonzero(excluded >= 0)
        distances[left_out, excluded[left_out]] = np.inf
        state = self.earlier.part(chunk, min(self.rule.k, self.earlier.n_seen + n))
        _knn.value_rows(
            distances,
            space_of(self.blocks, chunk, self.earlier.n_seen),
            self._groups(distances, chunk),
            labels_of(self.scores, self.targets, chunk),
            self.rule,
            self.earlier.n_seen,
            Nearest(state.distance, state.index, state.score, state.count),
            out,
        )
        return state

    def _groups(self, distances: NDArray[np.float64], chunk: slice) -> Groups:
        excluded, slack = self.excluded[chunk], read_only(self.blocks.slack[chunk])
        m, n_sorted = len(distances), self.n_sorted
        keys = np.empty(m * int(self.bounds[n_sorted]), dtype=np.uint64)
        shifts = np.zeros(n_sorted, dtype=np.uint64)
        near = np.empty((n_sorted, m), dtype=np.uint64)
        for t in range(n_sorted):
            start, stop = int(self.bounds[t]), int(self.bounds[t + 1])
            group = keys[m * start : m * stop].reshape(m, stop - start)
            shifts[t] = key_shift(stop - start)
            sort_keys(distances, start, stop, slack, group, near[t], self.n_nearest if t == 0 else None)
        return Groups(read_only(self.bounds), keys, shifts, near, self.n_nearest, read_only(excluded))

    def per_validation_point(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the values of each game, a chunk of validation points at a time, by column."""
        for chunk in chunk_slices(self.n_val, self.chunk_length(extra=8 * self.n_columns)):
            out = np.zeros((chunk.stop - chunk.start, self.n_columns))
            self.play(chunk, out)
            yield chunk, out

    def chunk_length(self, extra: int = 0) -> int:
        """Return how many validation points to hold at a time."""
        n = self.n_columns
        width = int(self.bounds[self.n_sorted])
        # Beside the chunk: a quarter for partial sums, and ten vectors over the members in the kernel.
        return rows_per_chunk(8 * (n + width) + extra, 80 * n, 0.75 * self.max_memory)


def chunk_total(game: KNNGame, task: slice) -> tuple[NDArray[np.float64], NearestState]:
    """Return the sum of the values over the validation points `task`, and their states."""
    out = np.zeros((1, game.n_columns))
    states = []
    step = game.chunk_length()
    for start in range(task.start, task.stop, step):
        chunk = slice(start, min(start + step, task.stop))
        states.append(game.play(chunk, out))
    return out[0], NearestState.join(states, game.earlier.n_seen + game.n_columns)


def space_of(blocks: DistanceBlocks, chunk: slice, first: int) -> Space:
    """Return the positions of all members and of some validation points, as the kernels take them."""
    slack = read_only(blocks.slack[chunk])
    return Space(blocks.rows, first, blocks.points, blocks.queries[chunk], blocks.metric_code, slack)


def labels_of(scores: Scores, targets: ValidationTargets, chunk: slice) -> Labels:
    """Return the labels of all members and of some validation points, as the kernels take them."""
    codes, table = read_only(scores.codes), read_only(scores.table)
    return Labels(
        scores.kind, codes, table, read_only(targets.codes[chunk]), read_only(targets.targets[chunk])
    )


def arrival_total(
    blocks: DistanceBlocks,
    scores: Scores,
    targets: ValidationTargets,
    state: NearestState,
    rule: Rule,
    n_members: int,
    max_memory: float,
) -> NDArray[np.float64]:
    """Return, summed over validation points, what each new point would be worth alone in the next group."""
    n = blocks.n_columns
    out = np.zeros(n)
    step = rows_per_chunk(8 * n, 8 * n, max_memory)
    for chunk in chunk_slices(len(state.count), step):
        distances = np.empty((chunk.stop - chunk.start, n))
        blocks.compute(chunk, distances)
        part = state.part(chunk, state.distance.shape[1])
        _knn.arrival_values(
            distances,
            space_of(blocks, chunk, state.n_seen),
            labels_of(scores, targets, chunk),
            rule,
            n_members,
            Nearest(part.distance, part.index, part.score, part.count),
            out,
        )
    return out
