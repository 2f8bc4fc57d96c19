"""Interior points that look at few samples: first at a random part, then at those near its boundary."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlpapers.fairness._interior import Directions, InteriorPoint, interior_point, signed_directions

__all__ = ["Program", "approach"]

Array = NDArray[np.float64]
# A part of the samples this large tells where the boundary is; smaller programs are solved as they are.
_PART = 0.1
_MIN_PART = 2500
_PER_ROW = 600
_ROUGH = 1e-3
# A window's interior point may stop short of its tolerance, at the precision of its sums. Whether it
# decides the other samples rightly is looked at, and the crossover makes it exact.
_USABLE = 1e-3
# The share of the samples (and their number at least) that counts as near the boundary.
_WINDOW = 0.2
_NARROW = 0.05
_MIN_WINDOW = 2000
_MAX_WINDOWS = 2
# What the crossover can be left to decide: this share of the samples.
_FEW = 1e-4
# From a part of this many samples on, its boundary is so close that a window needs a smaller share.
_ACCURATE = 5000


class Program(NamedTuple):
    """Maximise scale * score . f subject to (scale * rows)^T f + C u <= b and 0 <= f <= 1."""

    score: Array  # (n,)
    scale: Array  # (n,), of mean about 1
    rows: Array  # (n, Kc)
    b: Array  # (Kc,)
    C: Array  # (Kc, p)

    def take(self, chosen: NDArray[np.int64], b: Array) -> Program:
        """Return the program of some samples with other bounds."""
        return Program(self.score[chosen], self.scale[chosen], self.rows[chosen], b, self.C)

    def solve(self, tol: float, max_iter: int) -> InteriorPoint:
        """Return the interior point's solution over all samples."""
        directions: Directions = signed_directions(self.rows)
        directions.Z[:] *= self.scale
        return interior_point(self.scale * self.score, directions, self.b, self.C, tol=tol, max_iter=max_iter)


def approach(program: Program, start: Array | None, *, tol: float, max_iter: int) -> InteriorPoint:
    """Return multipliers close to optimal and an interior f.

    Without a start, the multipliers of a random part of the samples are one. Most samples are far from its
    boundary: they are decided by it, and the interior point runs over the others. If the multipliers so found
    decide more than a few of them otherwise, there is another window and, in the end, all samples.

    Parameters
    ----------
    program : Program
    start : ndarray of shape (Kc,), optional
        Multipliers of a neighbouring problem.
    tol : float
    max_iter : int
        Iterations at most, for each window.
    """
    n, n_iter, lam = len(program.score), 0, start
    share = _WINDOW
    if lam is None and _PART * n >= _MIN_PART:
        # Fixed draws: the answer is exact whichever part is looked at first.
        size = max(int(_PART * n), min(n // 5, _PER_ROW * len(program.b)))
        chosen = np.sort(np.random.default_rng(n).choice(n, size=size, replace=False))
        weight = float(program.scale[chosen].sum()) / n
        part = approach(
            program.take(chosen, program.b * weight), None, tol=max(tol, _ROUGH), max_iter=max_iter
        )
        n_iter += part.n_iter
        lam = part.multipliers if part.error <= _ROUGH else None
        # The multipliers of a part are off by the inverse root of its size.
        share *= min(1.0, float(np.sqrt(_ACCURATE / size)))
    for _ in range(_MAX_WINDOWS):
        width = max(_MIN_WINDOW, int(share * n))
        if lam is None or n <= width:
            break
        reduced = program.score - program.rows @ lam
        inside = np.zeros(n, dtype=bool)
        inside[np.argpartition(np.abs(reduced), width - 1)[:width]] = True
        f = (reduced > 0).astype(np.float64)
        decided = (program.scale * f * ~inside) @ program.rows
        point = program.take(np.flatnonzero(inside), program.b - decided).solve(tol, max_iter)
        n_iter += point.n_iter
        if not point.error <= _USABLE:
            break
        lam = point.multipliers
        now = program.score - program.rows @ lam > 0
        wrong = float(np.mean((now != (f > 0.5)) & ~inside))
        if wrong <= _FEW:
            f = np.where(now, 1.0, 0.0)
            f[inside] = point.f
            return point._replace(f=f, n_iter=n_iter)
        # The new multipliers are wrong about these few only: the next window is narrower.
        share = min(_WINDOW, max(_NARROW, 4.0 * wrong))
    point = program.solve(tol, max_iter)
    return point._replace(n_iter=n_iter + point.n_iter)
