"""Leave-one-out values of a nearest-neighbour classifier, in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core._distances import Metric, check_points
from mlpapers.core.knn import nearest_neighbours
from mlpapers.valuation._knn_setup import check_n_neighbors
from mlpapers.valuation._labels import encode_scores, encode_targets


def knn_loo(
    X: ArrayLike,
    y: ArrayLike,
    X_val: ArrayLike,
    y_val: ArrayLike,
    n_neighbors: int = 5,
    *,
    metric: Metric = "euclidean",
) -> NDArray[np.float64]:
    r"""Exact leave-one-out values v(D) - v(D - i) of training points for a K-nearest-neighbour classifier.

    With h the agreement of labels, a point among the K nearest of a validation point is replaced by the next
    one,

    .. math::
        \phi_i = \frac{h_i - h_{(K+1)}}{K} \ \text{if i is among the K nearest}, \quad 0 \ \text{otherwise},

    where :math:`h_{(K+1)} = 0` if there is none; the value is the mean over validation points.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,) or (n, C)
        Labels or soft labels.
    X_val : array-like of shape (M, d)
    y_val : array-like of shape (M,)
    n_neighbors : int, default=5
    metric : {"euclidean", "cosine", "manhattan", "precomputed"} or callable, default="euclidean"

    Returns
    -------
    ndarray of shape (n,)
        Values in units of accuracy.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape, or labels are real numbers.

    Examples
    --------
    >>> knn_loo([[0.0], [1.0], [2.0]], [1, 0, 1], [[0.2]], [1], n_neighbors=1).tolist()
    [1.0, 0.0, 0.0]
    """
    k = check_n_neighbors(n_neighbors)
    points, queries = check_points(X, X_val, metric)
    n = len(points)
    targets = encode_targets(
        y, y_val, "classification", n, len(queries), remedy="; LeaveOneOut takes targets of a regression"
    )
    scores = encode_scores(y, targets, n)
    nearest = nearest_neighbours(points, queries, k + 1, metric=metric)[1]
    if targets.kind == "soft":
        column = np.maximum(targets.codes, 0)[:, None]
        h = np.where(targets.codes[:, None] >= 0, scores.table[column, nearest], 0.0)
    else:
        h = (scores.codes[nearest] == targets.codes[:, None]).astype(np.float64)
    following = h[:, k] if n > k else np.zeros(len(queries))
    gains = (h[:, :k] - following[:, None]) / k
    return np.bincount(nearest[:, :k].ravel(), weights=gains.ravel(), minlength=n) / len(queries)
