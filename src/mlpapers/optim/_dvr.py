"""Double variance reduction: increments against sampling noise, a memory against that of directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._directions import Block
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._increment import Increment
from mlpapers.optim._ledger import ErrorLedger
from mlpapers.optim._oracle import Probe, all_finite
from mlpapers.optim._run import Run

__all__ = ["AdaptiveDVR", "FixedDVR"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Below this share of the largest curvature seen, an estimate is noise or negative curvature.
_LEAST_CURVATURE = 0.05
_LEAST_DISTANCE = 0.05
_TINY = float(np.finfo(float).tiny)


def refresh_memory(
    run: Run, probe: Probe, v: Array, l: int, m: int, memory: str
) -> tuple[Array, Array, Block | None]:
    """Ask l directions of m functions; return the memory, the estimate for the LMO, and the directions asked.

    Where the budget does not reach for l directions they are fewer, and None where it reaches for none.

    "project" replaces the components; "average" moves towards them; "unbiased" adds the whole innovation to
    what the LMO sees while the memory is averaged.
    """
    per_direction = m * (2 if run.oracle.central else 1)
    rows = run.subsample(m)
    fixed = 0 if run.oracle.central else probe.unknown(rows)
    if fixed + l * per_direction > run.oracle.remaining:
        l, run.shrunk = int((run.oracle.remaining - fixed) // per_direction), True
        if l < 1:
            return v, v, None
    block = run.directions.refresh(l)
    delta, _ = probe.means(block, rows)
    v, innovation = v.copy(), delta - block.dots(v)
    if memory == "project":
        if run.directions.is_random:
            U = block.U  # type: ignore[attr-defined]
            innovation = np.linalg.pinv(U @ U.T) @ innovation
        block.add(v, innovation)
        return v, v, block
    # The factor of least expected error: a frame's directions are orthogonal, random ones only on average.
    damping = {"gaussian": run.d + 1.0 + l, "sphere": (run.d + l - 1.0) / run.d}.get(run.directions.kind, 1.0)
    seen = v.copy()
    # E[u u'] is I for Gaussian and I/d for unit directions.
    block.add(seen, innovation * (run.directions.scale / l))
    block.add(v, innovation / damping)
    return v, (seen if memory == "unbiased" else v), block


class FixedDVR(Estimator):
    r"""The scheduled form: rho_t = max(2/(E sqrt n), min(1, 2/(t+1))), b_t = d/(rho_t E^2).

    .. math:: E|v_t - \nabla f(x_t)|^2
              \le (1 - \rho)\bigl[E|v_{t-1} - \nabla f(x_{t-1})|^2 + d \Delta_t^2/b\bigr]
    """

    kept = (*Estimator.kept, "credit")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.credit = 0.0

    @property
    def least_cost(self) -> int:
        return self.start_cost() or self.run.oracle.cost

    def estimate(self) -> Array:
        run, s = self.run, self.run.settings
        if self.x_old is None:
            self.x_old = run.x
            self.rho, self.stage = 1.0, "start"
            return self.start()
        rho, b, l = self._plan()
        whole = rho >= 1.0 and s.memory == "project" and not run.directions.is_random
        if not whole:
            increment = Increment(run, self.x_old, b)
            self.v = self.v + increment.change
            self.batch = increment.size
        v = self.v
        count = self._refreshes(rho, l)
        if count:
            m = self._functions()
            self.v, v, asked = refresh_memory(run, run.probe(run.x), self.v, count, m, s.memory)
            count = 0 if asked is None else len(asked)
            run.n_full_gradients += m == run.n and count == run.directions.span
        self.rho, self.stage = rho, "refresh" if count else "increment"
        self.x_old = run.x
        return v

    def _plan(self) -> tuple[float, int, int]:
        """Return rho, pairs and directions of this step."""
        run, s = self.run, self.run.settings
        span = run.directions.span
        base = min(1.0, 2.0 / (s.E * math.sqrt(run.n)))
        rho = base if s.constant_rate else max(base, min(1.0, 2.0 / (run.t + 1.0)))
        if s.refresh_prob is not None:
            l = s.n_directions or max(1, math.ceil(base * span))
            rho = s.refresh_prob * l / span
        else:
            l = s.n_directions or max(1, math.ceil(rho * span))
        b = s.batch_size or max(1, math.ceil(span / (rho * s.E**2)))
        return rho, b, l

    def _refreshes(self, rho: float, l: int) -> int:
        """Return how many directions are asked in this step."""
        run = self.run
        if run.settings.refresh == "bernoulli":
            return l if run.coins.random() < rho * run.directions.span / l else 0
        self.credit += rho * run.directions.span
        # Sums of shares such as 1/sqrt(n) fall short of a whole number by rounding.
        count = min(math.floor(self.credit + 1e-9), run.directions.span)
        self.credit = min(self.credit - count, float(run.directions.span))
        return count

    def _functions(self) -> int:
        run, s = self.run, self.run.settings
        if s.warmup == "none":
            return run.n
        return min(run.n, math.ceil(s.m0 * (run.t + 1.0) ** 2))


class AdaptiveDVR(Estimator):
    """The variance ledger: V, sigma2, delta2 and Cf from queries already made decide what is asked next.

    The accuracy asked for is that at which the estimate's error in <v, x - s> stays below about a third of
    the curvature term gamma Cf, which the step pays anyway. It is never derived from the estimated gap, which
    noise inflates.
    """

    kept = (*Estimator.kept, "sigma2", "delta2", "Cf", "Cf_top", "credit")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.sigma2 = 0.0
        self.delta2 = math.nan
        self.Cf = math.nan
        self.Cf_top = 0.0
        self.credit = 0.0
        self.ledger = ErrorLedger(run.directions.span)

    @property
    def least_cost(self) -> int:
        return self.start_cost() or self.run.oracle.cost

    def estimate(self) -> Array:
        run = self.run
        if self.x_old is None:
            self._start()
        else:
            self._next()
        self.V = self.ledger.total
        self.x_old = run.x
        return self.v

    def _start(self) -> None:
        run = self.run
        if run.settings.init == "zero":
            self.start()
            self.ledger.reset(math.inf)
            self.V, self.stage = math.inf, "start"
            return
        m = run.n if run.settings.init == "full" else min(run.n, run.settings.m0)
        self._fresh(m)
        self.stage = "start"

    def _target(self) -> float:
        """Return eta2, the mean squared error to aim at."""
        run, s = self.run, self.run.settings
        # Before anything is known of the curvature, the gap at the starting point bounds it.
        Cf = self.Cf if not math.isnan(self.Cf) else max(run.first_gap, 0.0)
        Cf = max(Cf, _LEAST_CURVATURE * self.Cf_top)
        distance = max(run.distance, _LEAST_DISTANCE * run.D, _TINY)
        c, kappa = s.option("c", 0.7), s.option("kappa", 2.0)
        accuracy = run.directions.span * (c * self.gamma() * Cf / (kappa * distance)) ** 2
        return max(accuracy, 2e-6 * self.sigma2 / run.n, _TINY)

    def _next(self) -> None:
        run, s, span = self.run, self.run.settings, self.run.directions.span
        eta2 = self._target()
        wanted = 2.0 * self.sigma2 / eta2
        move = run.gamma**2
        if math.isnan(self.delta2):
            # Paired differences say what two separate estimates cannot: how the gradient changed.
            rho, b = 0.5, span * max(1, min(run.n // 4, s.m0 // 2))
        else:
            change = self.delta2 * move
            rho = math.sqrt(2.0 * change / (eta2 * max(min(run.n, wanted), 1.0)))
            rho = min(max(rho, 1e-3), 1.0)
            if eta2 < self.V:
                rho = max(rho, 1.0 - eta2 / self.V)
            b = max(span, math.ceil(min(span * change / (2.0 * rho * eta2), 4.0 * run.n * span)))
        self.rho = rho
        if rho > 0.6 or (4 * b > run.n * span and not math.isnan(self.delta2)):
            # m functions without replacement leave sigma2 (1/m - 1/n); all of them serve for much longer.
            m = run.n if wanted >= run.n else math.ceil(wanted / (1.0 + wanted / run.n))
            self._fresh(max(1, m))
            return
        if wanted < run.n:
            b = max(b, math.ceil(rho * span * self.sigma2 / eta2))
        increment = Increment(run, self.x_old, b, self.v)  # type: ignore[arg-type]
        self.batch = increment.size
        self.ledger.grow(increment.spread * span / max(increment.size, 1))
        if move > 0.0:
            self.delta2 = self._mix(self.delta2, increment.spread / move, 0.3)
        self.v = self.v + increment.change
        self._learn_curvature(increment.rows)
        if wanted < run.n:
            self._filter(increment)
        else:
            self._refresh(rho)

    def _fresh(self, m: int) -> None:
        """Estimate all directions anew on m functions."""
        run = self.run
        m = self.affordable(m)
        self.v, variance = run.full(run.probe(run.x), m)
        if not math.isnan(variance):
            self.sigma2 = variance
        self.ledger.reset(self.sigma2 * max(1.0 / m - 1.0 / run.n, 0.0))
        self.rho, self.batch, self.stage = 1.0, m, "fresh"

    def _filter(self, increment: Increment) -> None:
        """Mix in the gradient that the same pairs estimate, with the Kalman gain."""
        span = self.run.directions.span
        self.sigma2 = 0.8 * self.sigma2 + 0.2 * increment.variance
        k = self.ledger.mix(span * self.sigma2 / max(increment.size, 1))
        self.v = self.v + k * (increment.here - self.v)
        self.stage = "stochastic"

    def _refresh(self, rho: float) -> None:
        """Replace some components by exact ones; what they were off by recalibrates V."""
        run, span = self.run, self.run.directions.span
        self.credit += rho * span
        count = min(math.floor(self.credit), span)
        self.stage = "finite-sum"
        if not count:
            return
        self.credit -= count
        old = self.v
        self.v, _, asked = refresh_memory(run, run.probe(run.x), old, count, run.n, "project")
        if asked is not None:
            self.ledger.refresh(asked, float(np.sum((self.v - old) ** 2)))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {**super().state(), "errors": self.ledger.errors}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        self.ledger.errors = np.asarray(state["errors"])

    def _learn_curvature(self, rows: Ints) -> None:
        r"""Take in the curvature of the drawn functions along the last move, from the middle of the move.

        .. math:: \frac{4}{\gamma^2} \mathrm{mean}_i
                  \bigl|f_i(x_t) + f_i(x_{t-1}) - 2 f_i(\tfrac{x_t + x_{t-1}}{2})\bigr|

        One query a function, since both ends are known; <change, dx> would have the noise of d coordinates in
        it, of which the move may have one. Of a sum that is not convex, curvatures of both signs must not
        cancel: an accuracy aimed at by what is left would be out of reach.
        """
        run = self.run
        if run.dx is None or self.x_old is None or not run.gamma > 0.0:
            return
        ends = [run.probe(run.x), run.probe(self.x_old)]
        remaining = run.oracle.remaining
        if 3 * len(rows) > remaining and sum(end.unknown(rows) for end in ends) + len(rows) > remaining:
            run.shrunk = True
            return
        middle = ends[0].middle(ends[1], rows)
        bend = ends[0].base(rows) + ends[1].base(rows) - 2.0 * middle
        if not all_finite(bend):
            bend = bend[np.isfinite(bend)]
        if not bend.size:
            return
        curvature = 4.0 * (float(np.abs(bend).sum()) / len(bend)) / run.gamma**2
        self.Cf = self._mix(self.Cf, curvature, 0.1)
        self.Cf_top = max(self.Cf_top, curvature)

    @staticmethod
    def _mix(old: float, new: float, share: float) -> float:
        return new if math.isnan(old) else (1.0 - share) * old + share * new
