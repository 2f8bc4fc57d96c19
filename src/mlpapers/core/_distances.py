"""Distances from validation points to training points, a block of validation points at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mlpapers.core._knn import COSINE, EUCLIDEAN, GIVEN
from mlpapers.core.validation import check_choice, check_matrix

Metric = str | Callable[[NDArray[Any], NDArray[Any]], Any]

METRICS = ("euclidean", "cosine", "manhattan", "precomputed")

# Elements of the training block that is centred or normalised at a time: 2 MiB, so that it stays in cache.
_BLOCK_ELEMENTS = 2**18


def check_points(X: Any, X_val: Any, metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `X` (n, d) and `X_val` (M, d), or (M, n) if precomputed, as finite C-ordered float64 arrays.

    Raises
    ------
    ValueError
        If `metric` is unknown, an array is empty, holds NaN or infinity, or has the wrong number of columns;
        for ``metric="precomputed"`` also if a distance is negative.
    """
    if not callable(metric):
        check_choice("metric", metric, METRICS)
    X = check_matrix("X", X, dtype=np.float64, order="C")
    X_val = check_matrix("X_val", X_val, dtype=np.float64, order="C")
    if metric == "precomputed":
        if X_val.shape[1] != X.shape[0]:
            raise ValueError(
                f"X_val must hold the distances to all {X.shape[0]} rows of X, one column each, "
                f"where metric='precomputed'; got shape {X_val.shape}"
            )
        if X_val.min() < 0.0:
            raise ValueError(f"X_val must hold distances >= 0; got {X_val.min()!r}")
    elif X_val.shape[1] != X.shape[1]:
        raise ValueError(f"X_val must have the {X.shape[1]} columns of X; got {X_val.shape[1]}")
    return X, X_val


def rows_per_chunk(bytes_per_row: int, fixed_bytes: int, max_memory: float, maximum: int = 32) -> int:
    """Return how many validation points fit into `max_memory` MiB, between 1 and `maximum`."""
    free = max_memory * 2**20 - fixed_bytes
    return int(max(1, min(maximum, free // max(bytes_per_row, 1))))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written.

    Arrays of this process and those mapped into workers are then of one type for the compiled kernels, which
    would otherwise be compiled for both.
    """
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


class DistanceBlocks:
    r"""Distances between the rows of `X_val` and those of `X`, computed on demand.

    Euclidean distances are squared and come from :math:`|x|^2 + |t|^2 - 2 x \cdot t` about a central point,
    the median of some rows. `slack` bounds their rounding error, and `metric_code` says how to evaluate a
    distance directly where two are closer than that. Integers small enough for exact products need no such
    care, nor do the other metrics but cosine.

    Parameters
    ----------
    X : ndarray of shape (n, d), C-ordered float64
    X_val : ndarray of shape (M, d), or (M, n) if precomputed
    metric : str or callable
    rows : ndarray of shape (n,) of int, optional
        Row of `X` behind each column of a block; 0..n-1 by default.
    float32 : bool, default=False
        Single-precision products; distances then count as exact.

    Attributes
    ----------
    metric_code : int
        GIVEN, EUCLIDEAN or COSINE.
    slack : ndarray of shape (M, 2)
        ``slack[j, 0] + slack[j, 1] * d`` bounds twice the rounding error of a distance d in row j.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        X_val: NDArray[np.float64],
        metric: Metric = "euclidean",
        *,
        rows: NDArray[np.int64] | None = None,
        float32: bool = False,
    ) -> None:
        self.metric = metric
        self.float32 = float32
        self.n_columns: int = int(X.shape[0])
        self.identity = rows is None
        self._rows = np.arange(X.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
        self._points = X
        self._queries = X_val
        self.metric_code = GIVEN
        self.slack = np.zeros((X_val.shape[0], 2))
        if metric == "euclidean":
            self._prepare_euclidean()
        elif metric == "cosine":
            self._norms = _lengths("X", X)
            self._query_norms = _lengths("X_val", X_val)
            if not float32:
                self.metric_code = COSINE
                self.slack[:, 0] = 8.0 * (X.shape[1] + 8) * np.finfo(np.float64).eps

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return the row of `X` behind each column."""
        return read_only(self._rows)

    @property
    def points(self) -> NDArray[np.float64]:
        """Return `X`."""
        return read_only(self._points)

    @property
    def queries(self) -> NDArray[np.float64]:
        """Return `X_val`."""
        return read_only(self._queries)

    def _prepare_euclidean(self) -> None:
        X, X_val = self.points, self.queries
        exact = _integers(X) and _integers(X_val)
        if exact:
            largest = max(float(np.abs(X).max()), float(np.abs(X_val).max()))
            exact = largest < math.sqrt(2.0**51 / X.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            self._centre = np.zeros(X.shape[1]) if exact else np.median(X[:: 1 + len(X) // 512], axis=0)
            self._norms = np.empty(X.shape[0])
            step = max(1, _BLOCK_ELEMENTS // X.shape[1])
            for start in range(0, X.shape[0], step):
                block = X[start : start + step] - self._centre
                np.einsum("ij,ij->i", block, block, out=self._norms[start : start + step])
            centred = X_val - self._centre
            self._query_norms = np.einsum("ij,ij->i", centred, centred)
            scale = (math.sqrt(self._norms.max()) + np.sqrt(self._query_norms)) ** 2
        limits = np.finfo(np.float32 if self.float32 else np.float64)
        if not np.all(scale <= limits.max):
            raise ValueError("X and X_val are too large: their squared distances overflow; scale them")
        small = not exact and scale.max() < _smallest_square(limits)
        if small and any(np.any(rows != self._centre) for rows in (X, X_val)):
            raise ValueError("X and X_val are too small: their squared distances underflow; scale them")
        if not (exact or self.float32):
            self.metric_code = EUCLIDEAN
            # The error is below (d + 8) eps (|x| + |t|)^2, and |x| <= |t| + sqrt(distance).
            unit = 4.0 * (X.shape[1] + 8) * np.finfo(np.float64).eps
            self.slack[:, 0] = 8.0 * unit * self._query_norms
            self.slack[:, 1] = 2.0 * unit

    def compute(self, chunk: slice, out: NDArray[np.float64]) -> None:
        """Write the distances of the validation points `chunk` into `out` (m, n)."""
        if self.metric == "precomputed" or callable(self.metric):
            self._copy_given(chunk, out)
            return
        queries = self.queries[chunk]
        if self.metric == "euclidean":
            queries = -2.0 * (queries - self._centre)
        elif self.metric == "cosine":
            queries = -queries / _nonzero(self._query_norms[chunk])[:, None]
        if self.float32:
            queries = queries.astype(np.float32)
        step = max(64, min(2**14, _BLOCK_ELEMENTS // self.points.shape[1]))
        for start in range(0, self.n_columns, step):
            stop = min(start + step, self.n_columns)
            members: Any = slice(start, stop) if self.identity else self.rows[start:stop]
            self._compute_columns(queries, chunk, members, out[:, start:stop])

    def _compute_columns(
        self, queries: NDArray[Any], chunk: slice, members: Any, out: NDArray[np.float64]
    ) -> None:
        block = self.points[members]
        if self.metric == "manhattan":
            out[:] = cdist(queries, block, "cityblock")
            return
        if self.metric == "euclidean":
            block = block - self._centre
        else:
            block = block / _nonzero(self._norms[members])[:, None]
        if self.float32:
            out[:] = queries @ block.astype(np.float32).T
        else:
            np.matmul(queries, block.T, out=out)
        if self.metric == "euclidean":
            out += self._norms[members]
            out += self._query_norms[chunk, None]
        else:
            out += 1.0
        np.maximum(out, 0.0, out=out)

    def _copy_given(self, chunk: slice, out: NDArray[np.float64]) -> None:
        distances = self.queries[chunk]
        if callable(self.metric):
            distances = np.asarray(self.metric(self.queries[chunk], self.points), dtype=np.float64)
            if distances.shape != out.shape:
                raise ValueError(f"metric must return an array of shape {out.shape}; got {distances.shape}")
            if not (np.all(np.isfinite(distances)) and np.all(distances >= 0.0)):
                raise ValueError("metric must return finite distances >= 0")
        np.take(distances, self.rows, axis=1, out=out)
        out += 0.0  # turns -0.0, whose bits would sort last, into 0.0


def _integers(array: NDArray[np.float64]) -> bool:
    """Whether all entries are whole numbers; a look at the first rows settles most data."""
    head = array[:16]
    return bool(np.array_equal(head, np.rint(head)) and np.array_equal(array, np.rint(array)))


def _smallest_square(limits: np.finfo[Any]) -> float:
    """Return a square from which on all lengths down to sqrt(eps) of it have squares with all digits."""
    return float(limits.tiny) / float(limits.eps) ** 2


def _lengths(name: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths of the rows, zero for zeros only."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    if not np.all(np.isfinite(squares)):
        raise ValueError(f"{name} is too large: squared lengths of its rows overflow; scale them")
    small = squares < _smallest_square(np.finfo(np.float64))
    if rows[small].any():
        raise ValueError(f"{name} is too small: squared lengths of its rows underflow; scale them")
    return np.asarray(np.sqrt(squares))


def _nonzero(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norms > 0.0, norms, 1.0)
