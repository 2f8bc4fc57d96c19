"""The utility of a set of training points: fit a model on them, score it on validation data."""

from __future__ import annotations

import reprlib
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import check_scoring

from mlpapers.core.validation import (
    accepts_nan,
    check_bool,
    check_choice,
    check_indices,
    check_int,
    check_matrix,
    check_real,
)
from mlpapers.valuation._labels import (
    as_labels,
    check_class_labels,
    check_length,
    check_numbers,
    label_kind,
)
from mlpapers.valuation._model_scans import NearestPoints
from mlpapers.valuation.incremental import incremental_scan
from mlpapers.valuation.scan import RefitScan, Scan

__all__ = ["Utility", "check_empty_value", "check_finite", "check_model", "check_refitted"]


class Utility:
    r"""Score on validation data of a model fitted on a subset of the training data, as a set function.

    .. math::
        v(S) = \text{score}\big(\text{fit}(X_S, y_S),\; X_{val}, y_{val}\big), \qquad
        v(\emptyset) = \text{empty value}

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor
        Cloned for each fit. Give it an integer `random_state` where it has one: the utility of a set should
        be one number.
    X, y : array-like of shape (n, d) and (n,)
        Training data, the players. A DataFrame, or a sparse matrix (CSR), reaches the estimator as one.
        Missing values (NaN) are left to an estimator that takes them, such as a pipeline with an imputer.
    X_val, y_val : array-like of shape (M, d) and (M,)
        Validation data; labels that no training point has are allowed.
    scoring : str, callable or None, default=None
        A scikit-learn scorer (higher is better); None is the estimator's own ``score``.
    empty_value : float or "auto", default="auto"
        v of the empty set. "auto" is the score of a constant model: for classification the class frequencies
        of `y_val` (for accuracy, the share of the largest class), for regression the prediction 0.
    on_error : {"empty", "raise"}, default="empty"
        What becomes of a subset that cannot be fitted or scored: v(empty), or the exception. On all training
        points the exception is always raised.
    single_class : {"predict", "empty", "fit"}, default="predict"
        A subset of one class is scored as the constant prediction of that class; or counts as one that cannot
        be fitted; or is given to the estimator all the same.
    cache_size : int, default=100_000
        How many values to remember, the least recently used are forgotten first; 0 for none. Scans don't use
        the cache: the coalitions of random orders hardly ever repeat.

    Attributes
    ----------
    n_players : int
        n.
    n_calls : int
        How often the utility was called, in this process.
    n_fits : int
        Models fitted, in this process.
    n_failures : int
        Fits that ended in v(empty), in this process.
    empty_value_ : float
        v of the empty set.

    Raises
    ------
    ValueError
        If data are empty, not finite, or of different lengths; if an option is unknown; when called, if a
        score is not finite or an index is out of range.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> X, y = [[0.0], [1.0], [2.0]], ["a", "b", "b"]
    >>> u = Utility(KNeighborsClassifier(1), X, y, X_val=[[0.1], [1.9]], y_val=["a", "b"])
    >>> u([]), u([0]), u([0, 2])
    (0.5, 0.5, 1.0)
    """

    def __init__(
        self,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        *,
        scoring: Any = None,
        empty_value: float | str = "auto",
        on_error: str = "empty",
        single_class: str = "predict",
        cache_size: int = 100_000,
    ) -> None:
        self.estimator = estimator
        self.scoring = scoring
        self.on_error = check_choice("on_error", on_error, ("empty", "raise"))
        self.single_class = check_choice("single_class", single_class, ("predict", "empty", "fit"))
        self.cache_size = check_int("cache_size", cache_size, minimum=0)
        self.X, self.X_val = _check_rows("X", X, estimator), _check_rows("X_val", X_val, estimator)
        if self.X.shape[1] != self.X_val.shape[1]:
            raise ValueError(f"X_val must have the {self.X.shape[1]} columns of X; got {self.X_val.shape[1]}")
        self._regression = is_regressor(estimator)
        self._classification = is_classifier(estimator)
        self.y = self._check_targets("y", y, self.X.shape[0], "X")
        self.y_val = self._check_targets("y_val", y_val, self.X_val.shape[0], "X_val")
        self.n_players = self.X.shape[0]
        self.n_calls = self.n_fits = self.n_failures = 0
        self._scorer = check_scoring(estimator, scoring=scoring)
        self._constant_values: dict[Any, float] = {}
        self._cache: OrderedDict[bytes, float] = OrderedDict()
        self._distances: dict[str, NDArray[np.float64] | None] = {}
        self._lock = threading.Lock()
        self.empty_value_ = self._resolve_empty(empty_value)

    def __call__(self, indices: ArrayLike) -> float:
        """Return the utility of the training points `indices`, in any order."""
        if np.size(indices) == 0:
            self.n_calls += 1
            return self.empty_value_
        players = np.sort(check_indices("indices", indices, self.n_players))
        member = np.zeros(self.n_players, dtype=bool)
        member[players] = True
        key = np.packbits(member).tobytes()
        with self._lock:
            self.n_calls += 1
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        value = self.evaluate(players)
        with self._lock:
            self._cache[key] = value
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        return value

    def evaluate(self, players: NDArray[np.int64]) -> float:
        """Return the utility of a sorted index array, without the cache."""
        if len(players) == 0:
            return self.empty_value_
        labels = self.y[players]
        one_class = self._classification and self.single_class != "fit" and bool((labels == labels[0]).all())
        if one_class and self.single_class == "empty":
            return self._give_up(players, ValueError("the training points are all of one class"))
        try:
            value = self._constant_value(labels[0]) if one_class else self._fitted_value(players, labels)
        except Warning:
            # A warning that the user has turned into an error is no failed fit.
            raise
        except Exception as error:  # noqa: BLE001 - whatever an estimator raises, on_error says what it means
            return self._give_up(players, error)
        return check_finite(value, len(players))

    def scan(self, *, incremental: bool = True) -> Scan:
        """Return a growing coalition of training points.

        Parameters
        ----------
        incremental : bool, default=True
            Update the model instead of refitting it, where that gives the numbers of a refit: least squares
            and ridge regression, nearest neighbours, Gaussian naive Bayes, nearest centroids.
        """
        updated = incremental_scan(self) if check_bool("incremental", incremental) else None
        return RefitScan(self.evaluate, self.n_players) if updated is None else updated

    def pair_distances(self, metric: str) -> NDArray[np.float64] | None:
        """Return the distances (n, M) for scans of nearest neighbours, computed once; None if too large."""
        if metric not in self._distances:
            self._distances[metric] = NearestPoints.all_distances(self.X, self.X_val, metric)
        return self._distances[metric]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_cache": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _fitted_value(self, players: NDArray[np.int64], labels: NDArray[Any]) -> float:
        self.n_fits += 1
        rows = self.X.iloc[players] if isinstance(self.X, pd.DataFrame) else self.X[players]
        model = clone(self.estimator).fit(rows, labels)
        return float(self._scorer(model, self.X_val, self.y_val))

    def _constant_value(self, label: Any) -> float:
        if label not in self._constant_values:
            model = DummyClassifier(strategy="most_frequent").fit(np.zeros((1, 1)), [label])
            self._constant_values[label] = float(self._scorer(model, self.X_val, self.y_val))
        return self._constant_values[label]

    def _give_up(self, players: NDArray[np.int64], error: Exception) -> float:
        if self.on_error == "raise" or len(players) == self.n_players:
            error.add_note(
                f"raised by {type(self.estimator).__name__} on {len(players)} of {self.n_players} points"
            )
            raise error
        self.n_failures += 1
        return self.empty_value_

    def _resolve_empty(self, empty_value: Any) -> float:
        if check_empty_value(empty_value) != "auto":
            return float(empty_value)
        if self._classification:
            constant = DummyClassifier(strategy="prior")
        elif self._regression:
            constant = DummyRegressor(strategy="constant", constant=0.0)
        else:
            raise ValueError(
                "empty_value must be a number where the estimator is neither a classifier nor a regressor; "
                f"got 'auto' with {type(self.estimator).__name__}"
            )
        return check_finite(
            float(self._scorer(constant.fit(self.X_val, self.y_val), self.X_val, self.y_val)), 0
        )

    def _check_targets(self, name: str, values: Any, length: int, rows_of: str) -> NDArray[Any]:
        if values is None:
            raise ValueError(f"{name} must be given with {rows_of}; got None")
        targets = as_labels(values)
        check_length(name, targets, length, rows_of)
        if self._regression:
            return check_numbers(name, targets)
        label_kind(name, targets)
        if self._classification:
            check_class_labels(name, targets, "; give a regressor as estimator where they are targets")
        return targets


def check_model(estimator: Any, scoring: Any) -> None:
    """Check that `estimator` is a scikit-learn estimator or None, and `scoring` can be a scorer or None."""
    if not (estimator is None or (hasattr(estimator, "fit") and hasattr(estimator, "get_params"))):
        raise TypeError(f"estimator must be a scikit-learn estimator or None; got {estimator!r}")
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise TypeError(f"scoring must be a string, a callable or None; got {scoring!r}")


def check_refitted(estimator: Any) -> None:
    """TypeError unless `estimator` can be cloned and fitted; a valuer, which has values, is no model."""
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")) or (
        hasattr(estimator, "fit_game") or hasattr(estimator, "values_")
    ):
        raise TypeError(
            f"estimator must be a scikit-learn classifier or regressor; got {reprlib.repr(estimator)}"
        )


def check_empty_value(empty_value: Any) -> float | str:
    """Return `empty_value` if it is "auto" or a finite number; ValueError or TypeError otherwise."""
    if not isinstance(empty_value, str):
        return check_real("empty_value", empty_value)
    if empty_value != "auto":
        raise ValueError(f"empty_value must be a finite number or 'auto'; got {empty_value!r}")
    return empty_value


def check_finite(value: Any, size: int) -> float:
    """Return a utility as a float; the error names the subset size unless it is one finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the utility of a subset of size {size} must be one number; got {reprlib.repr(value)}"
        ) from error
    if not np.isfinite(number):
        raise ValueError(f"the utility of a subset of size {size} must be finite; got {number}")
    return number


def _check_rows(name: str, rows: Any, estimator: Any) -> Any:
    """Return a DataFrame as it is, anything else as an array; numbers must be finite, or NaN for a model."""
    finite = "allow-nan" if accepts_nan(estimator) else True
    if isinstance(rows, pd.DataFrame):
        numeric = rows.select_dtypes("number")
        if len(rows) == 0 or rows.shape[1] == 0:
            raise ValueError(f"{name} must not be empty; got shape {rows.shape}")
        if numeric.shape[1]:
            check_matrix(name, numeric, ensure_all_finite=finite, estimator=estimator)
        return rows
    if rows is None:
        raise ValueError(f"{name} must be an array of shape (rows, features); got None")
    array = check_matrix(name, rows, accept_sparse="csr", ensure_all_finite=finite, estimator=estimator)
    return array.astype(np.float64) if array.dtype.kind in "iub" else array
