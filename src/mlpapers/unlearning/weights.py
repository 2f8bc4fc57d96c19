r"""From data values to weights of mean one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from scipy.stats import rankdata

from mlpapers.core.validation import check_bool, check_choice, check_real, held_values

__all__ = ["STRATEGIES", "Strategy", "value_weights"]

Strategy = str | Callable[[NDArray[np.float64]], ArrayLike]

STRATEGIES = ("uniform", "rank", "minmax", "positive", "sigmoid", "softmax", "threshold")
_THRESHOLD_RANK = 0.2


def value_weights(
    values: ArrayLike,
    strategy: Strategy = "rank",
    *,
    floor: float = 0.1,
    temperature: float = 1.0,
    direction: str = "increasing",
    normalize: bool = True,
) -> NDArray[np.float64]:
    r"""Turn data values into non-negative weights with mean one.

    With values :math:`v`, floor :math:`f`, temperature :math:`\tau` and normalised ranks
    :math:`r_i = (\mathrm{rank}_i - 1)/(n - 1)` (ties share their mean rank), the weights before normalisation
    are

    .. math::
        \text{rank: } f + (1-f)\, r_i, \qquad
        \text{minmax: } f + (1-f) \frac{v_i - \min v}{\max v - \min v}, \qquad
        \text{positive: } v_i^+ + f\, \overline{v^+},

    .. math::
        \text{sigmoid: } f + (1-f)\, \sigma\Big(4 \tau \frac{v_i - \mathrm{median}\, v}{\mathrm{std}\,
        v}\Big), \qquad \text{softmax: } \mathrm{softmax}\Big(\frac{v}{\tau\, \mathrm{std}\, v}\Big)_i, \qquad
        \text{threshold: } 1 \text{ if } r_i > 0.2 \text{ else } f.

    Values that are all equal (and, for "positive", all non-positive) give uniform weights. The weighting
    formula of the paper was not available; none of these is claimed to be it.

    Parameters
    ----------
    values : array-like of shape (n,)
        Finite; larger means more useful.
    strategy : str or callable, default="rank"
        "uniform", one of the names above, or a function of the values that returns n finite non-negative
        weights, not all zero.
    floor : float in [0, 1], default=0.1
        The smallest weight relative to the largest (before normalisation).
    temperature : float > 0, default=1.0
    direction : {"increasing", "decreasing"}, default="increasing"
        "decreasing" replaces v by -v: multipliers of a forget step.
    normalize : bool, default=True
        Divide by the mean. The mean couples the rows; without it the weight of a row under a callable that
        works entry by entry depends on that row alone.

    Returns
    -------
    weights : ndarray of shape (n,)

    Raises
    ------
    ValueError, TypeError
        If `values` is not a finite vector, an argument is out of range, or a callable returns anything else
        than n finite non-negative numbers, not all zero.

    Examples
    --------
    >>> value_weights([3.0, 1.0, 2.0], floor=0.0).tolist()
    [2.0, 0.0, 1.0]
    """
    return weights_of(
        values, strategy, floor=floor, temperature=temperature, direction=direction, normalize=normalize
    )


def weights_of(
    values: ArrayLike,
    strategy: Strategy,
    *,
    floor: float,
    temperature: float = 1.0,
    direction: str = "increasing",
    normalize: bool = True,
    name: str = "strategy",
) -> NDArray[np.float64]:
    """Return `value_weights`; errors call the strategy by `name`, as an estimator's parameter."""
    v = check_values("values", values)
    if not callable(strategy):
        check_choice(name, strategy, STRATEGIES)
    f = check_real("floor", floor, low=0.0, high=1.0)
    tau = check_real("temperature", temperature, low=0.0, closed="neither")
    check_choice("direction", direction, ("increasing", "decreasing"))
    check_bool("normalize", normalize)
    if direction == "decreasing":
        v = -v
    raw = _custom(name, strategy, v) if callable(strategy) else _named(strategy, v, f, tau)
    if not normalize:
        return raw
    raw = raw / raw.max()  # first, so that the mean of the tiniest weights is not zero
    return raw / raw.mean()


def check_values(name: str, values: Any, n: int | None = None) -> NDArray[np.float64]:
    """Return values, also those of a valuer or its result, as a finite vector (of length `n` where given)."""
    try:
        v = np.asarray(held_values(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers, one per row; got {type(values).__name__}") from error
    if v.ndim != 1 or v.size == 0 or (n is not None and v.shape[0] != n):
        expected = "(n,) with n >= 1" if n is None else f"({n},), one value per row"
        raise ValueError(f"{name} must have shape {expected}; got {v.shape}")
    if not np.all(np.isfinite(v)):
        raise ValueError(f"{name} must be finite; entry {int(np.flatnonzero(~np.isfinite(v))[0])} is not")
    return v


def _named(strategy: str, v: NDArray[np.float64], f: float, tau: float) -> NDArray[np.float64]:
    spread = float(v.max() - v.min())
    if strategy == "uniform" or (strategy != "positive" and not spread > 0.0):
        return np.ones_like(v)
    if strategy in ("rank", "threshold"):
        r = (rankdata(v) - 1.0) / (v.size - 1)
        return f + (1.0 - f) * r if strategy == "rank" else np.where(r > _THRESHOLD_RANK, 1.0, f)
    if strategy == "minmax":
        return f + (1.0 - f) * (v - v.min()) / spread
    if strategy == "positive":
        positive = np.maximum(v, 0.0)
        return positive + f * positive.mean() if positive.any() else np.ones_like(v)
    deviation = float(v.std())
    if not deviation > 0.0:  # differences so small that their squares vanish
        return np.ones_like(v)
    if strategy == "sigmoid":
        return f + (1.0 - f) * expit(4.0 * tau * (v - np.median(v)) / deviation)
    return softmax(v / (tau * deviation))


def _custom(
    name: str, strategy: Callable[[NDArray[np.float64]], ArrayLike], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    weights = strategy(v.copy())
    try:
        raw = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must return numbers, one per value; got {weights!r}") from error
    if raw.shape != v.shape:
        raise ValueError(f"{name} must return weights of shape {v.shape}; got {raw.shape}")
    if not np.all(np.isfinite(raw)) or np.any(raw < 0.0) or not np.any(raw > 0.0):
        raise ValueError(f"{name} must return finite weights >= 0 that are not all zero")
    return raw
