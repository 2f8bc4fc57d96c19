"""Argument checks that scikit-learn's validators don't have; each message names the argument."""

from __future__ import annotations

import math
import numbers
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Closed = Literal["both", "left", "right", "neither"]


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return the one of `choices` that `value` is; otherwise raise a ValueError that lists them.

    Values match in type too (1 is not True), but any kind of string, numpy's included, matches a string.

    Examples
    --------
    >>> check_choice("method", "exact", ["exact", "mc"])
    'exact'
    """
    for choice in choices:
        alike = type(value) is type(choice) or (isinstance(value, str) and isinstance(choice, str))
        if value is choice or (alike and value == choice):
            return choice
    raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def check_int(name: str, value: Any, *, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return `value` as an int; TypeError unless it is an integer (bool is not), ValueError out of range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r} of type {type(value).__name__}")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise ValueError(f"{name} must be an integer {_range_text(minimum, maximum, 'both')}; got {value!r}")
    return int(value)


def check_real(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    closed: Closed = "both",
) -> float:
    """Return `value` as a finite float; TypeError unless it is real, ValueError outside the interval.

    `closed` says which of the ends `low` and `high` are allowed.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number; got {value!r} of type {type(value).__name__}")
    number = float(value)
    below = low is not None and (number < low or (number == low and closed in ("right", "neither")))
    above = high is not None and (number > high or (number == high and closed in ("left", "neither")))
    if not math.isfinite(number) or below or above:
        raise ValueError(f"{name} must be a finite number {_range_text(low, high, closed)}; got {value!r}")
    return number


def check_bool(name: str, value: Any) -> bool:
    """Return `value` as a bool; TypeError for anything else (0 and 1 included)."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; got {value!r} of type {type(value).__name__}")
    return bool(value)


def check_matrix(name: str, X: Any, **options: Any) -> NDArray[Any]:
    """Return `X` as scikit-learn's ``check_array`` does, with `name` in every error (there only in some).

    Columns of a DataFrame that hold no numbers are named too.

    Examples
    --------
    >>> check_matrix("X_val", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    from sklearn.utils import check_array

    try:
        array: NDArray[Any] = check_array(X, input_name=name, **options)
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"Input {name} "):
            raise
        columns = [repr(column) for column in text_columns(X)]
        if columns:
            which = f"column {columns[0]} does" if len(columns) == 1 else f"columns {', '.join(columns)} do"
            raise type(error)(f"{name} must hold numbers; {which} not: {error}") from error
        raise type(error)(f"{name}: {error}") from error
    return array


def check_path(name: str, value: Any) -> Path | None:
    """Return `value` as a Path, None as it is; TypeError for anything else than a text or a path."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path or None; got {value!r}")
    return None if value is None else Path(value)


def check_indices(name: str, indices: Any, n: int, *, unique: bool = True) -> NDArray[np.int64]:
    """Return `indices` as an int64 array with entries in [0, n); ValueError names the first bad one."""
    try:
        array = np.asarray(indices)
    except ValueError as error:
        raise ValueError(f"{name} must be a 1-D array of integers; got {indices!r}") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} must be a 1-D array of integers; got shape {array.shape}, dtype {array.dtype}"
        )
    outside = array[(array < 0) | (array >= n)]
    if outside.size:
        raise ValueError(f"{name} must lie in [0, {n}); got {outside[0]}")
    result = array.astype(np.int64)
    if unique and np.unique(result).size != result.size:
        raise ValueError(f"{name} must not repeat an index")
    return result


def accepts_nan(estimator: Any) -> bool:
    """Whether a scikit-learn estimator takes NaN in X, as its tags say, or those of what it is made of.

    A pipeline does where a step fills missing values in (or is a model that takes them) before one refuses
    them; a ColumnTransformer leaves the answer to its parts, which check their columns themselves.

    Examples
    --------
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.pipeline import make_pipeline
    >>> accepts_nan(make_pipeline(SimpleImputer(), GaussianNB())), accepts_nan(GaussianNB())
    (True, False)
    """
    from sklearn.base import OneToOneFeatureMixin
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_selection import SelectorMixin
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.utils import get_tags

    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if step is None or isinstance(step, str):
                continue
            if not accepts_nan(step):
                return False
            # Scalers and selectors hand missing values on; whatever makes new columns fills them in.
            if not isinstance(step, OneToOneFeatureMixin | SelectorMixin):
                return True
        return True
    if isinstance(estimator, ColumnTransformer):
        return True
    if isinstance(estimator, FeatureUnion):
        return all(isinstance(part, str) or accepts_nan(part) for _, part in estimator.transformer_list)
    if get_tags(estimator).input_tags.allow_nan:
        return True
    inner = getattr(estimator, "estimator", None)
    return hasattr(inner, "fit") and accepts_nan(inner)


def check_workers(n_jobs: Any, verbose: Any) -> None:
    """Check the parameters of a parallel loop: `n_jobs` None or a non-zero int, `verbose` >= 0."""
    if n_jobs is not None and check_int("n_jobs", n_jobs) == 0:
        raise ValueError("n_jobs must be None or a non-zero integer; got 0")
    if not isinstance(verbose, bool):
        check_int("verbose", verbose, minimum=0)


def check_rng(random_state: Any) -> np.random.Generator:
    """Return a Generator for an int, SeedSequence, Generator, RandomState or None.

    A Generator is returned as it is (its state advances); a RandomState gives its seed material once.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.default_rng(seed_sequence(random_state))


def seed_sequence(random_state: Any) -> np.random.SeedSequence:
    """Return the SeedSequence that a `random_state` of any kind stands for."""
    if random_state is None:
        return np.random.SeedSequence()
    if isinstance(random_state, np.random.SeedSequence):
        return random_state
    if isinstance(random_state, np.random.Generator):
        return np.random.SeedSequence(random_state.integers(0, 2**32, size=4, dtype=np.uint32).tolist())
    if isinstance(random_state, np.random.RandomState):
        return np.random.SeedSequence(random_state.randint(0, 2**32, size=4, dtype=np.uint32).tolist())
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state must be a non-negative integer; got {random_state!r}")
        return np.random.SeedSequence(int(random_state))
    raise ValueError(
        "random_state must be None, a non-negative int, a numpy Generator, RandomState or SeedSequence; "
        f"got {random_state!r}"
    )


def check_probability_rows(name: str, rows: NDArray[Any], *, atol: float = 1e-6) -> NDArray[np.float64]:
    """Return `rows` (n, C) as float64 if every row is a distribution: non-negative, sum 1 within `atol`."""
    try:
        probabilities = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a 2-D array of probabilities; got {rows!r}") from error
    if probabilities.ndim != 2:
        raise ValueError(f"{name} must be a 2-D array of probabilities; got shape {probabilities.shape}")
    wrong = ~np.isfinite(probabilities).all(axis=1) | (probabilities < 0).any(axis=1)
    wrong |= ~(np.abs(probabilities.sum(axis=1) - 1.0) <= atol)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{name} must have non-negative rows that sum to 1 (within {atol:g}); "
            f"row {row} is {probabilities[row].tolist()}"
        )
    return probabilities


def relabel_groups(name: str, groups: Any, n: int) -> NDArray[np.int64]:
    """Return integer labels (n,) relabelled 0..T-1 in increasing order; None means one group.

    Raises ValueError where `groups` is not a 1-D integer array of length `n`.
    """
    if groups is None:
        return np.zeros(n, dtype=np.int64)
    labels = np.asarray(groups)
    if labels.ndim != 1 or labels.shape[0] != n:
        raise ValueError(f"{name} must have shape ({n},), one label per row; got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers; got dtype {labels.dtype}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def join_names(names: Iterable[Any]) -> str:
    """Names for an error message: sorted, quoted, separated by commas."""
    return ", ".join(sorted(map(repr, names)))


def text_columns(X: Any) -> list[Any]:
    """Return the columns of a DataFrame that cannot be read as numbers; none for anything else."""
    pd = sys.modules.get("pandas")
    items = X.items() if pd is not None and isinstance(X, pd.DataFrame) else ()
    return [column for column, values in items if not _is_numeric(values)]


def _is_numeric(values: Any) -> bool:
    try:
        np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _range_text(low: float | None, high: float | None, closed: Closed) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"{'>=' if closed in ('both', 'left') else '>'} {low}"
    if low is None:
        return f"{'<=' if closed in ('both', 'right') else '<'} {high}"
    left = "[" if closed in ("both", "left") else "("
    right = "]" if closed in ("both", "right") else ")"
    return f"in {left}{low}, {high}{right}"


def held_values(values: Any) -> Any:
    """Return what a fitted valuer (``values_``) or a result (``values``) holds; else `values` itself."""
    for name in ("values_", "values"):
        held = getattr(values, name, None)
        if held is not None and not callable(held):
            return held
    return values
