"""Totals of data values by owner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlpapers.valuation._values import as_values

__all__ = ["aggregate_values"]


def aggregate_values(values: ArrayLike | Any, owners: ArrayLike) -> pd.Series:
    """Sum data values by owner.

    Parameters
    ----------
    values : array-like of shape (n,), or an object with ``values_`` or ``values`` of that shape
        Values of points or sources, of one round or of several one after the other.
    owners : array-like of shape (n,)
        Who owns each of them; any labels.

    Returns
    -------
    pandas.Series
        Totals, in units of the values, indexed by owner in sorted order.

    Raises
    ------
    ValueError
        If the lengths differ, a value is not finite, or an owner is missing.
    NotFittedError
        If `values` is a valuer that is not fitted.

    Examples
    --------
    >>> aggregate_values([0.25, 0.5, 0.125], ["b", "a", "b"]).to_dict()
    {'a': 0.5, 'b': 0.375}
    """
    amounts = as_values(values, None, "")
    labels = np.asarray(owners)
    if labels.shape != amounts.shape:
        raise ValueError(f"owners must have shape {amounts.shape}, one per value; got {labels.shape}")
    if pd.isna(labels).any():
        raise ValueError("owners must not hold missing labels")
    return pd.Series(amounts, name="value").groupby(pd.Series(labels, name="owner"), sort=True).sum()
