"""The linear nearest-neighbour utility as a set function, for enumeration and sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from mlpapers.core._distances import DistanceBlocks, check_points
from mlpapers.core.knn import nearest_neighbours
from mlpapers.valuation import _scan
from mlpapers.valuation._knn import LABELS, PROBABILITIES
from mlpapers.valuation._labels import encode_scores, encode_targets
from mlpapers.valuation._model_scans import NearestPoints
from mlpapers.valuation.scan import RefitScan, Scan


class KNNUtility:
    r"""Mean over validation points (x, t) of the K-nearest-neighbour utility of a set of training points.

    .. math::
        v(S) = \frac1K \sum h_i \quad \text{(classification, h the agreement of labels)}, \qquad
        v(S) = -\Big(\frac1K \sum y_i - t\Big)^2 \quad \text{(regression)},

    with sums over the :math:`\min(K, |S|)` members of S nearest to x (Euclidean, ties by index): the game
    whose values ``KNNShapley`` has in closed form.

    Parameters
    ----------
    X, y, X_val, y_val : array-like
        As in ``KNNShapley``.
    n_neighbors : int
    task : {"classification", "regression"}
    """

    def __init__(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike, y_val: ArrayLike, n_neighbors: int, task: str
    ) -> None:
        self.X, self.X_val = check_points(X, X_val, "euclidean")
        # Raises where squared distances overflow or underflow.
        DistanceBlocks(self.X, self.X_val)
        self.n_players = len(self.X)
        self.n_neighbors = n_neighbors
        self.task = task
        targets = encode_targets(y, y_val, task, self.n_players, len(self.X_val))
        self._scores = encode_scores(y, targets, self.n_players)
        self._codes, self._targets = targets.codes, targets.targets
        self._distances: NDArray[np.float64] | None = None
        self._pair_scores: NDArray[np.float64] | None = None
        self.empty_value_ = self.value_of_sums(np.zeros(len(self.X_val)))

    def evaluate(self, players: NDArray[np.int64]) -> float:
        """Return the utility of a sorted index array."""
        distances = self._pair_distances()
        of_players = (
            cdist(self.X[players], self.X_val, "sqeuclidean") if distances is None else distances[players]
        )
        nearest = np.argsort(of_players, axis=0, kind="stable")[: self.n_neighbors]
        return self.value_of_sums(self.scores(players[nearest], slice(None)).sum(axis=0))

    def scan(self, *, incremental: bool = True) -> Scan:
        """Return a growing coalition; not `incremental` means that each is evaluated from scratch."""
        if not incremental:
            return RefitScan(self.evaluate, self.n_players)
        return _KNNScan(
            self, NearestPoints(self.X, self.X_val, self.n_neighbors, distances=self._pair_distances())
        )

    def leave_one_out(self) -> tuple[NDArray[np.float64], float]:
        """Return v(D) - v(D - i) of each training point, and v(D).

        Only the K nearest points of a validation point matter; when one leaves, the next nearest takes its
        place.
        """
        k = self.n_neighbors
        nearest = nearest_neighbours(self.X, self.X_val, k + 1)[1]
        scores = self.scores(nearest, np.arange(len(self.X_val))[:, None])
        sums = scores[:, :k].sum(axis=1, keepdims=True)
        following = scores[:, k:] if scores.shape[1] > k else 0.0
        utility = self._utilities(sums.T).T
        losses = utility - self._utilities((sums - scores[:, :k] + following).T).T
        values = np.bincount(nearest[:, :k].ravel(), weights=losses.ravel(), minlength=self.n_players)
        return values / len(self.X_val), float(utility.mean())

    def scores(self, players: Any, columns: Any) -> NDArray[np.float64]:
        """Return the scores of training points for validation points, broadcast against each other."""
        kind, table = self._scores.kind, self._scores.table
        codes = self._codes[columns]
        if kind == LABELS:
            return np.asarray(self._scores.codes[players] == codes, dtype=np.float64)
        if kind == PROBABILITIES:
            return np.where(codes >= 0, table[np.maximum(codes, 0), players], 0.0)
        return np.asarray(
            np.broadcast_to(table[0, players], np.broadcast_shapes(np.shape(players), codes.shape))
        )

    def label_arrays(self) -> tuple[NDArray[Any], ...]:
        """Return what training and validation labels were encoded as."""
        return self._scores.codes, self._scores.table, self._codes, self._targets

    def value_of_sums(self, sums: NDArray[np.float64]) -> float:
        """Return the utility, given the sum (M,) of the scores of the nearest members."""
        return float(self._utilities(sums).mean())

    def _utilities(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the utilities (..., M) for each validation point."""
        means = sums / self.n_neighbors
        return means if self.task == "classification" else -((means - self._targets) ** 2)

    def pair_tables(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Return distances and scores (n, M) and regression targets (M,) or (0,); None where too large."""
        distances = self._pair_distances()
        if distances is None:
            return None
        if self._pair_scores is None:
            scores = self.scores(np.arange(self.n_players)[:, None], np.arange(len(self.X_val)))
            self._pair_scores = np.ascontiguousarray(scores)
        targets = self._targets if self.task == "regression" else np.empty(0)
        return distances, self._pair_scores, targets

    def _pair_distances(self) -> NDArray[np.float64] | None:
        if self._distances is None:
            self._distances = NearestPoints.all_distances(self.X, self.X_val)
        return self._distances


class _KNNScan(Scan):
    def __init__(self, utility: KNNUtility, nearest: NearestPoints) -> None:
        self.utility = utility
        self.nearest = nearest

    def clear(self) -> None:
        self.nearest.clear()

    def run(self, order: NDArray[np.int64], known: Mapping[int, float]) -> NDArray[np.float64]:
        tables = self.utility.pair_tables()
        if tables is None:
            return super().run(order, known)
        near = self.nearest
        values = np.empty(len(order))
        _scan.scan_neighbours(order, *tables, near.distance, near.player, near.score, values)
        # Utilities that are known come from another order of summation: all orders share their exact value.
        for size in known.keys() - {0}:
            values[size - 1] = known[size]
        return values

    def insert(self, player: int) -> None:
        self.nearest.insert(player, self.utility.scores(player, slice(None)))

    def value(self) -> float:
        return self.utility.value_of_sums(self.nearest.score_sums())
