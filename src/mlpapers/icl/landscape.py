"""The exact population loss of one linear attention layer on partly labelled Gaussian mixtures."""

from __future__ import annotations

from typing import Any

from mlpapers.core.validation import check_int, check_real
from mlpapers.icl._arrays import is_tensor, like

__all__ = [
    "one_layer_attention_loss",
    "one_layer_loss",
    "one_layer_optimal_loss",
    "optimal_step_size",
]


def optimal_step_size(n: int, p: float, sigma: float, d: int) -> float:
    r"""Weight c* of the best one-layer predictor f = c* x'X'y.

    .. math:: c^* = \left[(1 + \sigma^2) \frac{m_2}{m_1} + \sigma^2 + \sigma^4 d\right]^{-1}, \qquad
              m_1 = np, \quad m_2 = np(1 - p) + n^2 p^2,

    the first two moments of the number of labels; 0 for p = 0. It is for the sum X'y, not for its mean.

    Parameters
    ----------
    n : int
        Context rows.
    p : float
        Share of labels.
    sigma : float
        Standard deviation of the noise.
    d : int
        Features.

    Returns
    -------
    step : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025,
       Theorem 1.

    Examples
    --------
    >>> from mlpapers.icl import optimal_step_size
    >>> [round(optimal_step_size(n=n, p=0.2, sigma=1.0, d=10), 4) for n in (50, 500)]
    [0.0307, 0.0047]
    """
    n, p, sigma = _check_problem(n, p, sigma)
    d = check_int("d", d, minimum=1)
    if p == 0.0:
        return 0.0
    ratio = 1.0 - p + n * p
    return float(1.0 / ((1.0 + sigma**2) * ratio + sigma**2 + sigma**4 * d))


def one_layer_optimal_loss(n: int, p: float, sigma: float, d: int) -> float:
    """Smallest squared loss 1 - n p c* of one linear attention layer.

    Parameters
    ----------
    n : int
        Context rows.
    p : float
        Share of labels.
    sigma : float
        Standard deviation of the noise.
    d : int
        Features.

    Returns
    -------
    loss : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> from mlpapers.icl import one_layer_optimal_loss
    >>> [round(one_layer_optimal_loss(n=n, p=0.2, sigma=1.0, d=10), 3) for n in (10, 100, 1000)]
    [0.88, 0.62, 0.515]
    """
    return 1.0 - n * p * optimal_step_size(n, p, sigma, d)


def one_layer_loss(W: Any, *, n: int, p: float, sigma: float) -> Any:
    r"""Squared population loss of the predictor f = x'W X'y.

    .. math:: L_1(W) = 1 - \frac{2 m_1}{d} \mathrm{tr} W + m_2 \frac{(\mathrm{tr} W)^2 + \mathrm{tr} W^2 +
              |W|_F^2}{d (d + 2)} + (m_1 + m_2) \frac{\sigma^2}{d} |W|_F^2 + m_1 \sigma^4 |W|_F^2.

    Parameters
    ----------
    W : array or tensor of shape (d, d)
    n : int
        Context rows.
    p : float
        Share of labels.
    sigma : float
        Standard deviation of the noise.

    Returns
    -------
    loss : scalar array, or tensor that can be differentiated

    Raises
    ------
    ValueError, TypeError
        For an argument out of range or of the wrong shape; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.icl import one_layer_loss, one_layer_optimal_loss, optimal_step_size
    >>> c = optimal_step_size(n=50, p=0.2, sigma=1.0, d=10)
    >>> loss = one_layer_loss(c * np.eye(10), n=50, p=0.2, sigma=1.0)
    >>> bool(np.isclose(loss, one_layer_optimal_loss(n=50, p=0.2, sigma=1.0, d=10)))
    True
    """
    n, p, sigma = _check_problem(n, p, sigma)
    W = _check_shape("W", W, 2)
    d = W.shape[0]
    m1, m2, s2 = n * p, n * p * (1.0 - p) + (n * p) ** 2, sigma**2
    trace, square, size = _trace(W), _trace(W @ W), (W * W).sum()
    quartic = m2 * (trace**2 + square + size) / (d * (d + 2))
    return 1.0 - 2.0 * m1 * trace / d + quartic + ((m1 + m2) * s2 / d + m1 * s2**2) * size


def one_layer_attention_loss(Wb: Any, w1: Any, h1: Any, h0: Any, *, n: int, p: float, sigma: float) -> Any:
    r"""Squared population loss of one linear attention layer with all its weights.

    With :math:`(W_q W_k')_{1..d,:} = [W_b, w_1]` and :math:`W_v h = (h_1, h_0)`,

    .. math:: f = x' W_b X'X h_1 + h_0\, x' W_b X'y + (x'w_1)(y'X h_1) + h_0 m\, x'w_1,

    and the loss is :math:`L_1(h_0 W_b + w_1 h_1') + T_2`, where :math:`T_2 = E(x'(W_b X'X h_1 + m h_0
    w_1))^2 \ge 0` vanishes for :math:`h_1 = w_1 = 0`; the cross term is zero because it is odd in the labels.

    Parameters
    ----------
    Wb : array or tensor of shape (d, d)
    w1, h1 : arrays or tensors of shape (d,)
    h0 : scalar
    n : int
        Context rows.
    p : float
        Share of labels.
    sigma : float
        Standard deviation of the noise.

    Returns
    -------
    loss : scalar array, or tensor that can be differentiated

    Raises
    ------
    ValueError, TypeError
        For an argument out of range or of the wrong shape; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.icl import one_layer_attention_loss, one_layer_loss
    >>> W, zero = 0.02 * np.eye(5), np.zeros(5)
    >>> setting = {"n": 50, "p": 0.2, "sigma": 1.0}
    >>> loss = one_layer_attention_loss(W, zero, zero, 1.0, **setting)
    >>> bool(np.isclose(loss, one_layer_loss(W, **setting)))
    True
    """
    n, p, sigma = _check_problem(n, p, sigma)
    Wb = _check_shape("Wb", Wb, 2)
    d = Wb.shape[0]
    w1, h1 = _check_vector("w1", w1, Wb), _check_vector("h1", h1, Wb)
    h0 = h0 if is_tensor(h0) else like(h0, Wb)
    loss = one_layer_loss(h0 * Wb + w1[:, None] * h1[None, :], n=n, p=p, sigma=sigma)

    m1, m2, s2, kk = n * p, n * p * (1.0 - p) + (n * p) ** 2, sigma**2, n * n + n
    two, three = d * (d + 2), d * (d + 2) * (d + 4)
    B = (Wb + Wb.T) / 2.0
    Bh, g = B @ h1, Wb @ h1
    t, F, e = _trace(Wb), (Wb * Wb).sum(), (h1 * h1).sum()
    t2 = t**2 + 2.0 * (B * B).sum()
    spread = e * F + 2.0 * (g * g).sum()
    q4 = t2 / two
    # Squares of x'Wb X'X h1: U is the part along the query's mean, V that along its noise.
    g6 = (e * t2 + 4.0 * t * (h1 * Bh).sum() + 8.0 * (Bh * Bh).sum()) / three
    U = n * n * g6 + n * s2 * (e * F + 2.0 * ((Wb.T @ h1) ** 2).sum()) / two + n * s2 * e * q4
    U = U + n * s2**2 * e * F / d + kk * s2**2 * (g * g).sum() / d
    U = U + 2.0 * kk * s2 * (t * (h1 * g).sum() + 2.0 * (Bh * g).sum()) / two
    V = n * n * spread / two + 2.0 * n * s2 * e * F / d + n * s2**2 * e * F
    V = V + (2.0 * kk * s2 / d + kk * s2**2) * (g * g).sum()
    gw = (g * w1).sum()
    c1 = (t * (h1 * w1).sum() + 2.0 * (Bh * w1).sum()) / two + s2 * gw / d
    c2 = (1.0 / d + s2) * gw
    unlabelled = U + s2 * V + 2.0 * m1 * h0 * n * (c1 + s2 * c2)
    return loss + unlabelled + m2 * h0**2 * (w1 * w1).sum() * (1.0 / d + s2)


def _trace(W: Any) -> Any:
    return W.diagonal().sum()


def _check_problem(n: int, p: float, sigma: float) -> tuple[int, float, float]:
    return (
        check_int("n", n, minimum=1),
        check_real("p", p, low=0.0, high=1.0),
        check_real("sigma", sigma, low=0.0, closed="neither"),
    )


def _check_shape(name: str, value: Any, ndim: int) -> Any:
    array = value if is_tensor(value) else like(value, None)
    if array.ndim != ndim or array.shape[0] != array.shape[-1] or array.shape[0] < 1:
        raise ValueError(f"{name} must have shape (d, d); got {tuple(array.shape)}")
    return array


def _check_vector(name: str, value: Any, reference: Any) -> Any:
    array = value if is_tensor(value) else like(value, reference)
    if tuple(array.shape) != (reference.shape[0],):
        raise ValueError(f"{name} must have shape ({reference.shape[0]},); got {tuple(array.shape)}")
    return array
