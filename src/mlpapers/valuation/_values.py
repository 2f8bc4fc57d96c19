"""Values as a caller has them: numbers, a fitted valuer, or a result."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import held_values
from mlpapers.valuation._base import ValuerMixin

__all__ = ["as_numbers", "as_values"]


def as_numbers(name: str, values: Any) -> NDArray[np.float64]:
    """Return numbers of any shape as float64; TypeError or ValueError that names them where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be numbers; got {reprlib.repr(values)}") from error


def as_values(values: Any, n: int | None, rows_of: str) -> NDArray[np.float64]:
    """Return values as finite numbers (n,), from an array, a valuer or a result."""
    if isinstance(values, ValuerMixin):
        check_is_fitted(values, "values_")
    numbers = as_numbers("values", held_values(values))
    if numbers.ndim != 1 or (n is not None and len(numbers) != n):
        expected = "1-D" if n is None else f"of shape ({n},), one entry per row of {rows_of}"
        raise ValueError(f"values must be {expected}; got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite; got NaN or infinity")
    return numbers
