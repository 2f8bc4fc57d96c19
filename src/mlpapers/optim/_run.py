"""What the parts of a run share: settings, random streams, the current point, counters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._directions import Directions
from mlpapers.optim._oracle import Oracle, Probe, all_finite
from mlpapers.optim._points import Point, all_rows
from mlpapers.optim.constraints._base import ConstraintSet

__all__ = ["Run", "Settings"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """Checked arguments of a run; names are those of ``minimize_fw_zo``."""

    method: str = "dvr"
    schedule: str = "adaptive"
    step: float | str = "open-loop"
    step_offset: float = 2.0
    E: float = 1.0
    constant_rate: bool = False
    memory: str = "project"
    batch_size: int | None = None
    n_directions: int | None = None
    refresh_prob: float | None = None
    refresh: str = "fractional"
    warmup: str = "growing"
    m0: int = 16
    init: str = "sample"
    directions: str = "coordinate"
    directions_per_sample: int = 1
    max_iter: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def option(self, name: str, default: Any) -> Any:
        """Return a fine setting."""
        return self.options.get(name, default)


class Move(NamedTuple):
    """A step x = (1 - gamma) before + gamma s."""

    x: Array
    before: Array
    gamma: float
    s: Array


class Run:
    """State that estimators and steps share.

    Attributes
    ----------
    x : ndarray of shape (d,)
        The point at which the gradient is estimated next.
    t : int
        Steps made.
    gamma, distance : float
        Size of the last step, and |x - s| in it.
    dx : ndarray or None
        The last change of `x`.
    move : Move or None
        How a step towards an extreme point led to its `x`.
    last_rows : ndarray of int
        Functions of the last estimate in all directions.
    """

    def __init__(
        self,
        oracle: Oracle,
        constraint: ConstraintSet,
        settings: Settings,
        x: Array,
        seed: np.random.SeedSequence,
        basis: Array | None,
    ) -> None:
        self.oracle, self.constraint, self.settings = oracle, constraint, settings
        self.d, self.n = oracle.d, oracle.n
        self.D = constraint.diameter(self.d)
        # Functions, directions and coins have streams of their own: the functions drawn do not depend on d.
        streams = [np.random.default_rng(child) for child in seed.spawn(3)]
        self.functions, self.frame_rng, self.coins = streams
        self.directions = Directions(settings.directions, self.d, self.frame_rng, basis)
        self.x = x
        self.t = 0
        self.n_lmo = 0
        self.n_full_gradients = 0
        self.gamma = math.nan
        self.distance = self.D
        self.dx: Array | None = None
        self.move: Move | None = None
        self.gap = math.nan
        self.first_gap = math.nan
        self.shrunk = False
        self.last_rows = np.zeros(0, dtype=np.int64)
        self._probes: list[Probe] = []

    @property
    def row_cost(self) -> int:
        """Queries of all directions on one function."""
        span = self.directions.span
        return 2 * span if self.oracle.central else span + 1

    def probe(self, x: Array) -> Probe:
        """Return the functions around x; the last two points are remembered with their values."""
        for probe in self._probes:
            if probe.x is x:
                return probe
        probe = self.oracle.at(x, self._parts(x))
        # The current point stands first: a probe of the one before must not push it out.
        self._probes = [probe, *self._probes[:1]] if x is self.x else [*self._probes[:1], probe]
        return probe

    def _parts(self, x: Array) -> list[tuple[float, Point]]:
        """Return the last point and the extreme point of which `x` is the mixture, where it is one."""
        move = self.move
        if move is None or move.x is not x:
            return []
        for probe in self._probes:
            if probe.x is move.before:
                return [(1.0 - move.gamma, probe.point), (move.gamma, self.oracle.point(move.s))]
        return []

    def lmo(self, g: Array) -> Array:
        """Return an extreme point that minimises <g, s>, counted."""
        self.n_lmo += 1
        return self.constraint._vertex(g)

    def open_loop(self, t: int) -> float:
        """Return the step size of step t where it depends on nothing else."""
        step, cap = self.settings.step, self.settings.max_iter
        if isinstance(step, float):
            return step
        if step == "constant":
            assert cap is not None
            return 1.0 / math.sqrt(cap)
        return min(1.0, 2.0 / (t + self.settings.step_offset))

    def draw_functions(self, m: int) -> Ints:
        """Return `m` functions drawn with replacement."""
        return self.functions.integers(0, self.n, size=m)

    def subsample(self, m: int) -> Ints:
        """Return `m` different functions in increasing order; all of them for m >= n."""
        if m >= self.n:
            return all_rows(self.n)
        return np.sort(self.functions.choice(self.n, size=m, replace=False))

    def full(self, probe: Probe, m: int) -> tuple[Array, float]:
        """Return differences in all directions, averaged over m functions, and one function's variance."""
        rows = self.last_rows = self.subsample(m)
        block = self.directions.everything()
        mean, square = probe.means(block, rows)
        if not all_finite(square):
            raise FloatingPointError(
                "squares of the objective's differences must be finite, and overflow: divide fun by a "
                f"constant; the largest difference is {np.abs(mean).max():.3g} per unit of x"
            )
        v = np.zeros(self.d)
        block.add(v, mean)
        k = len(rows)
        variance = float((square - mean * mean).sum()) * k / (k - 1) if k > 1 else math.nan
        self.n_full_gradients += k == self.n
        return v, max(variance, 0.0)

    def held(self, x: Array | None) -> int | None:
        """Return which remembered point is this very array; what is only equal to one is asked anew."""
        return next((j for j, probe in enumerate(self._probes) if probe.x is x), None)

    def same(self, x: Array, j: int | None) -> Array:
        """Return the remembered point j in the place of its copy `x`, or `x` where there is none."""
        return self._probes[j].x if j is not None and j < len(self._probes) else x

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        move = None if self.move is None or self.move.x is not self.x else self.move
        return {
            "x": self.x,
            "held": self.held(self.x),
            "t": self.t,
            "n_lmo": self.n_lmo,
            "n_full_gradients": self.n_full_gradients,
            "gamma": self.gamma,
            "distance": self.distance,
            "dx": self.dx,
            "move": None if move is None else [*move[1:], self.held(move.before)],
            "gap": self.gap,
            "first_gap": self.first_gap,
            "streams": [s.bit_generator.state for s in (self.functions, self.frame_rng, self.coins)],
            "sweep": self.directions.state(),
            "probes": [probe.state() for probe in self._probes],
            "n_queries": self.oracle.n_queries,
            "n_bad": self.oracle.n_bad,
            "n_good": self.oracle.n_good,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name in ("t", "n_lmo", "n_full_gradients", "gamma", "distance", "gap", "first_gap"):
            setattr(self, name, state[name])
        self.dx = None if state["dx"] is None else np.asarray(state["dx"])
        for stream, saved in zip((self.functions, self.frame_rng, self.coins), state["streams"]):
            stream.bit_generator.state = saved
        self.directions.restore(state["sweep"])
        self._probes = [Probe.restored(self.oracle, saved) for saved in state["probes"]]
        self.x = self.same(np.asarray(state["x"], dtype=np.float64), state.get("held"))
        self.move = None if state["move"] is None else self._restored_move(*state["move"])
        self.oracle.n_queries, self.oracle.n_bad = state["n_queries"], state["n_bad"]
        self.oracle.n_good = state["n_good"]

    def _restored_move(self, before: Array, gamma: float, s: Array, j: int | None = None) -> Move:
        return Move(self.x, self.same(before, j), gamma, np.asarray(s, dtype=np.float64))
