"""Scans that update a model: neighbours, linear least squares, Gaussian naive Bayes, nearest centroid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrcon
from scipy.spatial.distance import cdist

from mlpapers.core._distances import read_only
from mlpapers.valuation import _scan
from mlpapers.valuation.scan import Scan

if TYPE_CHECKING:
    from mlpapers.valuation.utility import Utility

# Distances of all pairs are kept where they fit (MiB); else those of a point are computed when it enters.
_MAX_DISTANCES = 256


class NearestPoints:
    """The K nearest members of a growing coalition, for each validation point; ties by index.

    Parameters
    ----------
    X, X_val : ndarray of shape (n, d) and (M, d)
    n_neighbors : int
    metric : {"sqeuclidean", "cityblock"}
        scipy evaluates these pair by pair, so that equal rows are exactly equally far.
    distances : ndarray of shape (n, M), optional
        Result of :meth:`all_distances`.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        X_val: NDArray[np.float64],
        n_neighbors: int,
        metric: str = "sqeuclidean",
        distances: NDArray[np.float64] | None = None,
    ) -> None:
        self.X, self.X_val, self.metric, self.distances = X, X_val, metric, distances
        self.distance = np.empty((len(X_val), n_neighbors))
        self.player = np.empty((len(X_val), n_neighbors), dtype=np.int64)
        self.score = np.empty((len(X_val), n_neighbors))
        self.sums = np.empty(len(X_val))
        self.held = 0

    @staticmethod
    def all_distances(
        X: NDArray[np.float64], X_val: NDArray[np.float64], metric: str = "sqeuclidean"
    ) -> NDArray[np.float64] | None:
        """Return all distances (n, M), or None where they would take too much memory."""
        if len(X) * len(X_val) * 8 > _MAX_DISTANCES * 2**20:
            return None
        return np.asarray(cdist(X, X_val, metric))

    def clear(self) -> None:
        """Forget all members."""
        self.held = 0

    def insert(self, player: int, scores: NDArray[np.float64]) -> None:
        """Enter a training point with its score (M,) for each validation point."""
        if self.distances is not None:
            distances = self.distances[player]
        else:
            distances = cdist(self.X[player : player + 1], self.X_val, self.metric)[0]
        _scan.insert_neighbour(
            read_only(distances), read_only(scores), player, self.held, self.distance, self.player, self.score
        )
        self.held = min(self.held + 1, self.score.shape[1])

    def score_sums(self) -> NDArray[np.float64]:
        """Return the sum of the scores of the nearest members (M,); overwritten by the next call."""
        _scan.sum_scores(self.score, self.held, self.sums)
        return self.sums


class ModelScan(Scan):
    """Keeps who has entered, and falls back on a refit where the model has no update."""

    def __init__(self, utility: Utility) -> None:
        self.utility = utility
        self.X = utility.X
        self.X_val = read_only(utility.X_val)
        self.member = np.zeros(utility.n_players, dtype=bool)
        self.size = 0

    def clear(self) -> None:
        """Empty the coalition."""
        self.member[:] = False
        self.size = 0
        self._clear()

    def insert(self, player: int) -> None:
        """Let a player enter."""
        self.member[player] = True
        self.size += 1
        self._insert(player)

    def value(self) -> float:
        """Return the utility of those who have entered."""
        if self.size == 0:
            return self.utility.empty_value_
        updated = self._updated_value()
        return self.utility.evaluate(np.flatnonzero(self.member)) if updated is None else updated

    @abstractmethod
    def _clear(self) -> None: ...

    @abstractmethod
    def _insert(self, player: int) -> None: ...

    @abstractmethod
    def _updated_value(self) -> float | None:
        """Return the utility of a coalition that is not empty; None where the model must be refitted."""


class LinearScan(ModelScan):
    """Ridge or ordinary least squares, in the triangular form of a QR factorisation.

    Rows enter by Givens rotations: the cost of a Sherman-Morrison update of the inverse, without its loss of
    digits while few rows have entered. The intercept is a leading column of ones, which takes no penalty;
    data are centred once by the mean of all rows, which changes nothing but rounding.
    """

    def __init__(
        self,
        utility: Utility,
        score: Callable[[NDArray[np.float64]], float],
        *,
        alpha: float,
        fit_intercept: bool,
        tol: float,
    ) -> None:
        super().__init__(utility)
        X, X_val = utility.X, utility.X_val
        targets = np.asarray(utility.y, dtype=np.float64)
        self.shift = 0.0
        if fit_intercept:
            center = X.mean(axis=0)
            self.shift = float(targets.mean())
            X = np.column_stack([np.ones(len(X)), X - center])
            X_val = np.column_stack([np.ones(len(X_val)), X_val - center])
        self.rows, self.targets, self.rows_val = X, targets - self.shift, read_only(X_val)
        self.score, self.alpha, self.intercept, self.tol = score, alpha, int(fit_intercept), tol
        p = X.shape[1]
        self.triangle, self.rotated = np.zeros((p, p)), np.zeros(p)
        self.weights, self.predictions = np.zeros(p), np.zeros(len(X_val))

    def _clear(self) -> None:
        self.triangle[:] = 0.0
        penalty = np.full(len(self.rotated), np.sqrt(self.alpha))
        penalty[: self.intercept] = 0.0
        np.fill_diagonal(self.triangle, penalty)
        self.rotated[:] = 0.0

    def _insert(self, player: int) -> None:
        _scan.insert_row(self.triangle, self.rotated, self.rows[player].copy(), self.targets[player])

    def _updated_value(self) -> float | None:
        if self.alpha == 0.0 and not self._has_full_rank():
            return None
        _scan.predict_linear(self.triangle, self.rotated, self.rows_val, self.weights, self.predictions)
        return self.score(self.predictions + self.shift)

    def _has_full_rank(self) -> bool:
        """Whether no singular value of the (centred) rows is anywhere near the solver's cut-off."""
        features = self.triangle[self.intercept :, self.intercept :]
        if self.size < len(self.rotated) or not len(features):
            return False
        reciprocal, _ = dtrcon(features, norm="1", uplo="U")
        # The 1-norm condition bounds the 2-norm one within a factor of the dimension; LAPACK's estimate of it
        # is rarely off by more than 3.
        return bool(reciprocal > 10.0 * len(features) * self.tol)


class ClassifierScan(ModelScan):
    """Counts the right predictions of the validation set; coalitions of one class are left to a refit."""

    def __init__(self, utility: Utility) -> None:
        super().__init__(utility)
        classes, codes = np.unique(utility.y, return_inverse=True)
        position = {label: code for code, label in enumerate(classes.tolist())}
        self.codes = codes.astype(np.int64)
        self.targets = np.array([position.get(label, -1) for label in utility.y_val.tolist()], dtype=np.int64)
        self.counts = np.zeros(len(classes), dtype=np.int64)
        self.n_present = 0

    def _clear(self) -> None:
        self.counts[:] = 0
        self.n_present = 0

    def _insert(self, player: int) -> None:
        code = self.codes[player]
        self.counts[code] += 1
        self.n_present += self.counts[code] == 1
        self._enter(player, code)

    def _updated_value(self) -> float | None:
        hits = None if self.n_present < 2 else self._hits()
        return None if hits is None else hits / len(self.targets)

    @abstractmethod
    def _enter(self, player: int, code: int) -> None: ...

    @abstractmethod
    def _hits(self) -> int | None: ...


class NeighboursClassifierScan(ClassifierScan):
    """Majority of the K nearest members, at equality the first class; fewer than K are left to a refit."""

    def __init__(self, utility: Utility, n_neighbors: int, metric: str) -> None:
        super().__init__(utility)
        self.nearest = NearestPoints(
            utility.X, utility.X_val, n_neighbors, metric, utility.pair_distances(metric)
        )
        self.votes = np.zeros(len(self.counts), dtype=np.int64)

    def _clear(self) -> None:
        super()._clear()
        self.nearest.clear()

    def _enter(self, player: int, code: int) -> None:
        self.nearest.insert(player, np.full(len(self.targets), float(code)))

    def _hits(self) -> int | None:
        nearest = self.nearest
        if self.size < nearest.score.shape[1]:
            return None
        return int(_scan.count_majority_hits(nearest.score, nearest.held, self.targets, self.votes))


class NeighboursRegressorScan(ModelScan):
    """Mean target of the K nearest members; fewer than K are left to a refit."""

    def __init__(
        self,
        utility: Utility,
        score: Callable[[NDArray[np.float64]], float],
        n_neighbors: int,
        metric: str,
    ) -> None:
        super().__init__(utility)
        self.score = score
        self.responses = np.asarray(utility.y, dtype=np.float64)
        self.nearest = NearestPoints(
            utility.X, utility.X_val, n_neighbors, metric, utility.pair_distances(metric)
        )

    def _clear(self) -> None:
        self.nearest.clear()

    def _insert(self, player: int) -> None:
        self.nearest.insert(player, np.full(len(self.X_val), self.responses[player]))

    def _updated_value(self) -> float | None:
        k = self.nearest.score.shape[1]
        return None if self.size < k else self.score(self.nearest.score_sums() / k)


class MomentScan(ClassifierScan):
    """Means, and sums of squared deviations, of each class and of all."""

    def __init__(self, utility: Utility) -> None:
        super().__init__(utility)
        d = self.X.shape[1]
        self.means, self.scatters = np.zeros((len(self.counts), d)), np.zeros((len(self.counts), d))
        self.mean, self.scatter = np.zeros(d), np.zeros(d)

    def _clear(self) -> None:
        super()._clear()
        for moments in (self.means, self.scatters, self.mean, self.scatter):
            moments[:] = 0.0

    def _enter(self, player: int, code: int) -> None:
        row = read_only(self.X[player])
        _scan.insert_moments(row, self.counts[code], self.means[code], self.scatters[code])
        _scan.insert_moments(row, self.size, self.mean, self.scatter)


class GaussianScan(MomentScan):
    """Gaussian naive Bayes; data without any spread are left to a refit."""

    def __init__(self, utility: Utility, var_smoothing: float) -> None:
        super().__init__(utility)
        self.var_smoothing = var_smoothing

    def _hits(self) -> int | None:
        smoothing = self.var_smoothing * self.scatter.max() / self.size
        if smoothing <= 0.0:
            return None
        return int(
            _scan.count_gaussian_hits(
                self.X_val, self.targets, self.counts, self.means, self.scatters, smoothing
            )
        )


class CentroidScan(MomentScan):
    """The class whose mean is nearest."""

    def _hits(self) -> int | None:
        # scikit-learn refuses data without any spread.
        if not self.scatter.any():
            return None
        return int(_scan.count_centroid_hits(self.X_val, self.targets, self.counts, self.means))
