r"""Statistics of paired timings.

Eager and kernel are timed in turns (eager, kernel), (kernel, eager), …, so that a busy machine slows both.
With pairs :math:`(e_i, k_i)` the speed-up is

.. math:: s = \operatorname{median}_i \frac{e_i}{k_i},

with an interval from resampling the pairs. The ratio of two medians would mix moments of a different load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_int, check_real, check_rng


def paired_speedup(
    eager: Sequence[float] | NDArray[Any],
    kernel: Sequence[float] | NDArray[Any],
    *,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    random_state: Any = 0,
) -> tuple[float, tuple[float, float]]:
    """Return the median of the paired ratios and its percentile bootstrap interval.

    Parameters
    ----------
    eager, kernel : array-like of shape (n_pairs,)
        Seconds, positive.
    n_bootstrap : int
    confidence : float
    random_state : int, Generator or None

    Returns
    -------
    speedup : float
    interval : tuple of (float, float)

    Raises
    ------
    ValueError
        If the two differ in length, are empty, or hold a time that is not positive.

    Examples
    --------
    >>> paired_speedup([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    (2.0, (2.0, 2.0))
    """
    e, k = np.asarray(eager, dtype=np.float64), np.asarray(kernel, dtype=np.float64)
    if e.ndim != 1 or e.shape != k.shape or not e.size:
        raise ValueError(f"eager and kernel must be 1-D and equally long; got shapes {e.shape} and {k.shape}")
    if not (np.isfinite(e).all() and np.isfinite(k).all() and e.min() > 0 and k.min() > 0):
        raise ValueError("eager and kernel must hold positive finite seconds")
    check_int("n_bootstrap", n_bootstrap, minimum=1)
    check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    ratio = e / k
    rng = check_rng(random_state)
    draws = np.median(ratio[rng.integers(len(ratio), size=(n_bootstrap, len(ratio)))], axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return float(np.median(ratio)), (float(low), float(high))


def faster(
    challenger: Sequence[float] | NDArray[Any],
    incumbent: Sequence[float] | NDArray[Any],
    *,
    random_state: Any = 0,
) -> bool:
    """Return whether the lower end of the challenger's gain over the incumbent exceeds 1.

    Parameters
    ----------
    challenger, incumbent : array-like of shape (n_pairs,)
        Seconds of paired runs.
    random_state : int, Generator or None

    Returns
    -------
    faster : bool
    """
    return paired_speedup(incumbent, challenger, random_state=random_state)[1][0] > 1.0
