"""The linear classifier that a stack of linear attention layers computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice
from mlpapers.icl._linear_classifier import LinearClassifier

__all__ = ["PolynomialClassifier"]

Array = NDArray[np.float64]


class PolynomialClassifier(LinearClassifier):
    r"""The linear classifier sgn(x' A(X'X/n) X'y) of a stack of linear attention layers.

    Parameters
    ----------
    coef : sequence of float, default=(1.0,)
        Coefficients of A, low order first.
    factors : (float, sequence of float), optional
        (c, c_l) for A(t) = c (1 + c_1 t) ... (1 + c_K t), in place of `coef`: the way to high degrees.
    scale : {"n", "none"}, default="n"
        A of X'X/n, or of X'X.

    Attributes
    ----------
    coef_ : ndarray of shape (1, d)
    classes_ : ndarray of shape (2,)
    intercept_ : float
        0.
    n_features_in_ : int

    Notes
    -----
    Every factor costs one product X'(Xv): O(K n d) time for degree K, and no Gram matrix.

    Examples
    --------
    >>> from mlpapers.icl import PolynomialClassifier, make_semisupervised_gmm
    >>> X, y, y_true, _ = make_semisupervised_gmm(500, 10, n_labeled=10, random_state=0)
    >>> for coef in ([1.0], [0.0, 0.0, 1.0]):
    ...     print(coef, round(PolynomialClassifier(coef).fit(X, y).score(X, y_true), 2))
    [1.0] 0.85
    [0.0, 0.0, 1.0] 0.86
    """

    def __init__(
        self,
        coef: Sequence[float] = (1.0,),
        *,
        factors: tuple[float, Sequence[float]] | None = None,
        scale: Literal["n", "none"] = "n",
    ) -> None:
        self.coef = coef
        self.factors = factors
        self.scale = scale

    def fit(self, X: Any, y: Any) -> Self:
        """Apply the polynomial to X'y.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Two classes; -1, None or NaN where the label is missing.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For coefficients that are no finite sequence, or other than two classes.
        """
        check_choice("scale", self.scale, ("n", "none"))
        coef = _finite("coef", self.coef)
        factors = None if self.factors is None else _check_factors(self.factors)
        X, s = self._read(X, y)
        divisor = len(X) if self.scale == "n" else 1.0
        start = X.T @ s
        if factors is None:
            direction = coef[-1] * start
            for value in coef[-2::-1]:
                direction = X.T @ (X @ direction) / divisor + value * start
        else:
            direction = factors[0] * start
            for value in factors[1]:
                direction = direction + value / divisor * (X.T @ (X @ direction))
        self._set(direction)
        return self


def _check_factors(factors: Any) -> tuple[float, Array]:
    try:
        c, steps = factors
    except (TypeError, ValueError):
        raise ValueError(f"factors must be a pair (c, c_l); got {factors!r}") from None
    return float(_finite("factors", [c])[0]), _finite("factors", steps, empty=True)


def _finite(name: str, value: Any, *, empty: bool = False) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a sequence of finite numbers; got {value!r}") from error
    if array.ndim != 1 or not np.isfinite(array).all() or not (array.size or empty):
        raise ValueError(f"{name} must be a sequence of finite numbers; got {value!r}")
    return array
