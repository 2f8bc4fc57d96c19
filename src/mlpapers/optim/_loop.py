"""The loop of a run: steps, stopping, history, callbacks, checkpoints."""

from __future__ import annotations

import math
import reprlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._archive import read_archive, write_archive
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._fingerprint import check_fingerprint, check_objective
from mlpapers.optim._oracle import BudgetExhaustedError, Oracle
from mlpapers.optim._run import Run
from mlpapers.optim._steps import Step

__all__ = ["HISTORY", "Loop", "OptimizationState", "Stopping"]

Array = NDArray[np.float64]

HISTORY = np.dtype(
    [
        ("iter", "i8"),
        ("n_queries", "i8"),
        ("fun", "f8"),
        ("gap_estimate", "f8"),
        ("V", "f8"),
        ("rho", "f8"),
        ("batch", "i8"),
        ("step", "f8"),
        ("stage", "U12"),
    ]
)


@dataclass(frozen=True)
class OptimizationState:
    """What a callback sees after a step.

    Attributes
    ----------
    x : ndarray of shape (d,)
        A copy of the current point.
    n_iter, n_queries, n_lmo : int
    gap_estimate, gap_estimate_std, error_variance : float
        Of the estimate that the step was made with.
    rho : float
    batch : int
    step : float
    stage : str
    v : ndarray of shape (d,)
        A copy of that estimate, at the point before the step.
    """

    x: Array
    n_iter: int
    n_queries: int
    n_lmo: int
    gap_estimate: float
    gap_estimate_std: float
    error_variance: float
    rho: float
    batch: int
    step: float
    stage: str
    v: Array


@dataclass(frozen=True)
class Stopping:
    """When a run ends."""

    max_iter: int | None
    tol: float | None
    verify: bool
    target_fun: float | None
    callback: Callable[[OptimizationState], Any] | None
    history_every: float
    checkpoint: Path | None
    verbose: int


@dataclass(frozen=True)
class _Snapshot:
    """A checkpoint file."""

    fingerprint: dict[str, str]
    run: dict[str, Any]
    estimator: dict[str, Any]
    step: dict[str, Any]
    loop: dict[str, Any]


class Loop:
    """Runs an estimator and a step rule until something stops them.

    Parameters
    ----------
    run : Run
    estimator : Estimator
    step : Step
    stopping : Stopping
    keep_best : bool
        Return the point of the least estimated gap instead of the last.
    fingerprint : dict of str to str
        What a checkpoint must agree with, by the name of the argument.
    """

    def __init__(
        self,
        run: Run,
        estimator: Estimator,
        step: Step,
        stopping: Stopping,
        *,
        keep_best: bool,
        fingerprint: dict[str, str],
    ) -> None:
        self.run, self.estimator, self.step, self.stopping = run, estimator, step, stopping
        self.keep_best, self.fingerprint = keep_best, fingerprint
        self.history: list[tuple[Any, ...]] = []
        self.seconds: list[float] = []
        self.dearest = 0
        self.below = 0
        self.best_gap = math.inf
        self.best: Array | None = None
        self.gap_std = math.nan
        self.error_variance = math.nan
        self.mark = 0.0
        self.n_checked = 0
        self.spent_before = 0.0
        self.started = time.perf_counter()
        self.status = -1

    @property
    def oracle(self) -> Oracle:
        """The counting oracle."""
        return self.run.oracle

    def execute(self) -> int:
        """Run to the end and return the status."""
        try:
            while self.status < 0:
                self._one()
        except BudgetExhaustedError:
            self.status = 2
        self._record(final=True)
        return self.status

    def result_point(self) -> Array:
        """Return the point to be returned."""
        if self.keep_best and self.best is not None:
            return self.best
        # A stop by tolerance has set the point whose gap was small.
        return self.run.x if self.status == 0 else self.step.point()

    def _one(self) -> None:
        run, stop = self.run, self.stopping
        if stop.max_iter is not None and run.t >= stop.max_iter:
            self.status = 3
            return
        # A step that the budget cuts short is not the step of a longer run: resuming starts before it.
        if stop.checkpoint is not None and self.oracle.remaining < 4 * max(self.dearest, 1):
            self.save(stop.checkpoint)
        before, x, passes = self.oracle.n_queries, run.x, run.n_full_gradients
        n_bad, n_good = self.oracle.n_bad, self.oracle.n_good
        v = self.estimator.estimate()
        if stop.max_iter is None and math.isinf(self.oracle.remaining) and self.oracle.n_queries == before:
            self._check_idle()
        # The estimate is one at this point; the error that it has now is that of the gap at this point.
        self.error_variance = self.estimator.V
        self.step.advance(v)
        span = run.directions.span
        self.gap_std = math.sqrt(max(self.error_variance, 0.0) / span) * run.distance
        if run.t > 0:
            self.dearest = max(self.dearest, self.oracle.n_queries - before)
        run.t += 1
        if run.gap < self.best_gap:
            self.best_gap, self.best = run.gap, x
        # A gap from dropped values is no gap: it ends nothing.
        dropped = self.oracle.n_bad > n_bad
        blind = dropped and self.oracle.n_good == n_good
        self._stop_checks(x, v, passed=run.n_full_gradients > passes and not dropped, blind=blind)
        if run.shrunk and self.status < 0:
            self.status = 2
        if self.status < 0 and self.oracle.n_queries >= self.mark:
            self.mark = max(self.stopping.history_every * self.oracle.n_queries, self.oracle.n_queries + 1.0)
            self._record()
            if stop.checkpoint is not None:
                self.save(stop.checkpoint)

    def _check_idle(self) -> None:
        """Stop a method that asks nothing: without any cap it would never end."""
        raise BudgetExhaustedError

    def _stop_checks(self, x: Array, v: Array, *, passed: bool, blind: bool) -> None:
        run, stop = self.run, self.stopping
        if stop.callback is not None and _is_stop(stop.callback, self._state(v)):
            self.status = 4
            return
        if self.step.is_exploring or blind:
            return
        exact = self.error_variance == 0.0 and passed
        if exact and run.gap == 0.0 and self.oracle.central is False:
            # The estimate is exact and no direction descends: nothing moves any more.
            run.x, self.status = x, 0
            return
        if stop.tol is None:
            return
        spread = 0.0 if math.isnan(self.gap_std) else self.gap_std
        self.below = self.below + 1 if run.gap + 2.0 * spread <= stop.tol else 0
        if self.below >= 2:
            if stop.verify:
                n_bad = self.oracle.n_bad
                g, _ = run.full(run.probe(x), run.n)
                gap = float(g @ (x - run.lmo(g)))
                if gap > stop.tol or self.oracle.n_bad > n_bad:
                    self.below = 0
                    return
                run.gap = max(gap, 0.0)
            # The point whose gap is small is the one before the step.
            run.x, self.status = x, 0

    def _state(self, v: Array) -> OptimizationState:
        run, estimator = self.run, self.estimator
        return OptimizationState(
            x=self.step.point().copy(),
            n_iter=run.t,
            n_queries=self.oracle.n_queries,
            n_lmo=run.n_lmo,
            gap_estimate=run.gap,
            gap_estimate_std=self.gap_std,
            error_variance=self.error_variance,
            rho=estimator.rho,
            batch=estimator.batch,
            step=run.gamma,
            stage=estimator.stage,
            v=v.copy(),
        )

    def _record(self, *, final: bool = False) -> None:
        run, estimator = self.run, self.estimator
        value = math.nan
        if self.stopping.target_fun is not None and not final:
            # Known values of the point cost nothing here, and what is asked is known to the next step.
            value = float(np.mean(run.probe(self.step.point()).base(np.arange(run.n))))
            if value <= self.stopping.target_fun:
                self.status = 1
        if final and self.history and self.history[-1][0] == run.t:
            return
        elapsed = self.spent_before + time.perf_counter() - self.started
        row = (
            run.t,
            self.oracle.n_queries,
            value,
            run.gap,
            self.error_variance,
            estimator.rho,
            estimator.batch,
            run.gamma,
            estimator.stage,
        )
        self.history.append(row)
        self.seconds.append(elapsed)
        if self.stopping.verbose:
            print(
                f"step {run.t}: {self.oracle.n_queries} queries, estimated gap {run.gap:.3g}, "
                f"{estimator.stage}"
            )

    def history_array(self) -> NDArray[Any]:
        """Return the recorded rows."""
        return np.array(self.history, dtype=HISTORY)

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically."""
        loop = {
            "history": [list(row) for row in self.history],
            "seconds": list(self.seconds),
            "dearest": self.dearest,
            "below": self.below,
            "best_gap": self.best_gap,
            "best": self.best,
            "gap_std": self.gap_std,
            "error_variance": self.error_variance,
            "mark": self.mark,
            "spent_before": self.spent_before + time.perf_counter() - self.started,
        }
        snapshot = _Snapshot(
            self.fingerprint, self.run.state(), self.estimator.state(), self.step.state(), loop
        )
        write_archive(snapshot, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; ValueError where it is one of another problem or other settings."""
        snapshot = read_archive(path, _Snapshot)
        check_fingerprint(snapshot.fingerprint, self.fingerprint)
        self.run.restore(snapshot.run)
        self.n_checked = check_objective(self.run)
        self.estimator.restore(snapshot.estimator)
        self.step.restore(snapshot.step)
        loop = dict(snapshot.loop)
        self.history = [tuple(row) for row in loop.pop("history")]
        for name, value in loop.items():
            setattr(self, name, value)


def _is_stop(callback: Callable[[OptimizationState], Any], state: OptimizationState) -> bool:
    """Tell whether the callback returns True or raises StopIteration."""
    try:
        answer = callback(state)
    except StopIteration:
        return True
    if answer is not None and not (np.isscalar(answer) or getattr(answer, "ndim", None) == 0):
        raise TypeError(f"callback must return True, False or None; got {reprlib.repr(answer)}")
    return bool(answer)
