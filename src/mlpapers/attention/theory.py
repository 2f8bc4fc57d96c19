"""What temperatures can do that weights cannot, in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_bool, check_real

__all__ = [
    "dilution_bound",
    "lemma2_sparsity",
    "prop1_lower_bound",
    "prop1_min_norm",
    "prop1_ssa_solution",
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
    """
    matrix, token = _matrix("W", W), _vector("a", a)
    if matrix.shape[0] != token.shape[0]:
        raise ValueError(f"W must have as many rows as a has entries; got {matrix.shape} and {token.shape}")
    return float(np.linalg.norm(matrix.T @ token))


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
    """
    check_real("W_gap", W_gap)
    return max(W_gap, 0.0) / _distance(_vector("a", a), _vector("b", b))


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


def prop1_lower_bound(gamma: float, eps: float, e1: ArrayLike, e2: ArrayLike, sharp: bool = True) -> float:
    r"""Lower bound on the norm that plain attention needs for a flat and a sharp query at once.

    The map to reach is :math:`P = ((1 - \gamma, \gamma), (0, 1))` on two unit tokens, within
    :math:`\varepsilon` per entry. With :math:`\rho = e_1^\top e_2` and :math:`\Gamma = |\log((1 -
    \gamma)/\gamma)|`,

    .. math:: \|W\| \ge \frac{\log(1/(4\varepsilon)) - \Gamma}{\|e_1 - e_2\| \sqrt{1 - \rho^2}};

    the paper's bound is smaller by :math:`\sqrt 2`.

    Parameters
    ----------
    gamma : float in (0, 1)
        :math:`\gamma`, the weight of the second token in the flat row.
    eps : float
        :math:`\varepsilon`, at most min(gamma, 1 - gamma)/2.
    e1, e2 : array-like of shape (d,)
        Unit vectors, not parallel.
    sharp : bool, default=True
        False gives the paper's bound.

    Returns
    -------
    bound : float; 0 where the formula is negative

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Proposition 1.
    """
    rho, distance = _prop1_setting(gamma, eps, e1, e2)
    check_bool("sharp", sharp)
    excess = math.log(1.0 / (4.0 * eps)) - abs(_logit(gamma))
    bound = max(excess, 0.0) / (distance * math.sqrt(1.0 - rho**2))
    return bound if sharp else bound / math.sqrt(2.0)


def prop1_min_norm(gamma: float, eps: float, e1: ArrayLike, e2: ArrayLike) -> float:
    r"""Least norm with which plain attention reaches the map of :func:`prop1_lower_bound`, exactly.

    Rows have the logit gaps :math:`c_i = e_i^\top W (e_2 - e_1)`, with
    :math:`c_1 \in [\mathrm{logit}(\gamma - \varepsilon), \mathrm{logit}(\gamma + \varepsilon)]` and
    :math:`c_2 \ge \log((1 - \varepsilon)/\varepsilon)`, and

    .. math:: \min \|W\| = \frac{1}{\|e_1 - e_2\|} \sqrt{\min_{c_1, c_2}
              \frac{c_1^2 + c_2^2 - 2 \rho c_1 c_2}{1 - \rho^2}}.

    Parameters
    ----------
    gamma : float in (0, 1)
        :math:`\gamma`.
    eps : float
        :math:`\varepsilon`.
    e1, e2 : array-like of shape (d,)
        Unit vectors, not parallel.

    Returns
    -------
    norm : float
    """
    rho, distance = _prop1_setting(gamma, eps, e1, e2)
    low, high, c2 = _gaps(gamma, eps)
    # The quadratic is convex with its vertex at rho c2; beyond it, c2 may grow with c1.
    c1 = min(max(rho * c2, low), high)
    c2 = max(c2, rho * c1)
    return math.sqrt((c1**2 + c2**2 - 2.0 * rho * c1 * c2) / (1.0 - rho**2)) / distance


def prop1_ssa_solution(gamma: float, eps: float, e1: ArrayLike, e2: ArrayLike) -> tuple[Array, Array]:
    r"""Weights and query temperatures that reach the same map at the least cost.

    The cost is :math:`\max_i |\tau_i| \|W\|`.

    With :math:`r = |\rho|`, :math:`x = |c_1|`, c_2 = log((1 - eps)/eps), a unit vector u and
    W = u d^T/||d||^2, d = e_2 - e_1,

    .. math:: N = c_2 \;(x \le r c_2), \qquad x \;(c_2 \le r x), \qquad
              \sqrt{\frac{x^2 + c_2^2 - 2 r x c_2}{1 - r^2}} \;\text{(else)}

    is the least :math:`\max |\tau_i|`, and :math:`\tau_i = c_i / e_i^\top u`. Temperatures are signed. For
    tokens without correlation they cannot help: N is then that of plain attention.

    Parameters
    ----------
    gamma : float in (0, 1)
        :math:`\gamma`.
    eps : float
        :math:`\varepsilon`.
    e1, e2 : array-like of shape (d,)
        Unit vectors, not parallel.

    Returns
    -------
    W : ndarray of shape (d, d)
    tau : ndarray of shape (2,)

    Notes
    -----
    The paper states that :math:`\max(\log(1/\varepsilon), \Gamma/\sqrt{1-\rho^2})/\|e_1 - e_2\|` is enough;
    for weakly correlated tokens it is not (by up to 13 % in random draws).

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, Proposition 1.
    """
    rho, distance = _prop1_setting(gamma, eps, e1, e2)
    a, b = _vector("e1", e1), _vector("e2", e2)
    low, high, c2 = _gaps(gamma, eps)
    r = abs(rho)
    c1 = _cheapest_gap(low, high, _logit(gamma), r * c2)
    x = abs(c1)
    if x <= r * c2:
        u = b
    elif c2 <= r * x:
        u = a
    else:
        # In the plane of e1 and e2: |e1.u| : |e2.u| = x : c2, with the signs that make both large.
        targets = np.array([math.copysign(x, rho) if rho else x, c2])
        coefficients = np.linalg.solve(np.array([[1.0, rho], [rho, 1.0]]), targets)
        u = coefficients[0] * a + coefficients[1] * b
        u = u / np.linalg.norm(u)
    products = np.array([a @ u, b @ u])
    gaps = np.array([c1, c2])
    tau = np.divide(gaps, products, out=np.zeros(2), where=products != 0.0)
    return np.outer(u, b - a) / distance**2, tau


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
    """
    check_real("alpha", alpha, low=0.0, high=1.0, closed="neither")
    ratios = np.asarray(kappa, dtype=np.float64)
    if not (ratios > 0.0).all():
        raise ValueError(f"kappa must be positive; got {float(ratios.min())!r}")
    return np.log(ratios) + _logit(alpha)


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


def _cheapest_gap(low: float, high: float, aim: float, free: float) -> float:
    """Return the gap nearest to `aim` among those in [low, high] whose cost is least.

    The cost grows with the size of the gap beyond `free` and is constant below it.
    """
    smallest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    if abs(aim) <= free:
        return aim
    return math.copysign(max(smallest, free), aim) if smallest <= abs(aim) else aim


def _gaps(gamma: float, eps: float) -> tuple[float, float, float]:
    return _logit(gamma - eps), _logit(gamma + eps), math.log((1.0 - eps) / eps)


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def _prop1_setting(gamma: float, eps: float, e1: ArrayLike, e2: ArrayLike) -> tuple[float, float]:
    """Return rho and ||e1 - e2||."""
    check_real("gamma", gamma, low=0.0, high=1.0, closed="neither")
    check_real("eps", eps, low=0.0, high=min(gamma, 1.0 - gamma) / 2.0, closed="right")
    a, b = _vector("e1", e1), _vector("e2", e2)
    for name, token in (("e1", a), ("e2", b)):
        length = float(np.linalg.norm(token))
        if abs(length - 1.0) > 1e-8:
            raise ValueError(f"{name} must be a unit vector; its norm is {length:.6g}")
    rho = float(np.clip(a @ b, -1.0, 1.0))
    if 1.0 - rho**2 < 1e-14:
        raise ValueError(f"e1 and e2 must not be parallel; their product is {rho:.6g}")
    return rho, _distance(a, b)


def _distance(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        raise ValueError(f"both tokens must have one shape; got {a.shape} and {b.shape}")
    distance = float(np.linalg.norm(a - b))
    if distance == 0.0:
        raise ValueError("the two tokens must differ")
    return distance


def _vector(name: str, value: ArrayLike) -> Array:
    return _finite(name, value, 1)


def _matrix(name: str, value: ArrayLike) -> Array:
    return _finite(name, value, 2)


def _finite(name: str, value: ArrayLike, ndim: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != ndim or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite {ndim}-D array; got shape {array.shape}")
    return array
