"""How strongly a function is curved along each coordinate, from comparisons of three points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpapers.bandits.oracle import ComparisonResult, Point
from mlpapers.bandits.policy import Session

Array = NDArray[np.float64]

# An estimate leads where it is this many typical errors large.
_DECIDED = 3.0
_LARGEST_CHANGE = 20.0
# Of a function that shows no curvature at all.
_DEFAULT = 1.0


def three_points(
    session: Session, x: Point, i: int, n: int, h: float, phase: int
) -> tuple[float, ComparisonResult, ComparisonResult] | None:
    """Compare x + h e_i with x, and x with x - h e_i, n periods each.

    The middle is moved inwards where the cube leaves no room for h.

    Returns
    -------
    middle, up, down : float, ComparisonResult, ComparisonResult, or None at the end of the periods
    """
    upper, middle, lower = x.copy(), x.copy(), x.copy()
    middle[i] = min(max(x[i], h), 1.0 - h)
    upper[i], lower[i] = min(1.0, middle[i] + h), max(0.0, middle[i] - h)
    up = session.compare(upper, middle, n, phase=phase)
    down = session.compare(middle, lower, n, phase=phase)
    return None if up is None or down is None else (float(middle[i]), up, down)


class Curvature:
    r"""Running means of :math:`(f(x) - f(x-h) - (f(x+h) - f(x)))/h^2`, one per coordinate.

    The first estimate comes from queries at step `h` that double until it is three typical errors large. The
    later ones weigh n h^4, the inverse of their variance, and move it by a factor of 20 at most.

    Parameters
    ----------
    session : Session
    x : ndarray of shape (d,)
        Where the first estimate is made.
    h : float
        Its step.
    n : int
        Length of its first query.
    """

    def __init__(self, session: Session, x: Point, h: float, n: int) -> None:
        d = x.size
        self.sums, self.total = np.zeros(d), np.zeros(d)
        self.first = np.full(d, _DEFAULT)
        gam = (session.gamma1 + session.gamma2) / 4.0
        # No coordinate may take more than its part of an eighth of the periods.
        longest = max(n, session.horizon // (16 * d))
        for i in range(d):
            length = n
            while True:
                answers = three_points(session, x, i, length, h, 0)
                if answers is None:
                    break
                _, up, down = answers
                error = math.sqrt(2.0 * gam / length)
                estimate, decided = (down.diff - up.diff) / h**2, down.diff - up.diff > _DECIDED * error
                if decided or 2 * length > longest:
                    # Undecided: what could just be missed.
                    self.first[i] = max(estimate, _DECIDED * error / h**2) or _DEFAULT
                    self.add(i, float(self.first[i]), length * h**4)
                    break
                length *= 2

    @property
    def values(self) -> Array:
        """The estimates, shape (d,); positive."""
        means = np.divide(self.sums, self.total, out=self.first.copy(), where=self.total > 0.0)
        return means.clip(self.first / _LARGEST_CHANGE, self.first * _LARGEST_CHANGE)

    def add(self, i: int, estimate: float, weight: float) -> float:
        """Add an estimate of coordinate i and return the mean."""
        self.sums[i] += weight * estimate
        self.total[i] += weight
        return float(self.values[i])
