"""What one plain attention layer needs for a flat and a sharp query at once, and what temperatures save."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.attention._vectors import distance, logit, vector
from mlpapers.core.validation import check_bool, check_real

__all__ = ["prop1_lower_bound", "prop1_min_norm", "prop1_ssa_solution"]

Array = NDArray[np.float64]


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

    Examples
    --------
    >>> from mlpapers.attention import prop1_lower_bound, prop1_min_norm
    >>> tokens = [1.0, 0.0], [0.8, 0.6]
    >>> for eps in (1e-2, 1e-4):
    ...     bound, least = prop1_lower_bound(0.5, eps, *tokens), prop1_min_norm(0.5, eps, *tokens)
    ...     print(round(bound, 2), "<=", round(least, 2))
    8.48 <= 12.03
    20.62 <= 24.27
    """
    rho, length = _prop1_setting(gamma, eps, e1, e2)
    check_bool("sharp", sharp)
    excess = math.log(1.0 / (4.0 * eps)) - abs(logit(gamma))
    bound = max(excess, 0.0) / (length * math.sqrt(1.0 - rho**2))
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
    rho, length = _prop1_setting(gamma, eps, e1, e2)
    low, high, c2 = _gaps(gamma, eps)
    # The quadratic is convex with its vertex at rho c2; beyond it, c2 may grow with c1.
    c1 = min(max(rho * c2, low), high)
    c2 = max(c2, rho * c1)
    return math.sqrt((c1**2 + c2**2 - 2.0 * rho * c1 * c2) / (1.0 - rho**2)) / length


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
    rho, length = _prop1_setting(gamma, eps, e1, e2)
    a, b = vector("e1", e1), vector("e2", e2)
    low, high, c2 = _gaps(gamma, eps)
    r = abs(rho)
    c1 = _cheapest_gap(low, high, logit(gamma), r * c2)
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
    return np.outer(u, b - a) / length**2, tau


def _cheapest_gap(low: float, high: float, aim: float, free: float) -> float:
    """Return the gap nearest to `aim` among those in [low, high] whose cost is least.

    The cost grows with the size of the gap beyond `free` and is constant below it.
    """
    smallest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    if abs(aim) <= free:
        return aim
    return math.copysign(max(smallest, free), aim) if smallest <= abs(aim) else aim


def _gaps(gamma: float, eps: float) -> tuple[float, float, float]:
    return logit(gamma - eps), logit(gamma + eps), math.log((1.0 - eps) / eps)


def _prop1_setting(gamma: float, eps: float, e1: ArrayLike, e2: ArrayLike) -> tuple[float, float]:
    """Return rho and ||e1 - e2||."""
    check_real("gamma", gamma, low=0.0, high=1.0, closed="neither")
    check_real("eps", eps, low=0.0, high=min(gamma, 1.0 - gamma) / 2.0, closed="right")
    a, b = vector("e1", e1), vector("e2", e2)
    for name, token in (("e1", a), ("e2", b)):
        norm = float(np.linalg.norm(token))
        if abs(norm - 1.0) > 1e-8:
            raise ValueError(f"{name} must be a unit vector; its norm is {norm:.6g}")
    rho = float(np.clip(a @ b, -1.0, 1.0))
    if 1.0 - rho**2 < 1e-14:
        raise ValueError(f"e1 and e2 must not be parallel; their product is {rho:.6g}")
    return rho, distance(a, b)
