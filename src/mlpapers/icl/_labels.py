"""Partly labelled targets: which rows are unlabelled, and what the classes are."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from mlpapers.core.validation import text_columns

__all__ = ["PartialLabels", "missing_values", "read_labels", "read_rows", "validate_rows"]


class PartialLabels(NamedTuple):
    """Labels as codes.

    Attributes
    ----------
    classes : ndarray of shape (C,)
    codes : ndarray of shape (n,), int
        Index into `classes`, -1 where the label is missing.
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Which rows have a label, shape (n,)."""
        return self.codes >= 0


def read_labels(
    y: NDArray[Any],
    unlabeled: Any = "auto",
    *,
    missing: NDArray[np.bool_] | None = None,
    binary: str | None = None,
) -> PartialLabels:
    """Tell labels from missing ones.

    Parameters
    ----------
    y : ndarray of shape (n,)
    unlabeled : "auto", or the value that marks a row without label
        "auto" takes -1 for the mark ("-1" in text; among objects either), unless fewer than two classes would
        be left; then -1 is a class and a UserWarning says so.
    missing : ndarray of shape (n,) of bool, optional
        Which rows have no label, where that is known already.
    binary : str, optional
        Name of a classifier for two classes only; more are refused.

    Raises
    ------
    ValueError
        With fewer than two classes among the labelled rows, or targets that are no classes.
    """
    auto = missing is None and isinstance(unlabeled, str) and unlabeled == "auto"
    if missing is None:
        missing = auto_marked(y) if auto else marked(y, unlabeled)
    present = _comparable(y[~missing])
    # Integers and text are classes whatever they hold; the check is for numbers with a fraction.
    if present.size and present.dtype.kind not in "biuUS":
        check_classification_targets(present)
    classes = np.unique(present)
    if auto and missing.any() and len(classes) == 1:
        warnings.warn(
            "y has one class beside -1, so -1 is taken for a class; pass unlabeled=MARK where it is not",
            UserWarning,
            stacklevel=4,
        )
        missing = np.zeros(len(y), dtype=bool)
        present = _comparable(y)
        classes = np.unique(present)
    if len(classes) < 2:
        raise ValueError(
            f"y must have at least two classes among the labelled rows; got {len(classes)} class: "
            f"{classes.tolist()}"
        )
    if binary is not None and len(classes) > 2:
        raise ValueError(
            f"Only binary classification is supported by {binary}. The type of the target is multiclass "
            f"with {len(classes)} classes."
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~missing] = np.searchsorted(classes, present)
    return PartialLabels(classes, codes)


def read_rows(
    estimator: Any, X: Any, y: Any, unlabeled: Any = "auto", *, binary: str | None = None
) -> tuple[NDArray[np.float64], PartialLabels]:
    """Return checked X (n, d) float64 and the labels, and set ``n_features_in_``.

    As :func:`validate_rows` and :func:`read_labels`, for y in which missing values may mark rows: where the
    mark is None or NaN, and for "auto" where y holds any. Under any other mark they are refused.
    """
    missing = missing_values(y)
    if missing is not None:
        raw = np.array(y, dtype=object)
        if not is_missing_mark(unlabeled) and not (isinstance(unlabeled, str) and unlabeled == "auto"):
            row = int(np.argmax(missing))
            raise ValueError(
                f"y holds {raw[row]} in row {row}, but unlabeled={unlabeled!r} marks rows without label"
            )
        # Validators refuse missing values in y; any label will do in their place.
        raw[missing] = 0 if missing.all() else raw[~missing][0]
        y = np.array(raw.tolist())
    X, y = validate_rows(estimator, X, y)
    return X, read_labels(y, unlabeled, missing=missing, binary=binary)


def missing_values(y: Any) -> NDArray[np.bool_] | None:
    """Return which entries of y (n,) are None, NaN or pandas' NA; None where no entry is."""
    dtype = getattr(y, "dtype", None)
    if y is None or (isinstance(dtype, np.dtype) and dtype.kind in "biuUS"):
        return None
    import pandas as pd

    try:
        values = np.asarray(y, dtype=float if isinstance(dtype, np.dtype) and dtype.kind == "f" else object)
    except ValueError:
        return None
    if values.ndim != 1:
        return None
    missing = np.asarray(pd.isna(values), dtype=bool)
    return missing if missing.any() else None


def validate_rows(estimator: Any, X: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return checked X (n, d) float64 and y (n,), and set ``n_features_in_``, as ``validate_data`` does.

    Arrays that are already what it would make of them skip its conversions, which would take most of the time
    of a fit to a few hundred rows.

    Raises
    ------
    ValueError
        As ``validate_data``; where a column of a frame holds text, naming the column.
    """
    ready = (
        type(X) is np.ndarray
        and type(y) is np.ndarray
        and X.dtype == np.float64
        and y.dtype.kind in "iu"
        and X.ndim == 2
        and y.shape == X.shape[:1]
        and X.size > 0
        and X.flags.c_contiguous
        and not hasattr(estimator, "feature_names_in_")
    )
    if ready and np.isfinite(X).all():
        estimator.n_features_in_ = X.shape[1]
        return X, y
    try:
        checked: tuple[NDArray[np.float64], NDArray[Any]] = validate_data(
            estimator, X, y, dtype=np.float64, order="C"
        )
    except ValueError as error:
        columns = text_columns(X) if "could not convert string" in str(error) else []
        if not columns:
            raise
        raise ValueError(f"X must be numeric; column {columns[0]!r} holds text") from error
    return checked


def check_mark(unlabeled: Any) -> Any:
    """Return `unlabeled` if it can mark a row: a number, a string or None; otherwise raise a TypeError."""
    if unlabeled is None or isinstance(unlabeled, str | int | float | np.generic):
        return unlabeled
    raise TypeError(f"unlabeled must be 'auto' or a value of y; got {unlabeled!r}")


def is_missing_mark(unlabeled: Any) -> bool:
    """Whether the mark is None or NaN, which validators of y refuse."""
    return unlabeled is None or (isinstance(unlabeled, float) and unlabeled != unlabeled)


def marked(y: NDArray[Any], mark: Any) -> NDArray[np.bool_]:
    """Return which entries of y, which has no missing values, equal the mark.

    Raises
    ------
    ValueError
        For a text that marks rows of a numeric y.
    """
    if is_missing_mark(mark):
        return np.zeros(len(y), dtype=bool)
    if y.dtype.kind in "biuf":
        if isinstance(mark, str):
            raise ValueError(f"unlabeled={mark!r} is text, but y holds numbers (dtype {y.dtype})")
        return np.asarray(y == mark)
    if y.dtype.kind == "U":
        # Names together with a number in one array of numpy are all text.
        return np.asarray(y == str(mark))
    mark, *values = (v.item() if isinstance(v, np.generic) else v for v in (mark, *y.tolist()))
    same = [value == mark and isinstance(value, bool) == isinstance(mark, bool) for value in values]
    return np.array(same, dtype=bool)


def auto_marked(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which entries of y, which has no missing values, are -1; among objects also the text "-1"."""
    return marked(y, -1) if y.dtype.kind in "biuf" else marked(y, -1) | marked(y, "-1")


def _comparable(labels: NDArray[Any]) -> NDArray[Any]:
    """Return objects that are not all text as numpy has them from a list, with one type; else `labels`."""
    if labels.dtype.kind != "O" or all(isinstance(label, str) for label in labels):
        return labels
    return np.array(labels.tolist())
