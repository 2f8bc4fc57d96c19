"""Values as a caller has them: numbers, a fitted valuer, or a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["as_values"]


def as_values(values: Any, n: int | None, rows_of: str) -> NDArray[np.float64]:
    """Return values as finite numbers (n,), from an array, a valuer or a result."""
    for name in ("values_", "values"):
        inner = getattr(values, name, None)
        if inner is not None and not callable(inner) and not isinstance(values, pd.DataFrame):
            values = inner
            break
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or (n is not None and len(numbers) != n):
        expected = "1-D" if n is None else f"of shape ({n},), one entry per row of {rows_of}"
        raise ValueError(f"values must be {expected}; got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite; got NaN or infinity")
    return numbers
