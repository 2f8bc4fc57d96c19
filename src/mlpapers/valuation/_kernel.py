"""Kernels of the U-statistic: what a target is worth in a subset of the sample, for many of both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import read_only
from mlpapers.core.knn import nearest_neighbours, rank_neighbours
from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.valuation import _ustatistic
from mlpapers.valuation._labels import encode_scores, encode_targets
from mlpapers.valuation._subsets import Subsets, without
from mlpapers.valuation.utility import Utility

# Subsets evaluated in one task, for compiled kernels and for fitted models.
_ROWS, _FITS = 256, 16
# MiB of one chunk of rankings, and of the values of one block of targets.
_RANK_MEMORY, _VALUE_MEMORY = 64, 256


@dataclass(frozen=True, eq=False)
class Targets:
    """Points to be valued: training points by index, or points outside the sample by row.

    Parameters
    ----------
    index : ndarray of shape (T,) of int
        Training index; -1 - row for a point outside.
    X, y : ndarray of shape (R, d) and (R,), or None
        The points outside.
    """

    index: NDArray[np.int64]
    X: NDArray[np.float64] | None = None
    y: NDArray[Any] | None = None

    @classmethod
    def outside(cls, X: NDArray[np.float64], y: NDArray[Any]) -> Targets:
        """Return all rows of `X` as targets."""
        return cls(-1 - np.arange(len(X)), X, y)

    def __len__(self) -> int:
        return len(self.index)

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, Targets]]:
        """Cut into parts whose values for `n_rows` subsets fit into memory."""
        width = max(1, int(_VALUE_MEMORY * 2**20 / (8 * n_rows)))
        for part in chunk_slices(len(self), width):
            yield part, Targets(self.index[part], self.X, self.y)

    def training(self) -> NDArray[np.int64]:
        """Training indices, -1 for points outside."""
        return np.maximum(self.index, -1)


class Kernel(ABC):
    """A kernel h(S; z) over subsets S of a fixed sample.

    Attributes
    ----------
    n_samples : int
        Points of the sample.
    total_utility, empty_utility : float
        Utility of the whole sample and of none of it.
    """

    n_samples: int
    total_utility: float
    empty_utility: float

    @abstractmethod
    def check_labels(self, y_new: Any, n_new: int) -> None:
        """Raise ValueError unless `y_new` are labels of new points as those of the sample are."""

    def values(
        self, targets: Targets, subsets: Subsets, n_jobs: int | None, verbose: int
    ) -> NDArray[np.float64]:
        """Return h of shape (T, B) for each target and subset."""
        h = self._rows(targets, subsets, n_jobs, verbose)
        at_anchor = [
            (t, *subsets.anchored_at(z))
            for t, z in enumerate(targets.training())
            if z >= 0 and subsets.has_anchors
        ]
        at_anchor = [(t, rows, own) for t, rows, own in at_anchor if len(rows)]
        if at_anchor:
            which = np.concatenate([np.full(len(rows), t) for t, rows, _ in at_anchor])
            rows = np.concatenate([rows for _, rows, _ in at_anchor])
            own = np.concatenate([own for *_, own in at_anchor])
            sizes = None if subsets.sizes is None else subsets.sizes[rows]
            h[which, rows] = self._pairs(targets, which, own, sizes, n_jobs, verbose)
        return h

    @abstractmethod
    def _rows(
        self, targets: Targets, subsets: Subsets, n_jobs: int | None, verbose: int
    ) -> NDArray[np.float64]:
        """Return (T, B), each tuple serving every target, anchors not looked at."""

    @abstractmethod
    def _pairs(
        self,
        targets: Targets,
        which: NDArray[np.int64],
        subsets: NDArray[np.int64],
        sizes: NDArray[np.int64] | None,
        n_jobs: int | None,
        verbose: int,
    ) -> NDArray[np.float64]:
        """Return (R,), target ``which[r]`` in the subset ``subsets[r]`` (R, s), which does not hold it."""


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Training points and targets by distance to some validation points; see `_ustatistic.shapley_rows`."""

    order: NDArray[np.int64]
    rank: NDArray[np.int64]
    score: NDArray[np.float64]
    position: NDArray[np.int64]
    own: NDArray[np.float64]


class NeighbourKernel(Kernel):
    """Nearest-neighbour games: the target's Shapley value in S + target, exact or by one random marginal."""

    def __init__(
        self, X: NDArray[np.float64], y: Any, X_val: NDArray[np.float64], y_val: Any, n_neighbors: int
    ) -> None:
        self.X, self.X_val = X, X_val
        self.n_samples = len(X)
        self.n_neighbors = n_neighbors
        self._against = encode_targets(
            y,
            y_val,
            "classification",
            len(X),
            len(X_val),
            remedy="; give a regressor as estimator where they are targets",
        )
        if self._against.kind == "soft":
            raise ValueError(f"y must hold one label per row of X; got shape {np.shape(y)}")
        self._codes = encode_scores(y, self._against, len(X)).codes
        near = nearest_neighbours(X, X_val, n_neighbors)[1]
        agree = self._codes[near] == self._against.codes[:, None]
        self.total_utility = float(agree.sum() / (n_neighbors * len(X_val)))
        self.empty_utility = 0.0

    def check_labels(self, y_new: Any, n_new: int) -> None:
        encode_scores(y_new, self._against, n_new, name="y_new")

    def _rows(
        self, targets: Targets, subsets: Subsets, n_jobs: int | None, verbose: int
    ) -> NDArray[np.float64]:
        training = targets.training()
        if len(targets) == 1 and subsets.sizes is None:
            # One target gains nothing from a pass that serves many.
            own = without(subsets.tuples, int(training[0]))
            return self._pairs(targets, np.zeros(len(own), dtype=np.int64), own, None, n_jobs, verbose)[None]
        slot = np.full(len(self.X), -1, dtype=np.int64)
        slot[training[training >= 0]] = np.flatnonzero(training >= 0)
        h = np.zeros((len(targets), len(subsets)))
        blocks = chunk_slices(len(subsets), _ROWS)
        for ranking in self._rankings(targets):
            parts = parallel_map(
                _row_block,
                blocks,
                n_jobs=n_jobs,
                shared=(ranking, slot, subsets, self.n_neighbors),
                prefer="threads",
                verbose=verbose,
            )
            for block, part in zip(blocks, parts):
                h[:, block] += part.T
        return h / len(self.X_val)

    def _pairs(
        self,
        targets: Targets,
        which: NDArray[np.int64],
        subsets: NDArray[np.int64],
        sizes: NDArray[np.int64] | None,
        n_jobs: int | None,
        verbose: int,
    ) -> NDArray[np.float64]:
        h = np.zeros(len(which))
        blocks = chunk_slices(len(which), _ROWS)
        for ranking in self._rankings(targets):
            parts = parallel_map(
                _pair_block,
                blocks,
                n_jobs=n_jobs,
                shared=(ranking, which, subsets, sizes, self.n_neighbors),
                prefer="threads",
                verbose=verbose,
            )
            h += np.concatenate(parts)
        return h / len(self.X_val)

    def _rankings(self, targets: Targets) -> Iterator[_Ranking]:
        n, training = len(self.X), targets.training()
        outside = -1 - targets.index[training < 0]
        points, codes = self.X, self._codes
        if len(outside):
            assert targets.X is not None
            assert targets.y is not None
            points = np.concatenate([self.X, targets.X[outside]])
            codes = np.concatenate(
                [codes, encode_scores(targets.y[outside], self._against, len(outside)).codes]
            )
        column = training.copy()
        column[training < 0] = n + np.arange(len(outside))
        for chunk, order in rank_neighbours(points, self.X_val, max_memory=_RANK_MEMORY):
            m = len(order)
            in_sample = order < n
            before = np.empty_like(order)
            np.put_along_axis(before, order, in_sample.cumsum(axis=1) - in_sample, axis=1)
            order = order[in_sample].reshape(m, n)
            truth = self._against.codes[chunk, None]
            yield _Ranking(
                order=order,
                rank=np.ascontiguousarray(before[:, :n]),
                score=(self._codes[order] == truth).astype(np.float64),
                position=before[:, column],
                own=(codes[column] == truth).astype(np.float64),
            )


def _row_block(
    ranking: _Ranking, slot: NDArray[np.int64], subsets: Subsets, n_neighbors: int, block: slice
) -> NDArray[np.float64]:
    out = np.zeros((block.stop - block.start, ranking.own.shape[1]))
    by_position = np.argsort(ranking.position, axis=1)
    arrays = (ranking.order, ranking.rank, ranking.score, ranking.position, by_position, ranking.own, slot)
    shared = [read_only(array) for array in arrays]
    shared.append(read_only(subsets.tuples[block]))
    kernel: Callable[..., None] = _ustatistic.shapley_rows
    if subsets.sizes is not None:
        kernel = _ustatistic.marginal_rows
        shared.append(read_only(subsets.sizes[block]))
    kernel(*shared, n_neighbors, out)
    return out


def _pair_block(
    ranking: _Ranking,
    which: NDArray[np.int64],
    subsets: NDArray[np.int64],
    sizes: NDArray[np.int64] | None,
    n_neighbors: int,
    block: slice,
) -> NDArray[np.float64]:
    out = np.zeros(block.stop - block.start)
    arrays = (ranking.rank, ranking.score, ranking.position, ranking.own, subsets[block], which[block])
    shared = [read_only(array) for array in arrays]
    kernel: Callable[..., None] = _ustatistic.shapley_pairs
    if sizes is not None:
        kernel = _ustatistic.marginal_pairs
        shared.append(read_only(sizes[block]))
    kernel(*shared, n_neighbors, out)
    return out


class UtilityKernel(Kernel):
    """Any utility: the target's marginal contribution to the first k of its subset, k uniform in 0..s."""

    def __init__(
        self,
        estimator: Any,
        X: NDArray[np.float64],
        y: Any,
        X_val: NDArray[np.float64],
        y_val: Any,
        scoring: Any,
    ) -> None:
        self.X, self.y = X, np.asarray(y)
        self.n_samples = len(X)
        self._arguments = (estimator, X_val, y_val, scoring)
        utility = self._utility(None)
        # A column of labels is flattened here once, with a warning, and not again in each worker.
        self.y, self._arguments = utility.y, (estimator, X_val, utility.y_val, scoring)
        self.total_utility = float(utility(np.arange(len(X))))
        self.empty_utility = float(utility(np.zeros(0, dtype=np.int64)))

    def check_labels(self, y_new: Any, n_new: int) -> None:
        if np.shape(y_new) != (n_new,):
            raise ValueError(
                f"y_new must have shape ({n_new},), one entry per row of X_new; got {np.shape(y_new)}"
            )

    def _utility(self, targets: Targets | None) -> Utility:
        estimator, X_val, y_val, scoring = self._arguments
        X, y = self.X, self.y
        if targets is not None and targets.X is not None:
            X, y = np.concatenate([X, targets.X]), np.concatenate([y, np.asarray(targets.y)])
        # Random subsets do not come again; what one task repeats it keeps itself.
        return Utility(estimator, X, y, X_val, y_val, scoring=scoring, cache_size=0)

    def _columns(self, targets: Targets) -> NDArray[np.int64]:
        """Rows of the utility's data: outside points follow the sample."""
        return np.where(targets.index >= 0, targets.index, len(self.X) - 1 - targets.index)

    def _rows(
        self, targets: Targets, subsets: Subsets, n_jobs: int | None, verbose: int
    ) -> NDArray[np.float64]:
        assert subsets.sizes is not None
        blocks = chunk_slices(len(subsets), _FITS)
        shared = (self._utility(targets), self._columns(targets), subsets.tuples, subsets.sizes)
        parts = parallel_map(_utility_rows, blocks, n_jobs=n_jobs, shared=shared, verbose=verbose)
        return np.concatenate(parts).T.copy()

    def _pairs(
        self,
        targets: Targets,
        which: NDArray[np.int64],
        subsets: NDArray[np.int64],
        sizes: NDArray[np.int64] | None,
        n_jobs: int | None,
        verbose: int,
    ) -> NDArray[np.float64]:
        assert sizes is not None
        blocks = chunk_slices(len(which), _FITS)
        shared = (self._utility(targets), self._columns(targets)[which], subsets, sizes)
        return np.concatenate(
            parallel_map(_utility_pairs, blocks, n_jobs=n_jobs, shared=shared, verbose=verbose)
        )


def _utility_rows(
    utility: Utility,
    columns: NDArray[np.int64],
    tuples: NDArray[np.int64],
    sizes: NDArray[np.int64],
    block: slice,
) -> NDArray[np.float64]:
    h = np.empty((block.stop - block.start, len(columns)))
    for b, (row, k) in enumerate(zip(tuples[block], sizes[block])):
        base = utility(row[:k])
        whole = None
        for t, z in enumerate(columns):
            if z in row[:k]:
                whole = utility(row[: k + 1]) if whole is None else whole
                h[b, t] = whole - utility(without(row[None, : k + 1], z)[0])
            else:
                h[b, t] = utility(np.append(row[:k], z)) - base
    return h


def _utility_pairs(
    utility: Utility,
    columns: NDArray[np.int64],
    subsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    block: slice,
) -> NDArray[np.float64]:
    h = np.empty(block.stop - block.start)
    for r, (row, k, z) in enumerate(zip(subsets[block], sizes[block], columns[block])):
        h[r] = utility(np.append(row[:k], z)) - utility(row[:k])
    return h
