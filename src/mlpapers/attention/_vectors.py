"""Checked vectors and matrices of the closed forms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def logit(p: float) -> float:
    """Return the logarithm of the odds of p."""
    return math.log(p / (1.0 - p))


def distance(a: Array, b: Array) -> float:
    """Return the distance of two tokens, which must differ."""
    if a.shape != b.shape:
        raise ValueError(f"both tokens must have one shape; got {a.shape} and {b.shape}")
    length = float(np.linalg.norm(a - b))
    if length == 0.0:
        raise ValueError("the two tokens must differ")
    return length


def vector(name: str, value: ArrayLike) -> Array:
    """Return a finite 1-D array."""
    return _finite(name, value, 1)


def matrix(name: str, value: ArrayLike) -> Array:
    """Return a finite 2-D array."""
    return _finite(name, value, 2)


def _finite(name: str, value: ArrayLike, ndim: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != ndim or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite {ndim}-D array; got shape {array.shape}")
    return array
