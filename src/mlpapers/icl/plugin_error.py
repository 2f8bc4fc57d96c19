"""Exact test errors of the supervised plug-in, and the limits that unlabelled rows can reach."""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from mlpapers.core.parallel import chunk_slices
from mlpapers.core.validation import check_choice, check_int, check_real

__all__ = [
    "bayes_error_asymptotic",
    "infinite_context_error",
    "label_value",
    "spi_error",
    "spi_error_random",
]

Array = NDArray[np.float64]

_HERMITE_NODES = 201
# Terms of the double series held at once: with little noise it has too many for the memory.
_BLOCK_TERMS = 2**20
# Below this accuracy of the labels there is none.
_NO_ACCURACY = 1e-12


def spi_error(m: float, sigma: float, d: int, *, method: Literal["exact", "quadrature"] = "exact") -> float:
    r"""Test error of the supervised plug-in sgn(x'X'y) with m labels.

    .. math:: P(\chi^2_d(\lambda_1) < \chi^2_d(\lambda_2)) = \sum_{j,k} \mathrm{Pois}(j; \lambda_1/2)\,
              \mathrm{Pois}(k; \lambda_2/2)\, I_{1/2}(d/2 + j, d/2 + k), \qquad
              \lambda_{1,2} = \frac{(1 \pm \sqrt m)^2}{2 \sigma^2}

    with the regularised incomplete beta function, since :math:`x'\hat\mu` is a difference of two independent
    quadratic forms.

    Parameters
    ----------
    m : float
        Number of labelled rows; 0 gives 1/2.
    sigma : float
        Standard deviation of the noise around means of norm 1.
    d : int
        Number of features.
    method : {"exact", "quadrature"}, default="exact"
        "quadrature" integrates the paper's conditional form
        :math:`E\,Q((1 + e g) / (\sigma \sqrt{(1 + e g)^2 + e^2 h}))`, :math:`e = \sigma / \sqrt m`, g normal,
        h chi-squared with d - 1 degrees of freedom; for d >= 2, and less precise.

    Returns
    -------
    error : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> round(spi_error(10, 1.0, 10), 10)
    0.2407168046
    """
    m = check_real("m", m, low=0.0)
    sigma = check_real("sigma", sigma, low=0.0, closed="neither")
    d = check_int("d", d, minimum=1)
    check_choice("method", method, ("exact", "quadrature"))
    if m == 0.0:
        return 0.5
    if method == "quadrature":
        if d == 1:
            raise ValueError("method='quadrature' needs d >= 2; d=1 leaves nothing to integrate over h")
        return _quadrature(m, sigma, d)
    return _exact(m, sigma, d)


def spi_error_random(n: int, p: float, sigma: float, d: int) -> float:
    """Test error of the supervised plug-in where each of n labels is revealed with probability p.

    The binomial mean of :func:`spi_error`, which is not its value at m = n p: 0.2443 and 0.2407 for n=50,
    p=0.2, sigma=1, d=10.

    Parameters
    ----------
    n : int
    p : float
    sigma : float
    d : int

    Returns
    -------
    error : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> from mlpapers.icl import spi_error_random
    >>> round(spi_error_random(n=50, p=0.2, sigma=1.0, d=10), 4)
    0.2443
    """
    n, p, sigma, d = _check_problem(n, p, sigma, d)
    counts = np.arange(n + 1)
    probability = stats.binom.pmf(counts, n, p)
    used = probability > 1e-17
    errors = [spi_error(int(m), sigma, d) for m in counts[used]]
    return float(probability[used] @ errors)


def infinite_context_error(m: float, sigma: float) -> float:
    r"""Error of the best sgn(x' A(X'X) X'y) with m labels and endlessly many unlabelled rows.

    The best A is :math:`\mu\mu'`: the direction is known, its sign is voted by the m labels,

    .. math:: Q(1/\sigma) (1 - Q(\sqrt m/\sigma)) + Q(\sqrt m/\sigma) (1 - Q(1/\sigma)).

    Parameters
    ----------
    m : float
    sigma : float

    Returns
    -------
    error : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025,
       Theorems 2 and 3.
    """
    m = check_real("m", m, low=0.0)
    sigma = check_real("sigma", sigma, low=0.0, closed="neither")
    floor, flipped = special.ndtr(-1.0 / sigma), special.ndtr(-math.sqrt(m) / sigma)
    return float(floor * (1.0 - flipped) + flipped * (1.0 - floor))


def bayes_error_asymptotic(ratio: float, p: float, sigma: float) -> float:
    r"""Bayes error for n, d to infinity with n/d = ratio and a share p of labelled rows.

    With q_u the accuracy of the labels and q_v that of the mean, state evolution iterates

    .. math:: q_v = \frac{r q_u / \sigma^2}{1 + r q_u / \sigma^2}, \qquad
              q_u = p + (1 - p)\, E \tanh(\gamma + \sqrt\gamma Z), \quad \gamma = q_v / \sigma^2,

    from q_u = 1; the error is :math:`Q(\sqrt{q_v} / \sigma)`.

    Parameters
    ----------
    ratio : float
        Rows per feature, r.
    p : float
    sigma : float

    Returns
    -------
    error : float

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.
    """
    ratio = check_real("ratio", ratio, low=0.0, closed="neither")
    p = check_real("p", p, low=0.0, high=1.0)
    sigma = check_real("sigma", sigma, low=0.0, closed="neither")
    return float(special.ndtr(-math.sqrt(_state_evolution(ratio, p, sigma)[0]) / sigma))


def label_value(n: int, p: float, d: int, sigma: float) -> float:
    r"""How many more labels would help the supervised plug-in as much as the unlabelled rows can help.

    In the limit of :func:`bayes_error_asymptotic` the plug-in with m labels has :math:`q_v` of the same form
    with m/d in place of :math:`r q_u`: the unlabelled rows are worth :math:`n (q_u - p)` labels, each of them
    :math:`E\tanh(\gamma + \sqrt\gamma Z)`, a number between 0 and 1.

    Parameters
    ----------
    n : int
    p : float
    d : int
    sigma : float

    Returns
    -------
    extra_labels : float, in [0, n (1 - p)]

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> from mlpapers.icl import label_value
    >>> round(label_value(n=100, p=0.1, d=10, sigma=1.0), 1)
    44.8
    """
    n, p, sigma, d = _check_problem(n, p, sigma, d)
    return n * (_state_evolution(n / d, p, sigma)[1] - p)


def _check_problem(n: int, p: float, sigma: float, d: int) -> tuple[int, float, float, int]:
    return (
        check_int("n", n, minimum=1),
        check_real("p", p, low=0.0, high=1.0),
        check_real("sigma", sigma, low=0.0, closed="neither"),
        check_int("d", d, minimum=1),
    )


@functools.lru_cache(maxsize=4096)
def _exact(m: float, sigma: float, d: int) -> float:
    """Sum the double series with one exponential per term.

    From I(a, b) = I(a + 1, b) + T(a, b), T(a, b) = 2^-(a+b) Gamma(a+b) / (Gamma(a+1) Gamma(b)), the sum over
    j is I(a_max, b) plus the terms T weighted by the distribution function of the Poisson law: all of it
    positive, so nothing cancels.
    """
    means = [(1.0 + sign * math.sqrt(m)) ** 2 / (4.0 * sigma**2) for sign in (1.0, -1.0)]
    windows = []
    for mean in means:
        reach = 12.0 * math.sqrt(mean) + 40.0
        windows.append(np.arange(max(0, math.floor(mean - reach)), math.ceil(mean + reach) + 1))
    j, k = windows
    a, b = 0.5 * d + j, 0.5 * d + k
    total = np.arange(j[0] + k[0], j[-1] + k[-1] + 1) + float(d)
    along = special.gammaln(total) - total * math.log(2.0)
    weight_j, weight_k = stats.poisson.pmf(j, means[0]), stats.poisson.pmf(k, means[1])
    below, offset = np.cumsum(weight_j), special.gammaln(a + 1.0)[:, None]
    inner = special.betainc(a[-1] + 1.0, b, 0.5) * weight_j.sum()
    for part in chunk_slices(len(k), max(1, _BLOCK_TERMS // len(j))):
        exponent = along[(j - j[0])[:, None] + (k[part] - k[0])[None, :]]
        exponent -= offset + special.gammaln(b[part])[None, :]
        inner[part] += below @ np.exp(exponent, out=exponent)
    return float(inner @ weight_k)


def _quadrature(m: float, sigma: float, d: int) -> float:
    e = sigma / math.sqrt(m)
    g, weight_g = special.roots_hermitenorm(_HERMITE_NODES)
    h, weight_h = special.roots_genlaguerre(80, 0.5 * (d - 3))
    along = 1.0 + e * g[:, None]
    across = e * e * 2.0 * h[None, :]
    values = special.ndtr(-along / (sigma * np.sqrt(along**2 + across)))
    weight_g, weight_h = weight_g / weight_g.sum(), weight_h / weight_h.sum()
    return float(weight_g @ values @ weight_h)


@functools.lru_cache(maxsize=4096)
def _state_evolution(ratio: float, p: float, sigma: float) -> tuple[float, float]:
    """Return the fixed point (q_v, q_u) that the iteration from q_u = 1 comes down to.

    It is the largest root of a concave function, which is bracketed: next to the transition at p = 0 the
    iteration itself creeps, and stops short of it.
    """
    z, weight = special.roots_hermitenorm(_HERMITE_NODES)
    weight = weight / weight.sum()
    s2 = sigma**2

    def accuracy_of_mean(q_u: float) -> float:
        signal = ratio * q_u / s2
        return signal / (1.0 + signal)

    def rise(q_u: float) -> float:
        gamma = accuracy_of_mean(q_u) / s2
        return p + (1.0 - p) * float(weight @ np.tanh(gamma + math.sqrt(gamma) * z)) - q_u

    low = max(p, _NO_ACCURACY)
    if p == 0.0 and (ratio <= s2**2 or rise(low) <= 0.0):
        return 0.0, 0.0  # without labels, and with too few rows, nothing is learned
    q_u = 1.0 if rise(1.0) >= 0.0 else low
    if q_u < 1.0 and rise(low) > 0.0:
        q_u = float(optimize.brentq(rise, low, 1.0, xtol=1e-15, rtol=4.0 * np.finfo(float).eps))
    return accuracy_of_mean(q_u), q_u
