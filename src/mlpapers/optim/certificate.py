"""Certificates: an interval around the Frank-Wolfe gap of a point, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlpapers.core.validation import check_choice, check_int, check_real, check_rng
from mlpapers.optim._directions import Directions
from mlpapers.optim._oracle import Oracle, Probe
from mlpapers.optim.constraints._base import ConstraintSet, as_floats
from mlpapers.optim.finite_sum import as_finite_sum

__all__ = ["GapCertificate", "gap_certificate"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GapCertificate:
    """An interval for the gap G(x) = max over s in C of <grad f(x), x - s>; f(x) - f* <= G(x) for convex f.

    Attributes
    ----------
    gap : float
        The estimate, from a difference gradient.
    lower, upper : float
    n_queries : int
        Values of single f_i asked for.
    heuristic : bool
        Whether the interval rests on an estimated Lipschitz constant or a normal approximation.
    """

    gap: float
    lower: float
    upper: float
    n_queries: int
    heuristic: bool


def gap_certificate(
    fun: Any,
    x: Any,
    constraint: ConstraintSet,
    *,
    mode: str = "full",
    mu: float | str = "auto",
    confidence: float = 0.95,
    lipschitz: float | None = None,
    n_functions: int | None = None,
    random_state: Any = None,
) -> GapCertificate:
    r"""Bound the Frank-Wolfe gap at a point from values alone.

    With the forward-difference gradient g, :math:`|g - \nabla f|_2 \le B := \sqrt{d} L \mu / 2`, so that

    .. math:: G(x) \in [\langle g, x - \mathrm{lmo}(g) \rangle \pm B D].

    Parameters
    ----------
    fun : FiniteSum or callable
    x : array of shape (d,)
    constraint : ConstraintSet
    mode : {"full", "sampled"}
        "full" asks all n (d + 1) values; "sampled" those of `n_functions` functions and adds a normal band of
        level `confidence` for the error of <g, x - s>.
    mu : float or "auto"
        Radius of the differences.
    confidence : float
        Level of the band of "sampled".
    lipschitz : float, optional
        L, a Lipschitz constant of every partial derivative along its own coordinate. Where it is not given it
        is estimated from second differences with a tenfold margin, and the certificate is `heuristic`.
    n_functions : int, optional
        Sample size of "sampled", at least 2; default max(30, n // 10).
    random_state : int, Generator, RandomState, SeedSequence or None

    Returns
    -------
    certificate : GapCertificate

    Raises
    ------
    TypeError
        Where `constraint` is no ConstraintSet.
    ValueError
        For a point of wrong length or outside the set, or bad options.

    Examples
    --------
    >>> from mlpapers.optim import L2Ball, gap_certificate
    >>> def fun(x):
    ...     return float(((x - 0.1) ** 2).sum())
    >>> for x in ([0.1, 0.1], [0.5, 0.1]):
    ...     certificate = gap_certificate(fun, x, L2Ball(1.0), lipschitz=2.0)
    ...     print(x, round(certificate.upper, 3), certificate.n_queries)
    [0.1, 0.1] 0.0 3
    [0.5, 0.1] 1.2 3
    """
    if not isinstance(constraint, ConstraintSet):
        raise TypeError(f"constraint must be a ConstraintSet; got {type(constraint).__name__}")
    check_choice("mode", mode, ("full", "sampled"))
    if n_functions is not None:
        check_int("n_functions", n_functions, minimum=2)
    confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    point = as_floats("x", x.detach().cpu().numpy() if hasattr(x, "detach") else x)
    if point.ndim != 1:
        raise ValueError(f"x must be a vector; got shape {point.shape}")
    total = as_finite_sum(fun, point.size)
    if total.dim not in (None, point.size):
        raise ValueError(f"x must have {total.dim} coordinates; got {point.size}")
    if mu != "auto":
        mu = check_real("mu", mu, low=0.0, closed="neither")
    if not constraint.contains(point, 1e-6):
        raise ValueError("x is not feasible: it leaves the set by more than 1e-6")
    oracle = Oracle(total, point.size, max_queries=None, mu=mu)
    rng, n = check_rng(random_state), total.n_functions
    m = n
    if mode == "sampled":
        m = min(n, max(2, max(30, n // 10) if n_functions is None else n_functions))
    rows = np.arange(n) if m >= n else np.sort(rng.choice(n, size=m, replace=False))
    probe = oracle.at(point)
    d = point.size
    block = Directions("coordinate", d, rng).everything()
    g, square = probe.means(block, rows)
    s = constraint._lmo(g[None])[0]
    away = point - s
    gap = float(g @ away)
    heuristic = lipschitz is None
    L = _second_differences(probe, rows) if lipschitz is None else check_real("lipschitz", lipschitz, low=0.0)
    margin = 0.5 * math.sqrt(d) * L * probe.mu * constraint.diameter(d)
    if m < n:
        # The error of g may also turn the LMO, hence its whole norm times the diameter.
        variance = float(np.maximum(square - g * g, 0.0).sum()) * (1.0 / (m - 1) - 1.0 / n)
        margin += stats.norm.ppf(0.5 + 0.5 * confidence) * math.sqrt(variance) * constraint.diameter(d)
        heuristic = True
    return GapCertificate(
        gap=gap,
        lower=max(gap - margin, 0.0),
        upper=float(gap + margin),
        n_queries=oracle.n_queries,
        heuristic=heuristic,
    )


def _second_differences(probe: Probe, rows: NDArray[np.int64]) -> float:
    """Return ten times the largest mean second difference along eight coordinates, with a coarser radius."""
    d = len(probe.x)
    k = np.unique(np.linspace(0, d - 1, min(8, d)).astype(np.int64))
    step = probe.mu**0.5
    some = rows[:: max(1, len(rows) // 64)]
    base = probe.base(some)
    block = Directions("coordinate", d, np.random.default_rng(0)).block(k)
    probe.oracle.charge(2 * len(some) * len(k))
    ahead = probe.point.table(block, some, step, base)
    back = probe.point.table(block, some, -step, base)
    return 10.0 * float(np.abs((ahead + back).mean(axis=1)).max()) / step**2
