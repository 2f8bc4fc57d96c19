"""Checks that every part of the package shares: sensitive columns, labels, options, weights."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_choice

__all__ = [
    "BOUNDS",
    "MEASURES",
    "NOTIONS",
    "RATIO_FORMS",
    "REFERENCES",
    "FairnessWarning",
    "as_floats",
    "check_binary",
    "check_tolerance",
    "check_weights",
    "constraint_blocks",
    "flat_labels",
    "label_pair",
    "sensitive_table",
]

NOTIONS = ("demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity")
CONSTRAINTS = (*NOTIONS, "equalized_odds")
MEASURES = ("difference", "ratio")
REFERENCES = ("overall", "pairwise")
RATIO_FORMS = ("complement", "inverse", "lower")
BOUNDS = ("normal", "hoeffding", "bernstein")
_COMPOSITES = {"equalized_odds": ("equal_opportunity", "predictive_equality")}


class FairnessWarning(UserWarning):
    """A constraint does not bind as asked: a group was left out, or there is nothing to constrain."""


def constraint_blocks(constraint: Any) -> tuple[str, ...]:
    """Return the notions that `constraint` (a name or a tuple of names) stands for, each once.

    Examples
    --------
    >>> constraint_blocks("equalized_odds")
    ('equal_opportunity', 'predictive_equality')
    """
    names = constraint if isinstance(constraint, list | tuple) else [constraint]
    if not names:
        raise ValueError(
            f"constraint must name one of {', '.join(map(repr, CONSTRAINTS))}; got {constraint!r}"
        )
    blocks: dict[str, None] = {}
    for name in names:
        check_choice("constraint", name, CONSTRAINTS)
        blocks.update(dict.fromkeys(_COMPOSITES.get(name, (name,))))
    return tuple(blocks)


def check_tolerance(tolerance: Any, name: str = "tolerance") -> float:
    """Return `tolerance` as a float in [0, 1]; ValueError otherwise."""
    try:
        value = float(tolerance)
    except (TypeError, ValueError):
        value = np.nan
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a number in [0, 1]; got {tolerance!r}")
    return value


def check_binary(y: ArrayLike, name: str = "y_true") -> NDArray[np.float64]:
    """Return labels as 0/1 float64 (n,): 0 and 1 as they are, of two others the greater as 1.

    Raises
    ------
    ValueError
        For more labels, a missing one, and a single one that is neither 0 nor 1.
    """
    labels = flat_labels(y)
    values = as_floats(labels)
    if values is not None and values.ndim == 1 and np.isin(values, (0.0, 1.0)).all():
        return values
    return (labels == label_pair(labels, name)[1]).astype(np.float64)


def flat_labels(y: ArrayLike) -> NDArray[Any]:
    """Return labels as an array; a single column is flattened."""
    labels = np.asarray(y)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def as_floats(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return values as float64, or None where some are no numbers."""
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def label_pair(labels: NDArray[Any], name: str) -> tuple[Any, Any]:
    """Return the two labels there are, the positive one last, as a classifier's ``classes_``."""
    problem = f"Only binary classification is supported: {name} must hold two labels, or 0 and 1"
    if labels.ndim != 1:
        raise ValueError(f"{problem}; got shape {labels.shape}")
    if pd.isna(labels).any():
        raise ValueError(f"{problem}; got a missing label at {int(np.argmax(pd.isna(labels)))}")
    try:
        found = np.unique(labels).tolist()
    except TypeError as error:
        raise ValueError(f"{problem}; got labels of several types") from error
    if len(found) != 2:
        raise ValueError(f"{problem}; got {reprlib.repr(found)}")
    return found[0], found[1]


def check_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return weights that sum to 1 (uniform for None); ValueError if negative, not finite, or all zero."""
    if sample_weight is None:
        return np.full(n, 1.0 / max(n, 1))
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},); got {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("sample_weight must be finite and non-negative, and not all zero")
    return weights / weights.sum()


def sensitive_table(sensitive_features: Any, n: int | None = None) -> pd.DataFrame:
    """Return the sensitive columns as text, one row per sample.

    Parameters
    ----------
    sensitive_features : DataFrame, Series, mapping of columns, list, or array of shape (n,) or (n, K)
        Values of any type; they are compared as text.
    n : int, optional
        The number of rows that there must be.

    Returns
    -------
    table : DataFrame of str with a fresh index

    Raises
    ------
    ValueError
        For another number of rows, no column, or a missing value (its column is named).
    """
    if isinstance(sensitive_features, Mapping):
        columns = [np.asarray(column) for column in sensitive_features.values()]
        if len({column.shape for column in columns}) > 1 or any(column.ndim != 1 for column in columns):
            raise ValueError("sensitive_features must have columns of one length, each 1-D")
        names = [str(name) for name in sensitive_features]
    elif isinstance(sensitive_features, pd.DataFrame):
        columns = [sensitive_features.iloc[:, j].to_numpy() for j in range(sensitive_features.shape[1])]
        names = [str(name) for name in sensitive_features.columns]
    elif isinstance(sensitive_features, pd.Series):
        columns = [sensitive_features.to_numpy()]
        names = ["sensitive_feature_0" if sensitive_features.name is None else str(sensitive_features.name)]
    else:
        array = np.asarray(sensitive_features)
        if array.ndim not in (1, 2):
            raise ValueError(f"sensitive_features must be 1-D or 2-D; got shape {array.shape}")
        array = array[:, None] if array.ndim == 1 else array
        columns = list(array.T)
        names = [f"sensitive_feature_{j}" for j in range(array.shape[1])]
    if not columns:
        raise ValueError("sensitive_features must have at least one column")
    if n is not None and len(columns[0]) != n:
        raise ValueError(f"sensitive_features must have {n} rows, one per sample; got {len(columns[0])}")
    text = []
    for name, column in zip(names, columns):
        if pd.isna(column).any():
            raise ValueError(f"sensitive_features has a missing value in column {name!r}")
        # Lists hold Python numbers, in which a short float shows the digits that it lacks.
        values = column if column.dtype.kind == "f" and column.dtype.itemsize < 8 else column.tolist()
        text.append(np.array([str(value) for value in values], dtype=object))
    return pd.DataFrame(dict(enumerate(text)), dtype=object).set_axis(names, axis=1)
