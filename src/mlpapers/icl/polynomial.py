"""The polynomials in X'X that a stack of linear attention layers can express."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import polynomial as P
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int, check_real

__all__ = [
    "attention_degree",
    "attention_manifold_dim",
    "attention_polynomial",
    "evaluate_attention_polynomial",
    "factor_label_polynomial",
    "is_label_expressible",
    "jacobian_rank",
]

Array = NDArray[np.float64]

# Circles on which the family is looked at where its coefficients underflow.
_RADII = (0.5, 1.0, 2.0)


def attention_polynomial(a: Sequence[float], b: Sequence[float], c: float = 1.0) -> Array:
    r"""Coefficients of A in f = x' A(X'X) X'y for a stack of L linear attention layers.

    Layer l < L moves labels and features, :math:`y \leftarrow y + b_l XX'y`, :math:`X \leftarrow X + a_l
    XX'X`, and the query as the rows of X. Then

    .. math:: A(t) = c\, q_L(t)^2 r_L(t), \qquad r_{l+1} = r_l (1 + b_l t q_l^2), \qquad
              q_{l+1} = q_l (1 + a_l t q_l^2), \qquad q_1 = r_1 = 1.

    Parameters
    ----------
    a, b : sequences of L - 1 numbers
        Feature gains and label gains.
    c : float, default=1.0
        Weight of the last layer.

    Returns
    -------
    coef : ndarray of shape (at most (3^L - 1) / 2,), low order first

    Raises
    ------
    ValueError
        Where `a` and `b` differ in length or a coefficient overflows.

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025,
       Propositions 1 and 2.

    Examples
    --------
    >>> attention_polynomial([0.0], [2.0], 3.0).tolist()
    [3.0, 6.0]
    """
    gains_x, gains_y, c = _check_gains(a, b, c)
    q: Any = np.ones(1)
    r: Any = np.ones(1)
    with np.errstate(over="ignore", invalid="ignore"):
        for gain_x, gain_y in zip(gains_x, gains_y):
            step = P.polymulx(P.polymul(q, q))
            r = P.polymul(r, P.polyadd([1.0], gain_y * step))
            q = P.polymul(q, P.polyadd([1.0], gain_x * step))
        coef = c * P.polymul(P.polymul(q, q), r)
    if not np.isfinite(coef).all():
        raise ValueError(
            "a, b must be small enough for finite coefficients; evaluate_attention_polynomial needs none"
        )
    return np.asarray(P.polytrim(coef), dtype=np.float64)


def evaluate_attention_polynomial(
    t: ArrayLike, a: Sequence[float], b: Sequence[float], c: float = 1.0
) -> Any:
    """Value A(t) of :func:`attention_polynomial` by its factors: 2L products, whatever the degree.

    Parameters
    ----------
    t : array-like
        Real or complex points, usually eigenvalues of X'X.
    a, b : sequences of L - 1 numbers
        Feature gains and label gains.
    c : float, default=1.0

    Returns
    -------
    values : ndarray of the shape of `t`

    Raises
    ------
    ValueError
        Where `a` and `b` differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.icl import attention_polynomial, evaluate_attention_polynomial
    >>> a, b = [0.5, -0.2], [0.3, 0.1]
    >>> values = evaluate_attention_polynomial([0.0, 1.0, 2.0], a, b)
    >>> bool(np.allclose(values, np.polynomial.Polynomial(attention_polynomial(a, b))(np.arange(3.0))))
    True
    """
    gains_x, gains_y, c = _check_gains(a, b, c)
    points = np.asarray(t)
    q = np.ones_like(points, dtype=np.result_type(points, np.float64))
    r = q.copy()
    for gain_x, gain_y in zip(gains_x, gains_y):
        step = points * q * q
        r = r * (1.0 + gain_y * step)
        q = q * (1.0 + gain_x * step)
    return c * q * q * r


def attention_degree(L: int) -> int:
    """Degree (3^L - 3) / 2 in X'X of L layers whose gains are all different from zero.

    Parameters
    ----------
    L : int
        Number of layers.

    Returns
    -------
    degree : int

    Raises
    ------
    ValueError
        If L < 1.

    Examples
    --------
    >>> from mlpapers.icl import attention_degree
    >>> [attention_degree(n_layers) for n_layers in (1, 2, 3, 4)]
    [0, 3, 12, 39]
    """
    return (3 ** check_int("L", L, minimum=1) - 3) // 2


def attention_manifold_dim(L: int) -> int:
    """Dimension 2L - 1 of the set of polynomials of L layers: one scale, L - 1 gains of each kind.

    Parameters
    ----------
    L : int
        Number of layers.

    Returns
    -------
    dimension : int

    Raises
    ------
    ValueError
        If L < 1.

    Examples
    --------
    >>> from mlpapers.icl import attention_degree, attention_manifold_dim
    >>> [(attention_manifold_dim(n_layers), attention_degree(n_layers)) for n_layers in (2, 3, 4)]
    [(3, 3), (5, 12), (7, 39)]
    """
    return 2 * check_int("L", L, minimum=1) - 1


def jacobian_rank(a: Sequence[float], b: Sequence[float], c: float = 1.0, *, tol: float = 1e-6) -> int:
    """Rank of the derivative of A with respect to (c, a, b): the local dimension of the family.

    Up to four layers it is that of the coefficients; with more layers the high ones underflow, and values on
    circles of the complex plane take their place.

    Parameters
    ----------
    a, b : sequences of L - 1 numbers
        Feature gains and label gains.
    c : float, default=1.0
    tol : float, default=1e-6
        Singular values below `tol` times the largest count as zero; columns are scaled to length 1 before.

    Returns
    -------
    rank : int

    Raises
    ------
    ValueError
        Where `a` and `b` differ in length or `tol` is not positive.

    Examples
    --------
    >>> from mlpapers.icl import jacobian_rank
    >>> jacobian_rank([0.5, -0.2], [0.3, 0.1])
    5
    """
    gains_x, gains_y, c = _check_gains(a, b, c)
    tol = check_real("tol", tol, low=0.0, closed="neither")
    L = len(gains_x) + 1
    if c == 0.0:
        return 1  # A is 0 whatever the gains are; only c moves it
    size = max(1.0, float(np.abs([*gains_x, *gains_y]).max(initial=0.0)))
    if L <= 4:
        # Values at roots of unity are a discrete Fourier transform of the coefficients: the same rank.
        n_points = attention_degree(L) + 1
        J = _derivatives(np.exp(2j * np.pi * np.arange(n_points) / n_points) / size, gains_x, gains_y, c)
    else:
        angles = np.pi * (np.arange(8 * L) + 0.5) / (8 * L)
        points = np.concatenate([radius * np.exp(1j * angles) for radius in _RADII]) / size
        J = _log_derivatives(points, gains_x, gains_y)
    J = np.concatenate([J.real, J.imag])
    lengths = np.linalg.norm(J, axis=0)
    singular = np.linalg.svd(J / np.where(lengths > 0.0, lengths, 1.0), compute_uv=False)
    return int((singular > tol * max(1.0, singular[0])).sum())


def factor_label_polynomial(coef: ArrayLike, *, tol: float = 1e-8) -> tuple[float, Array]:
    r"""Factors of P(t) = c (1 + c_1 t) ... (1 + c_K t), the polynomials that label gains alone express.

    Parameters
    ----------
    coef : array-like
        Coefficients, low order first.
    tol : float, default=1e-8
        Largest relative difference between `coef` and the polynomial rebuilt from real factors. A pair of
        complex roots with imaginary part eta makes a difference of the order of eta squared.

    Returns
    -------
    c : float
    c_l : ndarray of shape (degree,), in increasing order

    Raises
    ------
    ValueError
        If P(0) = 0 or P has complex roots.

    Examples
    --------
    >>> from mlpapers.icl import factor_label_polynomial
    >>> c, c_l = factor_label_polynomial([2.0, 3.0, 1.0])
    >>> round(c, 6), c_l.round(6).tolist()
    (2.0, [0.5, 1.0])
    """
    given = _check_coef(coef)
    if given[0] == 0.0:
        raise ValueError(f"coef must have P(0) != 0; got {given.tolist()}")
    # c_l are the roots of s^K P(-1/s): no division by small roots.
    monic = given / given[0] * (-1.0) ** np.arange(len(given))
    roots = np.roots(monic)
    for candidate in (roots.real, _merge(roots)):
        rebuilt = given[0] * np.poly(-candidate)
        if np.abs(rebuilt - given).max() <= tol * np.abs(given).max():
            return float(given[0]), np.sort(candidate)
    raise ValueError(f"coef must have real roots only; got {given.tolist()}")


def is_label_expressible(coef: ArrayLike, n_layers: int, *, tol: float = 1e-8) -> bool:
    """Whether `n_layers` layers that update only labels express P: degree below L, real roots, P(0) != 0.

    Parameters
    ----------
    coef : array-like
        Coefficients of P, low order first.
    n_layers : int
        L.
    tol : float, default=1e-8
        As in :func:`factor_label_polynomial`.

    Returns
    -------
    expressible : bool

    Raises
    ------
    ValueError
        Where `coef` is not a finite sequence or L < 1.

    Examples
    --------
    >>> from mlpapers.icl import is_label_expressible
    >>> is_label_expressible([2.0, 3.0, 1.0], n_layers=3), is_label_expressible([1.0, 0.0, 1.0], n_layers=3)
    (True, False)
    """
    given = _check_coef(coef)
    if len(given) > check_int("n_layers", n_layers, minimum=1):
        return False
    try:
        factor_label_polynomial(given, tol=tol)
    except ValueError:
        return False
    return True


def _check_gains(a: Any, b: Any, c: Any) -> tuple[Array, Array, float]:
    checked = []
    for name, value in (("a", a), ("b", b)):
        array = np.asarray(value, dtype=np.float64)
        if array.ndim != 1 or not np.isfinite(array).all():
            raise ValueError(
                f"{name} must be a sequence of finite numbers, one per layer but the last; got {value!r}"
            )
        checked.append(array)
    if len(checked[0]) != len(checked[1]):
        raise ValueError(
            f"a and b must have the same length L - 1; got {len(checked[0])} and {len(checked[1])}"
        )
    return checked[0], checked[1], check_real("c", c)


def _check_coef(coef: Any) -> Array:
    array = np.asarray(coef, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"coef must be a non-empty sequence of finite numbers; got {coef!r}")
    return np.asarray(P.polytrim(array), dtype=np.float64)


def _merge(roots: Any) -> Array:
    """Replace each cluster of nearby roots by its mean: rounding splits a multiple root into a ring."""
    merged = np.empty(len(roots))
    left = np.ones(len(roots), dtype=bool)
    while left.any():
        first = int(np.flatnonzero(left)[0])
        near = left & (np.abs(roots - roots[first]) <= 1e-2 * max(1.0, abs(roots[first])))
        merged[near] = roots[near].mean().real
        left &= ~near
    return merged


def _derivatives(t: Any, a: Array, b: Array, c: float) -> Any:
    """Return dA/d(c, a, b) at the points, shape (points, 2L - 1): the product rule along the recursion."""
    n = len(a)
    q, r = np.ones_like(t), np.ones_like(t)
    dq, dr = np.zeros((2 * n, len(t)), dtype=t.dtype), np.zeros((2 * n, len(t)), dtype=t.dtype)
    for layer, (gain_x, gain_y) in enumerate(zip(a, b)):
        step, dstep = t * q * q, 2.0 * t * q * dq
        dr = dr * (1.0 + gain_y * step) + r * gain_y * dstep
        dr[n + layer] += r * step
        r = r * (1.0 + gain_y * step)
        dq = dq * (1.0 + gain_x * step) + q * gain_x * dstep
        dq[layer] += q * step
        q = q * (1.0 + gain_x * step)
    return np.concatenate([[q * q * r], c * (2.0 * q * dq * r + q * q * dr)]).T


def _log_derivatives(t: Any, a: Array, b: Array) -> Any:
    """Return d log A / d(log c, a, b) at the points: dividing a row by its value keeps the rank.

    The recursion runs on 1/q, which underflows where q would overflow; rows that are lost all the same are
    left out.
    """
    n = len(a)
    q_inverse = np.ones_like(t)
    dq, dr = np.zeros((2 * n, len(t)), dtype=t.dtype), np.zeros((2 * n, len(t)), dtype=t.dtype)
    with np.errstate(all="ignore"):
        for layer, (gain_x, gain_y) in enumerate(zip(a, b)):
            step_inverse = q_inverse**2 / t
            factor_y, factor_x = 1.0 / (step_inverse + gain_y), 1.0 / (step_inverse + gain_x)
            dr = dr + 2.0 * gain_y * factor_y * dq
            dr[n + layer] += factor_y
            dq = dq + 2.0 * gain_x * factor_x * dq
            dq[layer] += factor_x
            q_inverse = q_inverse * step_inverse * factor_x
        J = np.concatenate([np.ones((1, len(t))), 2.0 * dq + dr]).T
    return J[np.isfinite(J).all(axis=1)]
