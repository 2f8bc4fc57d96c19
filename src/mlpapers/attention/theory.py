"""What temperatures can do that weights cannot, in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.attention._vectors import distance, logit, matrix, vector
from mlpapers.core.validation import check_real

__all__ = [
    "dilution_bound",
    "lemma2_sparsity",
    "prop2_flat_loss",
    "prop2_temperature",
    "required_norm",
    "specificity",
    "specificity_norm_bound",
]

Array = NDArray[np.float64]

# Candidates of log M in the search for the best flat temperature, and its range.
_GRID = np.linspace(-30.0, 30.0, 4001)


def specificity(W: ArrayLike, a: ArrayLike) -> float:
    r"""How specific the query token a is: :math:`\|W^\top a\|_2` with :math:`W = W_q W_k^\top`.

    Parameters
    ----------
    W : array-like of shape (d, d)
    a : array-like of shape (d,)

    Returns
    -------
    specificity : float

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.attention import specificity
    >>> specificity(np.diag([3.0, 1.0]), [1.0, 0.0]), specificity(np.diag([3.0, 1.0]), [0.0, 1.0])
    (3.0, 1.0)
    """
    weights, token = matrix("W", W), vector("a", a)
    if weights.shape[0] != token.shape[0]:
        raise ValueError(f"W must have as many rows as a has entries; got {weights.shape} and {token.shape}")
    return float(np.linalg.norm(weights.T @ token))


def specificity_norm_bound(W_gap: float, a: ArrayLike, b: ArrayLike) -> float:
    r"""Least norm of W that makes token a more specific than token b by a given gap.

    .. math:: \|W\| \ge \frac{L_a - L_b}{\|a - b\|}

    Parameters
    ----------
    W_gap : float
        :math:`L_a - L_b`, where spec(a) >= L_a and spec(b) <= L_b.
    a, b : array-like of shape (d,)

    Returns
    -------
    norm : float, of the spectral norm

    Raises
    ------
    ValueError
        If a and b are equal.

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Lemma 1.

    Examples
    --------
    >>> from mlpapers.attention import specificity_norm_bound
    >>> a, b = [1.0, 0.0], [0.8, 0.6]
    >>> round(specificity_norm_bound(2.0, a, b), 4)
    3.1623
    """
    check_real("W_gap", W_gap)
    return max(W_gap, 0.0) / distance(vector("a", a), vector("b", b))


def dilution_bound(length: int, norm: float) -> float:
    r"""Largest attention probability that unit tokens allow.

    .. math:: \max_i s_i \le \frac{1}{1 + (L - 1) e^{-2 \|W\|}}

    Parameters
    ----------
    length : int or float
        L, the number of keys.
    norm : float
        :math:`\|W\|`, the spectral norm of :math:`W_q W_k^\top` (with the scale and any temperature in it).

    Returns
    -------
    bound : float in (0, 1]

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 4.2.
    """
    check_real("length", length, low=1.0)
    check_real("norm", norm, low=0.0)
    return 1.0 / (1.0 + (length - 1.0) * math.exp(-2.0 * norm))


def required_norm(length: int, mass: float) -> float:
    r"""Least norm with which one of L unit keys can have a given probability.

    .. math:: \|W\| \ge \tfrac12 \log \frac{(L - 1)\, m}{1 - m} = \tfrac12 \log L + O(1)

    Parameters
    ----------
    length : int or float
    mass : float in (0, 1)

    Returns
    -------
    norm : float; 0 where uniform attention is enough
    """
    check_real("length", length, low=1.0)
    check_real("mass", mass, low=0.0, high=1.0, closed="neither")
    odds = (length - 1.0) * mass / (1.0 - mass)
    return 0.5 * math.log(odds) if odds > 1.0 else 0.0


def prop2_temperature(kappa: ArrayLike, alpha: float) -> Array:
    r"""Temperature that makes attention return exactly :math:`\alpha a + (1 - \alpha) b`.

    .. math:: \tau_n = \log \kappa_n + \log\frac{\alpha}{1 - \alpha}, \qquad \kappa_n = \frac{n - n_a}{n_a}

    when the first n tokens hold :math:`n_a` copies of a and the others are b, and a has logit 1, b logit 0.

    Parameters
    ----------
    kappa : array-like
        :math:`\kappa_n > 0`. With :math:`\kappa_n = n^{pow}` the temperature is a constant plus pow log n.
    alpha : float in (0, 1)
        :math:`\alpha`, the weight of the rarer token's value.

    Returns
    -------
    tau : ndarray of the shape of `kappa`

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Proposition 2.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.attention import prop2_temperature
    >>> tau = prop2_temperature(kappa=9.0, alpha=0.5)
    >>> weight = np.exp(tau) / (np.exp(tau) + 9.0)
    >>> float(round(weight, 6))
    0.5
    """
    check_real("alpha", alpha, low=0.0, high=1.0, closed="neither")
    ratios = np.asarray(kappa, dtype=np.float64)
    if not (ratios > 0.0).all():
        raise ValueError(f"kappa must be positive; got {float(ratios.min())!r}")
    return np.log(ratios) + logit(alpha)


def prop2_flat_loss(is_minority: ArrayLike) -> float:
    r"""Least loss of attention with one temperature for all positions, over every W.

    For orthonormal a, b and the target (a + b)/2, W enters through one factor :math:`M > 0` per query token:

    .. math:: \frac{\|a - b\|^2}{L} \sum_n \Bigl(\frac12 - \frac{1}{1 + M_{x_n} \kappa_n}\Bigr)^2

    Parameters
    ----------
    is_minority : array-like of bool, shape (L,)
        True where token n is a.

    Returns
    -------
    loss : float

    Notes
    -----
    The paper's bound 1/500 assumes orthonormal a, b: it carries the factor :math:`\|a - b\|^2 / 2`.

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Proposition 2.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.attention import prop2_flat_loss
    >>> rare = np.arange(200) % 10 == 0
    >>> round(prop2_flat_loss(rare), 4), round(prop2_flat_loss(np.arange(200) % 2 == 0), 4)
    (0.0071, 0.003)
    """
    flags = np.asarray(is_minority)
    if flags.ndim != 1 or flags.dtype != np.bool_ or flags.size == 0:
        raise ValueError(
            f"is_minority must be a non-empty 1-D array of bool; got shape {flags.shape}, dtype {flags.dtype}"
        )
    n = np.arange(1, flags.size + 1)
    n_a = np.cumsum(flags)
    with np.errstate(divide="ignore"):
        log_kappa = np.log(n - n_a) - np.log(n_a)
    total = sum(_best_flat(log_kappa[flags == token]) for token in (True, False))
    return 2.0 * total / flags.size


def lemma2_sparsity(n: float, pow: float, gamma: float, a: float) -> float:
    r"""Share of keys to keep for the effect of the temperature :math:`1 + a \log n`.

    If a fraction :math:`n^{-pow}` of n keys has logit :math:`c + \gamma` and all others c, the relevant keys
    get the same probability from that temperature as from attention to the top :math:`\kappa n` keys alone,

    .. math:: \kappa = (1 - n^{-pow})\, n^{-a \gamma} + n^{-pow}.

    Parameters
    ----------
    n : float, at least 1
    pow : float, not negative
        Exponent of the power law.
    gamma : float
        :math:`\gamma`, the gap of logits.
    a : float
        Factor of log n.

    Returns
    -------
    kappa : float

    Notes
    -----
    The paper prints the first factor as a divisor; the product is what its proof gives, and what is equal.

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Lemma 2.
    """
    check_real("n", n, low=1.0)
    check_real("pow", pow, low=0.0)
    check_real("gamma", gamma)
    check_real("a", a)
    share = n**-pow
    return float((1.0 - share) * n ** (-a * gamma) + share)


def _best_flat(log_kappa: Array) -> float:
    """Least sum of (1/2 - 1/(1 + M kappa))^2 over M > 0."""
    if log_kappa.size == 0:
        return 0.0
    from scipy.optimize import minimize_scalar
    from scipy.special import expit

    def loss(log_m: float) -> float:
        return float(((0.5 - expit(-(log_kappa + log_m))) ** 2).sum())

    values = np.array([loss(log_m) for log_m in _GRID])
    best = int(values.argmin())
    low, high = _GRID[max(best - 1, 0)], _GRID[min(best + 1, len(_GRID) - 1)]
    refined = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    return min(float(values[best]), float(refined.fun))
