r"""Data values to weight by, and the registry that the estimators look names up in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core import knn
from mlpapers.core.parallel import chunk_slices
from mlpapers.core.validation import check_int
from mlpapers.unlearning._newton import minimise
from mlpapers.unlearning._objective import Objective
from mlpapers.unlearning.losses import make_loss

__all__ = ["ValueFunction", "find_value_function", "knn_shapley_values", "register_value_function"]

Array = NDArray[np.float64]
ValueFunction = Callable[[Any, Any, Any, Any], ArrayLike]


def knn_shapley_values(
    X: ArrayLike,
    y: ArrayLike,
    X_val: ArrayLike,
    y_val: ArrayLike,
    *,
    n_neighbors: int = 5,
    chunk_size: int = 256,
) -> Array:
    r"""Exact Shapley values of training rows for a K-nearest-neighbour classifier.

    With training rows sorted by distance to one validation row and :math:`m_i = 1[y_i = y_{val}]`,

    .. math::
        s_n = \frac{m_n}{\max(n, K)}, \qquad s_i = s_{i+1} + \frac{m_i - m_{i+1}}{K} \cdot \frac{\min(K,
        i)}{i},

    averaged over the validation rows.

    Parameters
    ----------
    X, y : array-like of shape (n, d), (n,)
        Training rows.
    X_val, y_val : array-like of shape (M, d), (M,)
        Validation rows; a label that no training row has agrees with none.
    n_neighbors : int, default=5
        K.
    chunk_size : int, default=256
        Validation rows whose distances are held at once.

    Returns
    -------
    values : ndarray of shape (n,), in units of validation accuracy; sums to v(all) - v(none)

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong shape.

    References
    ----------
    .. [1] Jia et al., "Efficient task-specific data valuation for nearest neighbor algorithms", VLDB 2019,
       Theorem 1.

    Examples
    --------
    >>> knn_shapley_values([[0.0], [3.0], [1.0]], [1, 1, 0], [[0.1]], [1], n_neighbors=1).round(4).tolist()
    [0.8333, 0.3333, -0.1667]
    """
    check_int("chunk_size", chunk_size, minimum=1)
    points, labels = np.asarray(X_val), np.asarray(y_val)
    if points.ndim != 2 or len(points) == 0 or labels.shape != (len(points),):
        raise ValueError(
            "X_val and y_val must have shapes (M, d) and (M,) with M >= 1; "
            f"got {points.shape} and {labels.shape}"
        )
    total: Array | None = None
    for block in chunk_slices(len(points), chunk_size):
        values = knn.knn_shapley_values(X, y, points[block], labels[block], n_neighbors=n_neighbors)
        part = values * (block.stop - block.start)
        total = part if total is None else total + part
    assert total is not None  # there is at least one block
    return total / len(points)


def influence(X: ArrayLike, y: ArrayLike, X_val: ArrayLike, y_val: ArrayLike) -> Array:
    r"""Return the rise of the validation loss that removing each row causes, to first order.

    :math:`v_i = \sum_{val} \nabla \ell_{val}^\top H^{-1} \nabla \ell_i` at a linear model of its own:
    log-loss for labels, squared loss for floating-point targets, a constant column, alpha = n/1000.
    """
    objective, theta, rows, targets = _linear_model(X, y, X_val, y_val)
    minimum = minimise(objective, theta, tol=1e-8, max_iter=100)
    return _alignment(objective, minimum.theta, rows, targets, minimum.factor.solve)


def gradient_alignment(X: ArrayLike, y: ArrayLike, X_val: ArrayLike, y_val: ArrayLike) -> Array:
    r"""Return :math:`v_i = \sum_{val} \nabla \ell_{val}^\top \nabla \ell_i` at the model of `influence`."""
    objective, theta, rows, targets = _linear_model(X, y, X_val, y_val)
    minimum = minimise(objective, theta, tol=1e-8, max_iter=100)
    return _alignment(objective, minimum.theta, rows, targets, lambda gradient: gradient)


_REGISTRY: dict[str, ValueFunction] = {
    "knn_shapley": knn_shapley_values,
    "influence": influence,
    "gradient_alignment": gradient_alignment,
}
_BUILT_IN = frozenset(_REGISTRY)


def register_value_function(name: str, fn: ValueFunction) -> None:
    """Make `fn` available as ``value_function=name``.

    Parameters
    ----------
    name : str
        A new name; registering the same function again is allowed.
    fn : callable
        ``fn(X, y, X_val, y_val)`` -> n finite values, larger = more useful. It gets the features, without
        intercept column, and the targets as the caller of ``fit`` gave them, in the order of the remaining
        rows.

    Raises
    ------
    ValueError
        If `name` is empty or taken by another function.
    TypeError
        If `name` is not a string, or `fn` is not callable.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.unlearning import DVWUClassifier
    >>> def central(X, y, X_val, y_val):
    ...     return -np.linalg.norm(X - X.mean(axis=0), axis=1)
    >>> register_value_function("central", central)
    >>> X = np.array([[0.1], [0.2], [0.3], [0.9]])
    >>> model = DVWUClassifier(value_function="central", random_state=0).fit(X, [0, 1, 0, 1])
    >>> int(model.data_values_.argmin())
    3
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if not name:
        raise ValueError(f"name must be a non-empty string; got {name!r}")
    if not callable(fn):
        raise TypeError(f"fn must be callable as fn(X, y, X_val, y_val); got {fn!r}")
    if _REGISTRY.setdefault(name, fn) is not fn:
        raise ValueError(f"name {name!r} is already taken by another value function")


def find_value_function(value_function: str | ValueFunction) -> tuple[ValueFunction, bool]:
    """Return the function, and whether it is one of the library's own, which need validation data."""
    if callable(value_function):
        return value_function, False
    if value_function not in _REGISTRY:
        raise ValueError(
            f"value_function must be callable or one of {', '.join(map(repr, _REGISTRY))}; "
            f"got {value_function!r}"
        )
    return _REGISTRY[value_function], value_function in _BUILT_IN


def _linear_model(
    X: ArrayLike, y: ArrayLike, X_val: ArrayLike, y_val: ArrayLike
) -> tuple[Objective, Array, Array, NDArray[Any]]:
    together = _with_constant(np.concatenate([np.asarray(X, dtype=np.float64), np.asarray(X_val)]))
    rows, rows_val = together[: len(np.asarray(X))], together[len(np.asarray(X)) :]
    targets, targets_val = np.asarray(y), np.asarray(y_val)
    if targets.dtype.kind == "f":
        loss = make_loss("squared")
    else:
        classes, codes = np.unique(np.concatenate([targets, targets_val]), return_inverse=True)
        binary = len(classes) <= 2
        loss = make_loss("log_loss" if binary else "softmax", n_classes=len(classes))
        encoded: NDArray[Any] = 2.0 * codes - 1.0 if binary else codes
        targets, targets_val = encoded[: len(rows)], encoded[len(rows) :]
    objective = Objective(loss, rows, targets, np.ones(len(rows)), len(rows) / 1000.0)
    return objective, np.zeros(objective.n_parameters), rows_val, targets_val


def _alignment(
    objective: Objective,
    theta: Array,
    rows_val: Array,
    targets_val: NDArray[Any],
    solve: Callable[[Array], Array],
) -> Array:
    loss, X = objective.loss, objective.X
    C_val = loss.slope(loss.scores(rows_val, theta), targets_val)
    direction = solve(loss.pull(rows_val, C_val))
    C = loss.slope(loss.scores(X, theta), objective.y)
    along = loss.scores(X, direction)
    return C * along if C.ndim == 1 else np.einsum("ia,ia->i", C, along)


def _with_constant(X: ArrayLike) -> Array:
    """Return rows with a constant column, which is left out where they have one of their own scale."""
    array = np.asarray(X, dtype=np.float64)
    if np.any((array == array[0]).all(axis=0) & (array[0] != 0.0)):
        return array
    return np.column_stack([array, np.ones(len(array))])
