"""Other starts for functions that are not convex: a test of chords, short runs, the best goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._run import Run

__all__ = ["Starts"]

Array = NDArray[np.float64]

_CHORDS = 4
_STARTS = 3
# Functions on which chords are judged, and standard errors by which their middle must be too high.
_FEWEST, _MOST = 8, 32
_CERTAIN = 4.0


class Starts:
    """Tries other points of C, a quarter of a pass each, where a chord proves that f is not convex.

    Convex functions obey f((a + b)/2) <= (f(a) + f(b))/2. Chords between random extreme points, and from the
    given start to such points, are held against this on a sample of functions. Where one breaks it, the run
    from the given start and those from a few random points of C get a quarter of n d queries each, and the
    one of least f goes on.

    Attributes
    ----------
    is_open : bool
        Whether starts are still being tried.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_open = False
        self.left: Array = np.zeros((0, run.d))
        self.began = 0
        self.least = np.inf
        self.winner: Array | None = None

    def look(self, x: Array) -> None:
        """Test convexity along chords from `x` and others; where it fails, draw the starts."""
        run = self.run
        # A twentieth of a pass, where that is a sample at all.
        m = min(run.n, max(_FEWEST, min(_MOST, run.n * run.d // (60 * _CHORDS))))
        if 3 * _CHORDS * m > run.oracle.remaining:
            run.shrunk = True
            return
        if not self._is_bent(x, m):
            return
        self.left = np.stack([run.constraint.sample(run.coins, run.d) for _ in range(_STARTS)])
        self.is_open, self.began = True, 0

    def next(self, u: Array) -> Array | None:
        """Return the point from which to go on, or None for where the run is."""
        run = self.run
        if not self.is_open or run.oracle.n_queries - self.began < self._allowance():
            return None
        value = float(np.mean(run.oracle.at(u).base(np.arange(run.n))))
        if value < self.least:
            self.least, self.winner = value, u
        self.began = run.oracle.n_queries
        if len(self.left):
            chosen, self.left = self.left[0].copy(), self.left[1:]
            return chosen
        self.is_open = False
        assert self.winner is not None
        chosen, self.winner = self.winner, None
        return chosen

    def best(self, u: Array) -> Array:
        """Return the best point known, `u` where nothing else was tried."""
        return u if self.winner is None else self.winner

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        names = ("is_open", "left", "began", "least", "winner")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name, value in state.items():
            setattr(self, name, value)

    def _allowance(self) -> float:
        run = self.run
        return max(0.25 * run.n * run.d, 8.0 * (run.directions.span + 1))

    def _is_bent(self, x: Array, m: int) -> bool:
        """Tell whether the middle of some chord lies above it beyond doubt."""
        run = self.run
        rows = run.subsample(m)
        corners = run.constraint._lmo(run.coins.normal(size=(2 * _CHORDS, run.d)))
        # Half of the chords begin at the given point: where f is flat far away, its valley shows in them.
        corners[: len(corners) // 2 : 2] = x
        for a, b in zip(corners[::2], corners[1::2]):
            ends = [run.oracle.at(point).base(rows) for point in (a, b)]
            middle = run.oracle.at(0.5 * (a + b)).base(rows)
            excess = middle - 0.5 * (ends[0] + ends[1])
            scale = float(np.abs([*ends, middle]).max())
            spread = float(np.std(excess, ddof=1)) if m > 1 else 0.0
            doubt = spread * np.sqrt(max(1.0 / m - 1.0 / run.n, 0.0))
            if float(np.mean(excess)) > _CERTAIN * doubt + 1e-6 * scale:
                return True
        return False
