r"""The Gaussian mechanism, exactly: what a shift of given length costs in (epsilon, delta)."""

from __future__ import annotations

import functools
import math

from scipy.special import log_ndtr, ndtri

from mlpapers.core.validation import check_real

__all__ = [
    "gaussian_mechanism_delta",
    "gaussian_mechanism_epsilon",
    "gaussian_mechanism_ratio",
    "strict_epsilon",
    "strict_residual",
]

_SQRT2 = math.sqrt(2.0)
# Below this argument the complementary error function of the C library underflows.
_ERFC_LIMIT = -37.0
_MAX_NEWTON = 40
# Standard deviations from which the two terms of delta cancel in double precision.
_FAR = 1e6


def gaussian_mechanism_delta(epsilon: float, sensitivity_over_sigma: float) -> float:
    r"""Return the smallest delta for which a Gaussian shift is (epsilon, delta)-indistinguishable.

    .. math:: \delta(\varepsilon; s) = \Phi\Big(\frac s2 - \frac\varepsilon s\Big)
              - e^\varepsilon\, \Phi\Big(-\frac s2 - \frac\varepsilon s\Big), \qquad s =
              \text{sensitivity}/\sigma

    Parameters
    ----------
    epsilon : float >= 0
    sensitivity_over_sigma : float >= 0
        Length of the shift in standard deviations of the noise.

    Returns
    -------
    delta : float in [0, 1]

    Raises
    ------
    ValueError, TypeError
        If an argument is negative or not a finite number.

    References
    ----------
    .. [1] Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018, Theorem 8.

    Examples
    --------
    >>> round(gaussian_mechanism_delta(0.0, 1.0), 6)
    0.382925
    """
    check_real("epsilon", epsilon, low=0.0)
    check_real("sensitivity_over_sigma", sensitivity_over_sigma, low=0.0)
    return _delta(float(epsilon), float(sensitivity_over_sigma))


def gaussian_mechanism_epsilon(delta: float, sensitivity_over_sigma: float) -> float:
    """Return the smallest epsilon >= 0 with ``gaussian_mechanism_delta(epsilon, s) <= delta``.

    Parameters
    ----------
    delta : float in (0, 1)
    sensitivity_over_sigma : float >= 0

    Returns
    -------
    epsilon : float

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Examples
    --------
    >>> round(gaussian_mechanism_epsilon(0.01, 1 / 1.8778756), 6)
    1.0
    """
    check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    check_real("sensitivity_over_sigma", sensitivity_over_sigma, low=0.0)
    return epsilon_of_shift(float(delta), float(sensitivity_over_sigma))


def gaussian_mechanism_ratio(epsilon: float, delta: float) -> float:
    """Return the smallest sigma / sensitivity that gives (epsilon, delta), to 1e-12 relative.

    Parameters
    ----------
    epsilon : float > 0
    delta : float in (0, 1)

    Returns
    -------
    ratio : float

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Examples
    --------
    >>> round(gaussian_mechanism_ratio(1.0, 1e-2), 7)
    1.8778756
    """
    check_real("epsilon", epsilon, low=0.0, closed="neither")
    check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    return _ratio(float(epsilon), float(delta))


@functools.lru_cache(maxsize=64)
def _ratio(epsilon: float, delta: float) -> float:
    low = high = 1.0
    while _delta(epsilon, 1.0 / high) > delta:
        high *= 2.0
    while _delta(epsilon, 1.0 / low) <= delta:
        low /= 2.0
    while high - low > 1e-13 * high:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _delta(epsilon, 1.0 / middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def epsilon_of_shift(delta: float, s: float) -> float:
    """Return the smallest epsilon for a shift of `s` standard deviations; inf where s is."""
    if s == 0.0 or _delta(0.0, s) <= delta:
        return 0.0
    if s > _FAR:
        # Phi(s/2 - epsilon/s) <= delta is enough, and what delta(epsilon) takes off it is out of sight.
        return s * (0.5 * s - float(ndtri(delta)))
    # Newton on log delta(epsilon), whose derivative is -e^epsilon Phi(-s/2 - epsilon/s) / delta(epsilon). It
    # is concave, so that steps never overshoot from where delta(epsilon) <= Phi(s/2 - epsilon/s) <= delta.
    epsilon = s * (0.5 * s + math.sqrt(-2.0 * math.log(delta)))
    for _ in range(_MAX_NEWTON):
        value = _delta(epsilon, s)
        slope = math.exp(epsilon + _log_cdf(-0.5 * s - epsilon / s))
        if value <= 0.0 or slope <= 0.0:  # underflow far out
            break
        step = math.log(value / delta) * value / slope
        epsilon = max(0.0, epsilon + step)
        if abs(step) <= 1e-7 * epsilon:  # the error is now about its square
            break
    # The root may lie a rounding below; the answer must not understate.
    for nudge in (0.0, 1e-13, 1e-12, 1e-11, 1e-10):
        candidate = epsilon * (1.0 + nudge)
        if _delta(candidate, s) <= delta < _delta(candidate * (1.0 - 1e-9), s):
            return candidate
    return _bisected_epsilon(delta, s)


def _bisected_epsilon(delta: float, s: float) -> float:
    """Return what `epsilon_of_shift` does, slowly and surely: delta falls with epsilon."""
    low, high = 0.0, 1.0
    while _delta(high, s) > delta:
        high *= 2.0
    while high - low > 1e-13 * high:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _delta(middle, s) <= delta:
            high = middle
        else:
            low = middle
    return high


def strict_epsilon(rho: float, sigma: float, n_parameters: int, delta: float, slack: float) -> float:
    r"""Return epsilon of objective perturbation when the residual may point anywhere, also along the noise.

    .. math:: \varepsilon = \frac{\rho}{\sigma} \big(\sqrt{d'} + \sqrt{2 \ln(1/\delta)}\big)
              + \frac{\rho^2}{2 \sigma^2} + J

    The first two terms bound the log-ratio of the noise densities at b and at b + u, ||u|| <= rho, outside an
    event of probability delta on which ||b|| > sigma (sqrt d' + sqrt(2 ln 1/delta)); J bounds the
    log-Jacobian of the removal maps.
    """
    if sigma == 0.0:
        return 0.0 if rho == 0.0 and slack == 0.0 else math.inf
    ratio = rho / sigma
    return ratio * _reach(n_parameters, delta) + 0.5 * ratio * ratio + slack


def strict_residual(epsilon: float, sigma: float, n_parameters: int, delta: float, slack: float) -> float:
    """Return the residual at which `strict_epsilon` is `epsilon`; 0 where the slack alone exceeds it."""
    left = epsilon - slack
    if not left > 0.0:
        return 0.0
    reach = _reach(n_parameters, delta)
    # The positive root of r^2/2 + reach r = left, in the form without cancellation.
    return sigma * 2.0 * left / (reach + math.sqrt(reach**2 + 2.0 * left))


def _reach(n_parameters: int, delta: float) -> float:
    return math.sqrt(n_parameters) + math.sqrt(2.0 * math.log(1.0 / delta))


def _delta(epsilon: float, s: float) -> float:
    if s == 0.0:
        return 0.0
    if math.isinf(s):
        return 1.0
    upper, lower = _log_cdf(0.5 * s - epsilon / s), _log_cdf(-0.5 * s - epsilon / s)
    gap = epsilon + lower - upper
    # delta >= 0 by theory; where the two terms agree to rounding the difference may come out as -1e-17.
    return -math.exp(upper) * math.expm1(gap) if gap < 0.0 else 0.0


def _log_cdf(x: float) -> float:
    if x < _ERFC_LIMIT:
        return float(log_ndtr(x))
    if x > 0.0:
        return math.log1p(-0.5 * math.erfc(x / _SQRT2))
    return math.log(0.5 * math.erfc(-x / _SQRT2))
