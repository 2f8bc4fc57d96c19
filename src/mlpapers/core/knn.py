"""Neighbour rankings with exact ties, and the Shapley values of a one-group nearest-neighbour game."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core import _knn
from mlpapers.core._distances import DistanceBlocks, Metric, check_points, read_only, rows_per_chunk
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real

__all__ = ["knn_shapley", "knn_shapley_values", "nearest_neighbours", "rank_neighbours"]


def key_shift(width: int) -> np.uint64:
    """Return how many bits of a key hold the column."""
    return np.uint64(max(1, (width - 1).bit_length()))


def sort_keys(
    distances: NDArray[np.float64],
    start: int,
    stop: int,
    slack: NDArray[np.float64],
    keys: NDArray[np.uint64],
    near: NDArray[np.uint64],
    n_nearest: int | None = None,
) -> None:
    """Fill `keys` (m, stop - start) with sorted keys of ``distances[:, start:stop]``, and `near` (m,).

    Neighbours whose keys (above the column) differ by `near` or less may be out of order; `slack` (m, 2) is
    that of the distances. With `n_nearest` only that many lead each row, in order.
    """
    width = stop - start
    done = np.empty(len(distances), dtype=np.bool_)
    leading = width if n_nearest is None else min(n_nearest, width)
    part = leading < width
    digit = min(12, max(6, (width.bit_length() + 8) // 2))
    _knn.sorted_keys(distances, start, stop, key_shift(width), digit, not part, slack, keys, near, done)
    if part:
        keys.partition(leading - 1, axis=1)
        keys[:, :leading].sort(axis=1)
        return
    for j in np.flatnonzero(~done):
        keys[j].sort()


def rank_neighbours(
    X: ArrayLike,
    X_val: ArrayLike,
    *,
    metric: Metric = "euclidean",
    float32: bool = False,
    max_memory: float = 512,
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Rank the training points by distance to each validation point, ties by index.

    The order is that of float64 distances evaluated row by row, so that equal rows tie exactly, whatever the
    matrix product that finds it quickly rounds to.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Training points.
    X_val : array-like of shape (M, d)
        Validation points; distances of shape (M, n) where ``metric="precomputed"``.
    metric : {"euclidean", "cosine", "manhattan", "precomputed"} or callable, default="euclidean"
        A callable maps blocks (a, d), (b, d) to distances (a, b).
    float32 : bool, default=False
        Single-precision products; near-ties may then swap.
    max_memory : float, default=512
        MiB of working memory, which sets the length of the chunks.

    Yields
    ------
    chunk : slice
        Validation points of this chunk.
    order : ndarray of shape (m, n) of int
        ``order[j, r]`` is the index of the training point of rank r, near to far.

    Raises
    ------
    ValueError
        If `metric` is unknown, or an array is empty, not finite, or of the wrong shape.

    Examples
    --------
    >>> [order.tolist() for _, order in rank_neighbours([[0.0], [3.0], [1.0], [3.0]], [[2.5]])]
    [[[1, 3, 2, 0]]]
    """
    X, X_val = check_points(X, X_val, metric)
    check_bool("float32", float32)
    check_real("max_memory", max_memory, low=0.0, closed="right")
    return rank_blocks(DistanceBlocks(X, X_val, metric, float32=float32), max_memory)


def rank_blocks(blocks: DistanceBlocks, max_memory: float) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Yield the order of the columns of `blocks`, ties by column; see `rank_neighbours`."""
    n = blocks.n_columns
    n_val = blocks.slack.shape[0]
    step = rows_per_chunk(24 * n, 24 * n, max_memory)
    value, flags = np.empty(n), np.empty(n, dtype=np.bool_)
    for start in range(0, n_val, step):
        chunk = slice(start, min(start + step, n_val))
        m = chunk.stop - start
        distances = np.empty((m, n))
        blocks.compute(chunk, distances)
        keys = np.empty((m, n), dtype=np.uint64)
        near = np.empty(m, dtype=np.uint64)
        sort_keys(distances, 0, n, read_only(blocks.slack[chunk]), keys, near)
        order = np.empty((m, n), dtype=np.int64)
        for j in range(m):
            _knn.unpack_order(
                keys[j],
                key_shift(n),
                near[j],
                0,
                n,
                distances[j],
                blocks.rows,
                blocks.points,
                blocks.queries[start + j],
                blocks.metric_code,
                order[j],
                value,
                flags,
            )
        yield chunk, order


def nearest_neighbours(
    X: ArrayLike,
    X_val: ArrayLike,
    n_neighbors: int,
    *,
    metric: Metric = "euclidean",
    max_memory: float = 512,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the nearest training points of each validation point, ties by index.

    Parameters
    ----------
    X, X_val, metric, max_memory
        As in :func:`rank_neighbours`.
    n_neighbors : int
        How many; all where there are fewer.

    Returns
    -------
    distances : ndarray of shape (M, min(n_neighbors, n))
        Near to far; squared where ``metric="euclidean"``.
    indices : ndarray of shape (M, min(n_neighbors, n)) of int

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong shape.
    """
    X, X_val = check_points(X, X_val, metric)
    k = min(check_int("n_neighbors", n_neighbors, minimum=1), X.shape[0])
    check_real("max_memory", max_memory, low=0.0, closed="right")
    blocks = DistanceBlocks(X, X_val, metric)
    n_val = X_val.shape[0]
    near_distance = np.full((n_val, k), np.inf)
    near_index = np.full((n_val, k), -1, dtype=np.int64)
    count = np.zeros(n_val, dtype=np.int64)
    step = rows_per_chunk(8 * X.shape[0], 0, max_memory)
    for start in range(0, n_val, step):
        chunk = slice(start, min(start + step, n_val))
        distances = np.empty((chunk.stop - start, X.shape[0]))
        blocks.compute(chunk, distances)
        _knn.nearest_rows(
            distances,
            blocks.rows,
            0,
            blocks.points,
            blocks.queries[chunk],
            blocks.metric_code,
            read_only(blocks.slack[chunk]),
            k,
            near_distance[chunk],
            near_index[chunk],
            count[chunk],
        )
    return near_distance, near_index


def knn_shapley(
    scores: ArrayLike, *, n_neighbors: int = 5, denominator: str = "k", empty_value: float = 0.0
) -> NDArray[np.float64]:
    r"""Exact Shapley values of training points for a K-nearest-neighbour utility, given the scores in order.

    With :math:`h_1, \dots, h_n` the scores of the training points from near to far and
    :math:`v(S) = \frac1K \sum` of the scores of the :math:`\min(K, |S|)` nearest members of S,

    .. math::
        \phi_n = \frac{h_n}{\max(n, K)}, \qquad
        \phi_l = \phi_{l+1} + \frac{h_l - h_{l+1}}{\max(l, K)}.

    ``denominator="min"`` divides by :math:`\min(K, |S|)` instead, with :math:`v(\emptyset)` = `empty_value`;
    every difference then gains
    :math:`\frac{h_l - h_{l+1}}{n-1} \sum_{k=0}^{\min(K-1, n-2)} (\frac1{k+1} - \frac1K)`.

    Parameters
    ----------
    scores : array-like of shape (..., n)
        Scores of the training points, near to far: 1 where the label agrees with that of the validation
        point, 0 where it does not, or any other per-pair score.
    n_neighbors : int, default=5
        K; may exceed n.
    denominator : {"k", "min"}, default="k"
        What the sum of scores is divided by.
    empty_value : float, default=0
        Utility of the empty set where ``denominator="min"``; it is 0 otherwise.

    Returns
    -------
    values : ndarray of the shape of `scores`
        In units of the score; the sum over the last axis is v(all) - v(empty).

    Raises
    ------
    ValueError, TypeError
        If `scores` is empty or not finite, or another argument is out of range.

    References
    ----------
    .. [1] Jia et al., "Efficient task-specific data valuation for nearest neighbor algorithms", VLDB 2019,
       Theorem 1.
    .. [2] Wang and Jia, "A note on 'Efficient task-specific data valuation for nearest neighbor algorithms'",
       2023 (the denominator "min").

    Examples
    --------
    >>> knn_shapley([1, 0, 1], n_neighbors=1).round(4).tolist()
    [0.8333, -0.1667, 0.3333]
    """
    k = check_int("n_neighbors", n_neighbors, minimum=1)
    check_choice("denominator", denominator, ("k", "min"))
    empty = check_real("empty_value", empty_value)
    h = np.asarray(scores, dtype=np.float64)
    if h.ndim == 0 or h.shape[-1] == 0 or not np.all(np.isfinite(h)):
        raise ValueError(f"scores must be finite numbers of shape (..., n) with n >= 1; got shape {h.shape}")
    n = h.shape[-1]
    flat = np.ascontiguousarray(h.reshape(-1, n))
    farthest, drift = farthest_value(flat, k, denominator == "min", empty)
    values = np.empty_like(flat)
    _knn.shapley_recursion(flat, k, drift, farthest, values)
    return values.reshape(h.shape)


def farthest_value(
    scores: NDArray[np.float64], k: int, refined: bool, empty_value: float
) -> tuple[NDArray[np.float64], float]:
    """Return the value of the farthest point of each row, and what each score difference gains per step."""
    n = scores.shape[1]
    last = scores[:, -1]
    if not refined:
        return last / max(n, k), 0.0
    sizes = np.arange(1, min(k, n) + 1)
    farthest = (last - empty_value) / n
    if n > 1:
        others = scores[:, :-1].mean(axis=1)
        farthest = farthest + (last - others) * (1.0 / sizes[1:]).sum() / n
    drift = float((1.0 / sizes[: n - 1] - 1.0 / k).sum() / (n - 1)) if n > 1 else 0.0
    return farthest, drift


def knn_shapley_values(
    X: ArrayLike,
    y: ArrayLike,
    X_val: ArrayLike,
    y_val: ArrayLike,
    *,
    n_neighbors: int = 5,
    metric: Metric = "euclidean",
    max_memory: float = 512,
) -> NDArray[np.float64]:
    """Return the Shapley value of each training point for a K-nearest-neighbour classifier.

    The mean over validation points of :func:`knn_shapley` on ``1[y_i = y_val]``.

    Parameters
    ----------
    X, X_val, metric, max_memory
        As in :func:`rank_neighbours`.
    y : array-like of shape (n,)
    y_val : array-like of shape (M,)
        Labels; one that no training point has agrees with none.
    n_neighbors : int, default=5

    Returns
    -------
    values : ndarray of shape (n,), in units of validation accuracy; sums to v(all) - v(empty)

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong shape.
    """
    X, X_val = check_points(X, X_val, metric)
    labels, labels_val = np.asarray(y), np.asarray(y_val)
    for name, array, length in (("y", labels, X.shape[0]), ("y_val", labels_val, X_val.shape[0])):
        if array.shape != (length,):
            raise ValueError(f"{name} must have shape ({length},); got {array.shape}")
    values = np.zeros(X.shape[0], dtype=np.float64)
    for chunk, order in rank_neighbours(X, X_val, metric=metric, max_memory=max_memory):
        agree: NDArray[Any] = labels[order] == labels_val[chunk, None]
        phi = knn_shapley(agree, n_neighbors=n_neighbors)
        for j in range(len(order)):
            values[order[j]] += phi[j]
    values /= X_val.shape[0]
    return values
