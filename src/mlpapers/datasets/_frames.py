"""Tables to numbers, and the one shape in which every loader answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from mlpapers.core.validation import check_bool

if TYPE_CHECKING:
    import pandas as pd


def make_bunch(
    data: pd.DataFrame,
    target: NDArray[Any],
    *,
    target_name: str,
    as_frame: bool,
    return_X_y: bool,
    **extra: Any,
) -> Any:
    """Answer as scikit-learn's loaders do.

    Parameters
    ----------
    data : DataFrame of shape (n, d), all columns float64
    target : ndarray of shape (n,)
    target_name : str
        Name of the target Series.
    as_frame, return_X_y : bool
        The loader's arguments of those names.
    **extra
        Further fields of the Bunch (DESCR, target_names, sensitive_features, source ...).

    Returns
    -------
    Bunch with data, target, feature_names, frame (None unless `as_frame`) and the extra fields; or the pair
    (data, target) where `return_X_y`.
    """
    import pandas as pd

    X: Any
    y: Any
    if as_frame:
        X = data.reset_index(drop=True)
        y = pd.Series(target, name=target_name)
        frame = pd.concat([X, y], axis=1)
    else:
        X = np.ascontiguousarray(data.to_numpy(dtype=np.float64))
        y = np.ascontiguousarray(target)
        frame = None
    if return_X_y:
        return X, y
    return Bunch(data=X, target=y, frame=frame, feature_names=list(data.columns), **extra)


def check_flags(**flags: Any) -> None:
    """TypeError for the first argument that is not True or False."""
    for name, value in flags.items():
        check_bool(name, value)


def sorted_codes(column: pd.Series) -> tuple[NDArray[np.float64], list[str]]:
    """Codes 0, 1, ... of the sorted values of a column, -1 where the value is missing; and those values."""
    import pandas as pd

    categories = sorted(column.dropna().unique())
    return pd.Categorical(column, categories=categories).codes.astype(np.float64), categories


def sha256_of(values: Any) -> str:
    """Hexadecimal SHA-256 of integers as little-endian int64: a fingerprint of a column and of its order."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<i8").tobytes()).hexdigest()


def encode_target(column: pd.Series) -> tuple[NDArray[Any], list[str] | None]:
    """Turn a target column into numbers.

    Whole numbers become int64, other numbers float64 (both without target names); anything else becomes
    the codes 0, 1, ... of its sorted values, with those as names.

    Raises
    ------
    ValueError
        Where a value is missing.
    """
    import pandas as pd

    if column.isna().any():
        raise ValueError(f"target column {column.name!r} has {int(column.isna().sum())} missing values")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=np.float64)
        whole = values.astype(np.int64)
        return (whole if np.array_equal(whole, values) else values), None
    codes, categories = sorted_codes(column.astype(str))
    return codes.astype(np.int64), categories


def categorical_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns that hold no numbers (booleans count as categories)."""
    import pandas as pd

    kinds = pd.api.types
    return [
        name
        for name in table.columns
        if not kinds.is_numeric_dtype(table[name]) or kinds.is_bool_dtype(table[name])
    ]


def one_hot(table: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Numeric columns first, then one 0/1 column ``name_value`` per sorted value; missing = all zero."""
    import pandas as pd

    chosen = list(categorical_columns(table) if columns is None else columns)
    return pd.get_dummies(table, columns=chosen, dtype=np.float64).astype(np.float64)
