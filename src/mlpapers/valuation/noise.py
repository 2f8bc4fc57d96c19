"""Mislabelled points, found by their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int, check_real
from mlpapers.valuation._values import as_values

__all__ = ["detect_noisy_labels"]


def detect_noisy_labels(
    values: ArrayLike | Any, n_flag: int | None = None, threshold: float | None = None
) -> NDArray[np.int64]:
    """Return the points most likely to be mislabelled: those of lowest value.

    Parameters
    ----------
    values : array-like of shape (n,), or a fitted valuer or result
    n_flag : int, optional
        How many to return.
    threshold : float, optional
        Return all below this value; 0 where neither is given.

    Returns
    -------
    ndarray of int
        Indices, lowest value first; ties by index.

    Raises
    ------
    ValueError, TypeError
        If both are given, or `n_flag` is not in 0..n.

    Examples
    --------
    >>> detect_noisy_labels([0.3, -0.2, 0.1, -0.5]).tolist()
    [3, 1]
    >>> detect_noisy_labels([0.3, -0.2, 0.1, -0.5], n_flag=3).tolist()
    [3, 1, 2]
    """
    numbers = as_values(values, None, "")
    if n_flag is not None and threshold is not None:
        raise ValueError("n_flag and threshold must not both be given")
    order = np.argsort(numbers, kind="stable").astype(np.int64, copy=False)
    if n_flag is not None:
        return order[: check_int("n_flag", n_flag, minimum=0, maximum=len(numbers))]
    below = numbers < (0.0 if threshold is None else check_real("threshold", threshold))
    return order[: int(np.count_nonzero(below))]
