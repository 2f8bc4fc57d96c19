"""A number in [0, 1) for every person: the same one in any batch, order, and process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["row_uniforms"]

Bits = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: Bits) -> Bits:
    """Apply the finaliser of splitmix64: every input bit flips about half of the output bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def row_uniforms(X: Any, codes: NDArray[np.int64] | None, salt: int) -> NDArray[np.float64]:
    """Return u(x) in [0, 1) per row, a hash of the row's values (and of its cell where given).

    Numbers count by their float64 value, so that arrays and frames agree; anything else by its text.

    Parameters
    ----------
    X : array or DataFrame of n rows
    codes : ndarray of shape (n,) of int, optional
    salt : int
        Another salt gives other, independent numbers.
    """
    if isinstance(X, pd.DataFrame):
        columns = [_bits(X.iloc[:, j]) for j in range(X.shape[1])]
    else:
        array = np.asarray(X)
        columns = [_bits(array[:, j]) for j in range(array.shape[1])]
    state = np.full(len(X), np.uint64(salt & 0xFFFFFFFFFFFFFFFF), dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = _mix(state + _GOLDEN)
        for column in columns:
            state = _mix(state * np.uint64(31) + column + _GOLDEN)
        if codes is not None:
            state = _mix(state * np.uint64(31) + codes.astype(np.uint64) + _GOLDEN)
    # The 53 high bits are a float64 in [0, 1) exactly.
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bits(column: Any) -> Bits:
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64) + 0.0  # turns -0.0 into 0.0
        return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    try:
        return _bits(values.astype(np.float64))
    except (TypeError, ValueError):
        text = np.array([str(value) for value in values.tolist()], dtype=object)
        return pd.util.hash_array(text, categorize=True).astype(np.uint64)
