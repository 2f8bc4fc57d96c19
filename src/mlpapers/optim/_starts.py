"""Other starts for functions that are not convex: a test of chords, cheap trials, the best goes on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._run import Run
from mlpapers.optim._state import Stateful

__all__ = ["Starts"]

Array = NDArray[np.float64]

_CHORDS = 4
# Functions on which chords are judged, and standard errors by which their middle must be too high.
_FEWEST, _MOST = 8, 128
_CERTAIN = 4.0
# Trials from random points before the first descent goes on.
_FIRST = 5
# Queries of a trial, and of a descent between trials, in passes of n d; steps of a trial.
_SLICE, _STEPS = 0.25, 20
# How far a later trial begins from the best point, and how far its first step goes: 2/4 of the way.
_APART, _OFFSET = 0.4, 4.0
# Trials in vain after which the share of trials has fallen from 1/2 to 1/3.
_PATIENCE = 8.0
# Share of what was gained since the given start by which a descent may be above the best point.
_CLIMB = 0.1


class Starts(Stateful):
    """Tries other points of C where a chord proves that f is not convex.

    Convex functions obey f((a + b)/2) <= (f(a) + f(b))/2. Chords between random extreme points, and from the
    given start to such points, are held against this on a sample of functions, later again whenever the
    queries have doubled. Where one breaks it, descents are interrupted by trials: a few Frank-Wolfe steps
    along the mean of small samples' gradients, whose noise and size pass over small valleys. The first begin
    at random points, the later ones between the best point and a random one. A later trial is followed by a
    slice of descent before it is judged, unless it is farther off than such a slice has ever gained.

    Attributes
    ----------
    is_open : bool
        Whether f was found not to be convex.
    phase : {"descent", "trial", "probation"}
        Whether the run's point is the best one's descent, in a trial, or in the descent from a trial.
    is_beaten : bool
        Whether one of the first trials was better than the descent from the given start.
    least, winner : float, ndarray or None
        The best value known when the last trial began or won, and its point.
    first : float
        The value where f was found not to be convex.
    has_climbed : bool
        Whether the descent is so far above the best point that it is not worth going on with.
    mean : ndarray of shape (d,)
        The mean of a trial's gradients.
    """

    kept: tuple[str, ...] = (
        "is_open",
        "phase",
        "least",
        "winner",
        "mean",
        "is_beaten",
        "tried",
        "failed",
        "spent",
        "began",
        "k",
        "raw",
        "margin",
        "next_look",
        "first",
        "has_climbed",
    )

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_open = False
        self.phase = "descent"
        self.least = np.inf
        self.winner: Array | None = None
        self.mean: Array = np.zeros(run.d)
        self.is_beaten = False
        self.tried = self.failed = self.spent = self.began = self.k = 0
        self.raw, self.margin = 0.0, np.inf
        self.next_look = 0.0
        self.first = np.inf
        self.has_climbed = False

    @property
    def is_trying(self) -> bool:
        """Whether the run's point is on trial."""
        return self.phase != "descent"

    @property
    def sample(self) -> int:
        """Functions of a trial's step."""
        return max(1, int(self._allowance() // (_STEPS * self.run.row_cost)))

    def look(self, x: Array) -> None:
        """Test convexity along chords from `x` and others, if it is time for it."""
        run = self.run
        if self.is_open or run.oracle.n_queries < self.next_look:
            return
        # A twentieth of a pass, where that is a sample at all.
        m = min(run.n, max(_FEWEST, min(_MOST, run.n * run.d // (60 * _CHORDS))))
        if 3 * _CHORDS * m > run.oracle.remaining:
            run.shrunk = True
            return
        self.next_look = max(2.0 * run.oracle.n_queries, 2.0 * run.n * run.d)
        if self._is_bent(x, m):
            self.is_open = True
            self.first = self.least = self._value(x)
            self.winner = x

    def is_due(self) -> bool:
        """Tell whether a slice of descent is over, and trials have had less than their share."""
        run = self.run
        since = run.oracle.n_queries - self.began
        # Later slices of descent are longer: to leave one and come back costs values.
        least = self._allowance() if self.is_trying else max(self._allowance(), 0.05 * run.oracle.n_queries)
        if not self.is_open or since < least:
            return False
        share = 1.0 / (2.0 + self.failed / _PATIENCE)
        return self.phase == "probation" or self.tried < _FIRST or self.spent < share * run.oracle.n_queries

    def begin(self, u: Array) -> Array:
        """Compare `u`, where the descent is, with the best point; return where a trial begins."""
        value = self._value(u)
        self.has_climbed = value > self.least + _CLIMB * (self.first - self.least)
        if value <= self.least:
            self.least, self.winner = value, u
        return self._draw()

    def step(self, v: Array) -> float:
        """Take a gradient into the mean; return the size of the step along it."""
        self.mean = self.mean + (v - self.mean) / (self.k + 1.0)
        self.k += 1
        return 2.0 / (self.k - 1.0 + (2.0 if self.tried < _FIRST else _OFFSET))

    def arrive(self, x: Array) -> Array | None:
        """After a trial's step to `x`, return where to go on; `phase` says as what.

        None means that the best point's descent goes on from where it was.
        """
        run = self.run
        if run.oracle.n_queries - self.began < self._allowance() and self.k < _STEPS:
            return x
        self.raw = self._value(x)
        self.spent += run.oracle.n_queries - self.began
        self.tried += 1
        if self.tried <= _FIRST:
            if self.raw < self.least:
                self.least, self.winner, self.is_beaten = self.raw, x, True
            if self.tried < _FIRST:
                return self._draw()
            self._settle()
            return self.winner if self.is_beaten else None
        self.began = run.oracle.n_queries
        if self.raw < self.least + self.margin:
            self.phase = "probation"
            return x
        self.failed += 1
        self._settle()
        return None

    def judge(self, u: Array) -> bool:
        """After the slice of descent that follows a trial: tell whether `u` is the best point now."""
        value = self._value(u)
        gain = max(self.raw - value, 0.0)
        self.margin = gain if np.isinf(self.margin) else max(gain, 0.9 * self.margin)
        self.spent += self.run.oracle.n_queries - self.began
        won = value < self.least
        if won:
            self.least, self.winner = value, u
        self.failed = 0 if won else self.failed + 1
        self._settle()
        return won

    def best(self, u: Array) -> Array:
        """Return the best point known, `u` where none is on trial."""
        return self.winner if self.is_trying and self.winner is not None else u

    def _settle(self) -> None:
        self.phase, self.began = "descent", self.run.oracle.n_queries

    def _draw(self) -> Array:
        run = self.run
        self.phase, self.k, self.began = "trial", 0, run.oracle.n_queries
        self.mean = np.zeros(run.d)
        other = run.constraint.sample(run.coins, run.d)
        if self.tried < _FIRST:
            return other.copy()
        assert self.winner is not None
        return (1.0 - _APART) * self.winner + _APART * other

    def _value(self, x: Array) -> float:
        return float(np.mean(self.run.oracle.at(x).base(np.arange(self.run.n))))

    def _allowance(self) -> float:
        # The values of all functions at its end should not be what a slice costs most.
        return max(_SLICE * self.run.n * self.run.d, 8.0 * self.run.row_cost, 4.0 * self.run.n)

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
