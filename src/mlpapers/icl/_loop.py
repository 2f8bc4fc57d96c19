"""The loop itself: fit to labels and soft labels, predict soft labels, repeat."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context

from mlpapers.icl._soft import SoftModel, fit_hard, fit_soft

__all__ = ["LoopSettings", "LoopTrace", "run_loops"]

Array = NDArray[np.float64]

_BALANCE_SWEEPS = 20


@dataclass(frozen=True)
class LoopSettings:
    """Checked parameters of :class:`LoopedClassifier` that the loop needs."""

    way: str
    n_loops: int
    pool_step: int | None
    damping: float
    label_noise: float
    tol: float
    balance: str | None
    verbose: int


@dataclass
class LoopTrace:
    """What every loop left: the model, the distributions of the unlabelled rows, their risk."""

    models: list[SoftModel] = field(default_factory=list)
    distributions: list[Array] = field(default_factory=list)
    risks: list[float] = field(default_factory=list)

    @property
    def calmest(self) -> int:
        """The loop with the smallest risk, the first of equals."""
        return int(np.argmin(self.risks))


def run_loops(
    estimator: Any,
    X: Array,
    codes: NDArray[np.int64],
    X_unlabeled: Array,
    classes: NDArray[Any],
    settings: LoopSettings,
    rng: np.random.Generator,
) -> LoopTrace:
    """Fit loop 0 to the labelled rows (X, codes) and loop over the unlabelled ones.

    True labels are never overwritten. The loop ends early where no pseudo-label moves by more than `tol`.

    Raises
    ------
    ValueError
        Where the estimator predicts something that is not finite.
    """
    C, n_unlabeled = len(classes), len(X_unlabeled)
    given = np.eye(C)[codes]
    shares = given.mean(axis=0)
    trace = LoopTrace()

    def record(model: SoftModel, last: Array | None) -> Array:
        P = model.predict_proba(X_unlabeled)
        if not np.isfinite(P).all():
            raise ValueError(
                f"estimator {type(estimator).__name__} predicts probabilities that are not finite in loop "
                f"{len(trace.risks)}"
            )
        if settings.balance == "prior":
            P = balanced(P, shares)
        if last is not None and settings.damping:
            P = (1.0 - settings.damping) * P + settings.damping * last
        trace.models.append(model)
        trace.distributions.append(P)
        # Column by column: along rows of a few classes a maximum takes several times as long.
        largest = functools.reduce(np.maximum, P.T)
        trace.risks.append(float(2.0 * (1.0 - largest).mean()))
        if settings.verbose:
            print(f"loop {len(trace.risks) - 1}: risk {trace.risks[-1]:.5f}")
        return P

    P = record(fit_hard(estimator, X, codes, classes, settings.way), None)
    order = rng.permutation(n_unlabeled) if settings.pool_step else None
    # Loop 0 showed all rows and parameters to the estimator's own checks, a tenth of a fit of naive Bayes.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for loop in range(1, settings.n_loops + 1):
            size = min(n_unlabeled, settings.pool_step * loop) if settings.pool_step else n_unlabeled
            pool = slice(None) if order is None else order[:size]
            soft = noisy(P[pool], settings.label_noise, rng)
            model = fit_soft(
                estimator,
                np.concatenate([X, X_unlabeled[pool]]),
                np.concatenate([given, soft]),
                classes,
                settings.way,
            )
            last, P = P, record(model, P)
            if size == n_unlabeled and np.abs(P - last).max() < settings.tol:
                break
    return trace


def balanced(P: Array, shares: Array) -> Array:
    """Return distributions whose mean over rows is `shares`: classes and rows are rescaled in turn."""
    for _ in range(_BALANCE_SWEEPS):
        P = P * (shares / np.maximum(P.mean(axis=0), 1e-12))
        P = P / P.sum(axis=1, keepdims=True)
    return P


def noisy(P: Array, scale: float, rng: np.random.Generator) -> Array:
    """Return distributions with normal noise of standard deviation `scale` on 2P - 1."""
    if scale == 0.0:
        return P
    shaken = np.clip(P + 0.5 * scale * rng.standard_normal(P.shape), 0.0, None)
    total = shaken.sum(axis=1, keepdims=True)
    return np.where(total > 0.0, shaken / np.where(total > 0.0, total, 1.0), 1.0 / P.shape[1])
