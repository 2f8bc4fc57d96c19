"""Rates of the regret, the number of cells, and the local polynomial features."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int, check_real

__all__ = ["default_cells", "local_poly_features", "theory_exponent"]

_ROUNDING = 1e-14


def theory_exponent(k: int | None, d: int) -> float:
    r"""Return the exponent of T in the optimal regret: :math:`(k+d)/(2k+d)`, or 1/2 for k = None.

    Parameters
    ----------
    k : int >= 1 or None
        Order of smoothness; None for strongly concave functions.
    d : int >= 1
        Dimension.

    Examples
    --------
    >>> theory_exponent(2, 1), theory_exponent(None, 3)
    (0.6, 0.5)
    """
    d = check_int("d", d, minimum=1)
    if k is None:
        return 0.5
    k = check_int("k", k, minimum=1)
    return (k + d) / (2 * k + d)


def default_cells(horizon: float, k: int, d: int, *, scale: float = 1.0) -> int:
    r"""Return the number of cells per axis, :math:`\max(1, \lceil c\,T^{1/(2k+d)} \rceil)`.

    Parameters
    ----------
    horizon : float >= 1
        Periods T.
    k, d : int >= 1
        Order of smoothness and dimension.
    scale : float > 0
        The factor c.

    Examples
    --------
    >>> default_cells(10**7, 1, 1), default_cells(10**7, 2, 1), default_cells(10**7, 3, 1)
    (216, 26, 10)
    """
    horizon = check_real("horizon", horizon, low=1.0)
    k, d = check_int("k", k, minimum=1), check_int("d", d, minimum=1)
    scale = check_real("scale", scale, low=0.0, closed="neither")
    # A power that is a whole number comes out a few ulps above it, which would be one more cell.
    return max(1, math.ceil(scale * horizon ** (1.0 / (2 * k + d)) * (1.0 - _ROUNDING)))


def local_poly_features(U: ArrayLike, k: int) -> NDArray[np.float64]:
    r"""Return all monomials :math:`u^\alpha`, :math:`1 \le |\alpha| \le k-1`, in lexicographic order.

    There is no constant: a difference of two values cancels it.

    Parameters
    ----------
    U : array of shape (m, d)
        Local coordinates, in [-1/2, 1/2] within a cell.
    k : int >= 1
        Order of smoothness; 1 gives no column.

    Returns
    -------
    features : ndarray of shape (m, C(d+k-1, d) - 1)

    Examples
    --------
    >>> local_poly_features([[0.5, 0.25]], 3).tolist()
    [[0.25, 0.0625, 0.5, 0.125, 0.25]]
    """
    points = np.asarray(U, dtype=np.float64)
    if points.ndim != 2:
        raise ValueError(f"U must have shape (m, d); got {points.shape}")
    k = check_int("k", k, minimum=1)
    exponents = [
        alpha for alpha in itertools.product(range(k), repeat=points.shape[1]) if 1 <= sum(alpha) <= k - 1
    ]
    if not exponents:
        return np.empty((len(points), 0))
    return np.stack([np.prod(points ** np.array(alpha), axis=1) for alpha in exponents], axis=1)
