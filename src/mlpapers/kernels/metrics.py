r"""The figures of kernel benchmarks: fast_p, the geometric mean, pass@k.

Over N tasks, of which some are solved, with speed-up :math:`s_i` over eager:

.. math::
   \text{fast}_p = \frac{\#\{i \text{ correct}: s_i > p\}}{N} \qquad
   \text{GM} = \exp\Big(\frac{1}{N_c} \sum_{i \text{ correct}} \log s_i\Big) \qquad
   \text{pass@}k = 1 - \binom{n - c}{k} \Big/ \binom{n}{k}
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int, check_real


def fast_p(
    correct: ArrayLike, speedup: ArrayLike, p: float = 1.0, n: int | None = None, strict: bool = True
) -> float:
    """Return the share of tasks that were solved and sped up by more than `p`.

    Parameters
    ----------
    correct : array-like of bool, shape (n_tasks,)
    speedup : array-like of float, shape (n_tasks,)
        May be nan where `correct` is False.
    p : float
        0 gives the share of solved tasks.
    n : int, optional
        Tasks in all, if more than the rows given; those that are missing count as failures.
    strict : bool
        Whether s = p is too little, as in KernelBench; the paper counts it.

    Returns
    -------
    share : float

    Raises
    ------
    ValueError
        If lengths differ, `n` is less than they are, or a correct task has a speed-up that is not positive.

    Examples
    --------
    >>> fast_p([True, True, False], [2.0, 1.0, float("nan")])
    0.3333333333333333
    >>> fast_p([True, True, False], [2.0, 1.0, float("nan")], strict=False)
    0.6666666666666666
    """
    solved, ratios = _checked(correct, speedup)
    check_real("p", p, low=0.0)
    total = len(solved) if n is None else check_int("n", n, minimum=len(solved))
    if total == 0:
        raise ValueError("correct must name at least one task")
    chosen = ratios[solved]
    return float(np.count_nonzero(chosen > p if strict else chosen >= p) / total)


def geometric_mean(x: ArrayLike) -> float:
    """Return exp of the mean logarithm; nan for no values.

    Parameters
    ----------
    x : array-like of float
        Positive.

    Returns
    -------
    mean : float

    Raises
    ------
    ValueError
        If a value is not positive and finite.

    Examples
    --------
    >>> round(geometric_mean([1.0, 4.0]), 12)
    2.0
    """
    values = np.asarray(x, dtype=np.float64).reshape(-1)
    if not values.size:
        return math.nan
    if not (np.isfinite(values).all() and values.min() > 0):
        raise ValueError(f"x must hold positive finite numbers; got {values.tolist()[:5]}")
    return float(np.exp(np.log(values).mean()))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate that one of k samples is right, when c of n were.

    Parameters
    ----------
    n, c, k : int
        Samples, right ones, and how many may be tried.

    Returns
    -------
    probability : float

    Raises
    ------
    ValueError
        Unless 0 <= c <= n and 1 <= k <= n.

    References
    ----------
    [1] Chen et al., "Evaluating large language models trained on code", 2021, equation 1.

    Examples
    --------
    >>> pass_at_k(4, 1, 4), pass_at_k(4, 1, 1)
    (1.0, 0.25)
    """
    check_int("n", n, minimum=1)
    check_int("c", c, minimum=0, maximum=n)
    check_int("k", k, minimum=1, maximum=n)
    if n - c < k:
        return 1.0
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def _checked(correct: Any, speedup: Any) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    solved = np.asarray(correct, dtype=bool).reshape(-1)
    ratios = np.asarray(speedup, dtype=np.float64).reshape(-1)
    if len(solved) != len(ratios):
        raise ValueError(f"correct and speedup must be equally long; got {len(solved)} and {len(ratios)}")
    bad = solved & ~(ratios > 0)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"speedup must be positive where correct; task {first} has {ratios[first]}")
    return solved, ratios
