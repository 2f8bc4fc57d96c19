"""Scores of training points for validation points: labels that agree, class probabilities, or targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from mlpapers.core.validation import check_probability_rows
from mlpapers.valuation._knn import LABELS, PROBABILITIES, TARGETS

# Contents of an object array that can have fractions.
_FRACTIONS = ("floating", "mixed-integer-float")


@dataclass(frozen=True, eq=False)
class ValidationTargets:
    """What training labels are compared with, of M validation points.

    Parameters
    ----------
    kind : str
        "number", "text" or "object" labels, "soft" labels, or "target" of a regression.
    classes : pandas.Index or None
        The distinct validation labels.
    codes : ndarray of shape (M,) of int
        Position in `classes`, or column of the soft labels; -1 for none.
    targets : ndarray of shape (M,)
        Regression targets, else zeros.
    n_classes : int
        Distinct labels of the first training set and the validation set, or columns of the soft labels.
    known : frozenset
        These distinct labels; empty where there are none.
    """

    kind: str
    classes: pd.Index | None
    codes: NDArray[np.int64]
    targets: NDArray[np.float64]
    n_classes: int
    known: frozenset[Any] = frozenset()

    def unknown(self, y: Any) -> list[Any]:
        """Return the labels in `y` that the first training set and the validation set do not have."""
        if self.classes is None:
            return []
        return [label for label in pd.unique(as_labels(y)).tolist() if label not in self.known]


@dataclass(frozen=True, eq=False)
class Scores:
    """Training labels as the compiled kernels read them: `codes` (n,) or `table` (C, n), by `kind`."""

    kind: int
    codes: NDArray[np.int32]
    table: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64] | None) -> Scores:
        """Return the scores with columns in the order `rows`."""
        if rows is None:
            return self
        if self.kind == LABELS:
            return Scores(self.kind, self.codes[rows], self.table)
        return Scores(self.kind, self.codes, np.ascontiguousarray(self.table[:, rows]))


def label_kind(name: str, labels: NDArray[Any]) -> str:
    """Say whether labels are numbers, text, or other objects; ValueError where one is missing."""
    if labels.dtype.kind in "fcmMO" and pd.isna(labels).any():
        raise ValueError(f"{name} must not hold missing labels; got one at {int(np.argmax(pd.isna(labels)))}")
    if labels.dtype.kind in "iufbc":
        return "number"
    if labels.dtype.kind in "US":
        return "text"
    inferred = pd.api.types.infer_dtype(labels, skipna=False)
    if inferred in ("string", "bytes"):
        return "text"
    return "number" if inferred in ("integer", "floating", "mixed-integer-float", "boolean") else "object"


def as_labels(y: Any) -> NDArray[Any]:
    """Return labels as an array; a single column is flattened with a warning, as scikit-learn does."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        return np.asarray(column_or_1d(labels, warn=True))
    return labels


def is_real_valued(labels: NDArray[Any]) -> bool:
    """Say whether labels are numbers of which some are not whole, as targets of a regression are."""
    return _first_fraction(labels) is not None


def check_class_labels(name: str, labels: NDArray[Any], remedy: str = "") -> None:
    """ValueError, which ends in `remedy`, where labels are real numbers: hardly any two would agree."""
    fraction = _first_fraction(labels)
    if fraction is not None:
        raise ValueError(f"{name} must hold class labels; got real numbers such as {fraction:g}{remedy}")


def _first_fraction(labels: NDArray[Any]) -> float | None:
    if labels.dtype.kind == "O" and pd.api.types.infer_dtype(labels, skipna=False) in _FRACTIONS:
        labels = labels.astype(np.float64)
    if labels.dtype.kind != "f":
        return None
    fractional = np.isfinite(labels) & (labels != np.rint(labels))
    return float(labels[np.argmax(fractional)]) if fractional.any() else None


def check_length(name: str, array: NDArray[Any], length: int, rows_of: str) -> None:
    """ValueError unless `array` is 1-D with one entry for each of the `length` rows of `rows_of`."""
    if array.ndim != 1 or array.shape[0] != length:
        raise ValueError(
            f"{name} must have shape ({length},), one entry per row of {rows_of}; got {array.shape}"
        )


def encode_targets(
    y: Any, y_val: Any, task: str, n: int, n_val: int, *, remedy: str = ""
) -> ValidationTargets:
    """Check `y_val` against the first training labels `y`, and encode it.

    `remedy` ends the message where labels turn out to be real numbers.
    """
    labels, labels_val = as_labels(y), as_labels(y_val)
    if labels_val.size == 0:
        raise ValueError("y_val must not be empty")
    check_length("y_val", labels_val, n_val, "X_val")
    no_codes = np.zeros(n_val, dtype=np.int64)
    if task == "regression":
        return ValidationTargets("target", None, no_codes, check_numbers("y_val", labels_val), 0)
    kind_val = label_kind("y_val", labels_val)
    if labels.ndim == 2:
        numbers = check_numbers("y_val", labels_val) if kind_val == "number" else np.full(n_val, np.nan)
        if not np.array_equal(numbers, np.rint(numbers)):
            raise ValueError("y_val must hold column numbers of y where y holds soft labels (n, C)")
        inside = (numbers >= 0) & (numbers < labels.shape[1])
        codes = np.where(inside, numbers, -1).astype(np.int64)
        return ValidationTargets("soft", None, codes, np.zeros(n_val), labels.shape[1])
    check_length("y", labels, n, "X")
    kind = label_kind("y", labels)
    if {kind, kind_val} == {"number", "text"}:
        raise ValueError(f"y_val must hold labels of the type of y; got {kind_val} for {kind}")
    check_class_labels("y", labels, remedy)
    check_class_labels("y_val", labels_val, remedy)
    codes_val, classes = pd.factorize(labels_val)
    known = frozenset(pd.unique(labels).tolist()) | frozenset(classes.tolist())
    return ValidationTargets(
        kind, pd.Index(classes), codes_val.astype(np.int64), np.zeros(n_val), len(known), known
    )


def encode_scores(y: Any, against: ValidationTargets, n: int, *, name: str = "y") -> Scores:
    """Check training labels against the validation targets, and encode them.

    Raises
    ------
    ValueError
        If `y` has the wrong length, another type than before, or rows that are no distributions.
    """
    labels = as_labels(y)
    no_codes, no_table = np.zeros(0, dtype=np.int32), np.zeros((1, 0))
    if against.kind == "soft":
        if labels.ndim != 2 or labels.shape != (n, against.n_classes):
            raise ValueError(
                f"{name} must hold soft labels of shape ({n}, {against.n_classes}); got shape {labels.shape}"
            )
        if labels.dtype.kind not in "iuf":
            raise ValueError(
                f"{name} must hold numbers where it is 2-D (soft labels); got dtype {labels.dtype}"
            )
        table = check_probability_rows(name, labels)
        return Scores(PROBABILITIES, no_codes, np.ascontiguousarray(table.T))
    check_length(name, labels, n, name.replace("y", "X"))
    if against.kind == "target":
        return Scores(TARGETS, no_codes, check_numbers(name, labels).reshape(1, n))
    kind = label_kind(name, labels)
    if kind != against.kind:
        raise ValueError(f"{name} must hold labels of the type seen before ({against.kind}); got {kind}")
    check_class_labels(name, labels)
    codes = against.classes.get_indexer(pd.Index(labels)) if against.classes is not None else no_codes
    return Scores(LABELS, np.asarray(codes, dtype=np.int32), no_table)


def check_numbers(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return a 1-D array of finite numbers as float64; text is not converted."""
    if values.dtype.kind not in "iufb" and label_kind(name, values) != "number":
        raise ValueError(f"{name} must be numeric; got dtype {values.dtype}")
    numbers = np.ascontiguousarray(values, dtype=np.float64)
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} must be finite; got NaN or infinity")
    return numbers
