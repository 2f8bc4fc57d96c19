"""Does a certificate hold? A lower bound on epsilon from samples of the two mechanisms it compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import parallel_map, spawn_seeds
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_real, check_workers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AuditResult", "audit_epsilon", "audit_estimator"]

Array = NDArray[np.float64]

_MIN_SAMPLES = 100
_N_THRESHOLDS = 200
# Distances between means that are this small beside the means themselves are what a solver leaves behind.
_ROUNDING = float(np.sqrt(np.finfo(np.float64).eps))


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditResult(Result):
    """A lower bound on epsilon, and the event that shows it.

    The event is "the projection of a sample on a direction lies above (or below) the threshold"; both were
    chosen on the first halves of the samples, and its probabilities bounded on the second halves.

    Attributes
    ----------
    epsilon_lower : float
        With probability `confidence` or more, no smaller epsilon holds at this delta.
    delta, confidence : float
    threshold : float
        On the projection.
    n_samples : int
        Samples of each mechanism (of the one with fewer, where they differ).
    tail : {"above", "below"}
        Side of the threshold on which the event lies.
    likelier : {"A", "B"}
        Mechanism for which the event is likelier.
    p_lower, p_upper : float
        Lower limit of its probability there, upper limit under the other mechanism.
    projection_a, projection_b : ndarray of shape (n_a,), (n_b,)
        Projections of the second halves.
    """

    epsilon_lower: float
    delta: float
    confidence: float
    threshold: float
    n_samples: int
    tail: str
    likelier: str
    p_lower: float
    p_upper: float
    projection_a: Array
    projection_b: Array

    def to_frame(self) -> pd.DataFrame:
        """Return one row with the numbers; the projections are not in it.

        Returns
        -------
        pandas.DataFrame
        """
        names = ("epsilon_lower", "delta", "confidence", "threshold", "n_samples", "tail", "likelier")
        return pd.DataFrame([{name: getattr(self, name) for name in (*names, "p_lower", "p_upper")}])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw histograms of the projections of both mechanisms, and the threshold.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.hist``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        bins = np.histogram_bin_edges(np.concatenate([self.projection_a, self.projection_b]), bins=50)
        for label, projection in (("A", self.projection_a), ("B", self.projection_b)):
            ax.hist(projection, **{"bins": bins, "alpha": 0.5, "density": True, "label": label, **options})
        ax.axvline(self.threshold, color="0.3", linewidth=0.8)
        ax.set_xlabel("projection")
        ax.set_title(rf"$\varepsilon \geq$ {self.epsilon_lower:.3g} at $\delta$ = {self.delta:g}")
        ax.legend()
        return ax


def audit_epsilon(A: ArrayLike, B: ArrayLike, delta: float, *, confidence: float = 0.95) -> AuditResult:
    r"""Bound epsilon from below, given samples of two mechanisms.

    (epsilon, delta)-indistinguishability says :math:`P(A \in T) \le e^\varepsilon P(B \in T) + \delta` for
    every T, and the same with A and B swapped. An event T is chosen on the first halves of the samples: a
    half-line of the projection on the direction :math:`u = (\frac12(\mathrm{Cov}\, A + \mathrm{Cov}\, B))^+
    (\bar A - \bar B)`. On the second halves, with Clopper-Pearson limits :math:`p_1 \le P(A \in T)` and
    :math:`p_2 \ge P(B \in T)` that fail with probability (1 - confidence)/2 each,

    .. math:: \varepsilon \ge \max\Big(0, \ln \frac{p_1 - \delta}{p_2}\Big).

    Where the means differ in a direction in which neither mechanism varies, that direction is tried as well.

    Parameters
    ----------
    A, B : array-like of shape (n_a, p), (n_b, p)
        Independent samples, at least 100 each: published parameters of retrained and of unlearned models.
    delta : float in (0, 1)
    confidence : float in (0, 1), default=0.95
        Probability with which the bound holds.

    Returns
    -------
    result : AuditResult

    Raises
    ------
    ValueError, TypeError
        If there are fewer than 100 samples, `A` and `B` differ in p, or an argument is out of range.

    Notes
    -----
    A bound below epsilon is no proof that a certificate holds; one above it proves that it does not.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A, B = rng.normal(size=(2000, 2)), rng.normal(loc=[2.0, 0.0], size=(2000, 2))
    >>> audit_epsilon(A, B, 1e-2).epsilon_lower > 1.0
    True
    """
    a, b = _check_samples("A", A), _check_samples("B", B)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"A and B must have the same number of columns; got {a.shape[1]} and {b.shape[1]}")
    check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    half_a, half_b = len(a) // 2, len(b) // 2
    tail_probability = (1.0 - confidence) / 2.0
    chosen = _choose_event(a[:half_a], b[:half_b], delta, tail_probability)
    _, direction, threshold, above, a_likelier = chosen
    rest_a, rest_b = a[half_a:] @ direction, b[half_b:] @ direction
    first, second = (rest_a, rest_b) if a_likelier else (rest_b, rest_a)
    hits = [np.count_nonzero((side > threshold) == above) for side in (first, second)]
    p_lower = float(_lower_limit(hits[0], len(first), tail_probability))
    p_upper = float(_upper_limit(hits[1], len(second), tail_probability))
    excess = (p_lower - delta) / p_upper
    return AuditResult(
        epsilon_lower=float(np.log(excess)) if excess > 1.0 else 0.0,
        delta=float(delta),
        confidence=float(confidence),
        threshold=threshold,
        n_samples=min(len(a), len(b)),
        tail="above" if above else "below",
        likelier="A" if a_likelier else "B",
        p_lower=p_lower,
        p_upper=p_upper,
        projection_a=rest_a,
        projection_b=rest_b,
    )


def audit_estimator(
    est: Any,
    X: Any,
    y: Any,
    indices: Any,
    *,
    n_runs: int = 2000,
    delta: float | None = None,
    confidence: float = 0.95,
    n_jobs: int | None = None,
    random_state: Any = None,
    **fit_params: Any,
) -> AuditResult:
    """Run an estimator's two mechanisms many times and audit what they publish.

    A run trains a clone of `est` on all rows and unlearns; the other mechanism retrains on the rows that are
    left, with noise of its own: by the estimator's ``retrain(fresh_noise=True)`` (so under the weights that
    its certificate refers to), or, where it has no such method, by fitting a clone to these rows.

    Parameters
    ----------
    est : estimator with ``fit``, ``unlearn``, ``coef_`` and a parameter ``random_state``
        It is cloned, never changed; clones write no log and no state file. If it is fitted with data values
        that were given as an array, its clones are fitted with the same values.
    X, y : array-like of shape (n, d), (n,)
    indices : array-like of int, or bool mask of shape (n,)
        Rows to unlearn, in one request.
    n_runs : int, default=2000
        At least 100.
    delta : float, optional
        Default: that of `est`.
    confidence : float, default=0.95
    n_jobs : int, optional
        Runs at the same time.
    random_state : int, RandomState, Generator or None, default=None
    **fit_params
        Passed to ``fit``: ``data_values``, ``X_val``, ``sample_weight`` …

    Returns
    -------
    result : AuditResult
        A is what unlearning publishes, B what retraining publishes: coefficients, then intercepts.

    Raises
    ------
    ValueError, TypeError
        If `est` is not as described or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.unlearning import DVWUClassifier
    >>> X = np.random.default_rng(0).normal(size=(60, 2)) / 5
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = DVWUClassifier(epsilon=1.0, delta=1e-3, alpha=1.0, random_state=0)
    >>> audit = audit_estimator(model, X, y, indices=[0, 1], n_runs=200, random_state=0)
    >>> audit.epsilon_lower <= model.epsilon
    True
    """
    for name in ("fit", "unlearn", "get_params"):
        if not hasattr(est, name):
            raise TypeError(f"est must have a method {name}; {type(est).__name__} has none")
    params = est.get_params(deep=False)
    if "random_state" not in params:
        raise TypeError(f"est must have a parameter random_state; {type(est).__name__} has none")
    delta = params.get("delta") if delta is None else delta
    if delta is None:
        raise ValueError("delta must be given: est has no parameter of that name")
    check_real("delta", delta, low=0.0, high=1.0, closed="neither")
    check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    check_int("n_runs", n_runs, minimum=_MIN_SAMPLES)
    check_workers(n_jobs, 0)
    quiet = {name: None for name in ("log_path", "state_path") if name in params}
    template = clone(est).set_params(**quiet)
    seeds = spawn_seeds(random_state, n_runs)
    runs = parallel_map(
        _run_once,
        seeds,
        n_jobs=n_jobs,
        shared=(template, X, y, indices, {**_own_values(est, params), **fit_params}),
    )
    unlearned, retrained = (np.stack(samples) for samples in zip(*runs))
    return audit_epsilon(unlearned, retrained, delta, confidence=confidence)


def _own_values(est: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the data values that a fitted estimator was given, as an argument of fit."""
    # NotFittedError is an AttributeError: an estimator that is not fitted has no data_values_.
    values = getattr(est, "data_values_", None)
    if values is None or params.get("value_function") is not None:
        return {}
    if np.isnan(values).any():
        raise ValueError(
            "est has removed rows, whose data values are gone; audit before removing, or give data_values"
        )
    return {"data_values": values}


def _run_once(
    template: Any, X: Any, y: Any, indices: Any, fit_params: dict[str, Any], seed: np.random.SeedSequence
) -> tuple[Array, Array]:
    """Return what the two mechanisms publish in one run."""
    first, second = (int(word) for word in seed.generate_state(2))
    model = clone(template).set_params(random_state=first).fit(X, y, **fit_params)
    model.unlearn(indices)
    if hasattr(model, "retrain"):
        return _published(model), _published(model.retrain(fresh_noise=True))
    n = len(y)
    kept = np.ones(n, dtype=bool)
    kept[np.asarray(indices)] = False
    rows = np.flatnonzero(kept)
    shares = {
        name: _safe_indexing(value, rows) if name in ("data_values", "sample_weight") else value
        for name, value in fit_params.items()
        if value is not None
    }
    again = clone(template).set_params(random_state=second)
    return _published(model), _published(
        again.fit(_safe_indexing(X, rows), _safe_indexing(y, rows), **shares)
    )


def _published(model: Any) -> Array:
    if not hasattr(model, "coef_"):
        raise TypeError(f"est must have coef_ after fit; {type(model).__name__} has none")
    intercept = np.ravel(getattr(model, "intercept_", np.empty(0)))
    return np.concatenate([np.ravel(model.coef_), intercept]).astype(np.float64)


def _check_samples(name: str, samples: ArrayLike) -> Array:
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != 2 or len(array) < _MIN_SAMPLES or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n, p) with n >= {_MIN_SAMPLES} samples; got {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite; row {int(np.flatnonzero(~np.isfinite(array))[0])} is not")
    return array


def _choose_event(a: Array, b: Array, delta: float, tail: float) -> tuple[float, Array, float, bool, bool]:
    """Return (p1 - delta)/p2, direction, threshold, above, and whether A is likelier, of the best event."""
    candidates = []
    for direction in _directions(a, b):
        pa, pb = a @ direction, b @ direction
        levels = (np.arange(_N_THRESHOLDS) + 0.5) / _N_THRESHOLDS
        thresholds = np.quantile(np.concatenate([pa, pb]), levels)
        over_a, over_b = (len(p) - np.searchsorted(np.sort(p), thresholds, side="right") for p in (pa, pb))
        for above in (True, False):
            hits_a, hits_b = (over_a, over_b) if above else (len(pa) - over_a, len(pb) - over_b)
            for a_likelier in (True, False):
                first, second = ((hits_a, len(pa)), (hits_b, len(pb)))[:: 1 if a_likelier else -1]
                ratio = (_lower_limit(*first, tail) - delta) / _upper_limit(*second, tail)
                best = int(np.argmax(ratio))
                candidates.append((float(ratio[best]), direction, float(thresholds[best]), above, a_likelier))
    return max(candidates, key=lambda candidate: candidate[0])


def _directions(a: Array, b: Array) -> list[Array]:
    """Return the discriminant direction, and the difference of means where neither sample varies."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance = 0.5 * (np.atleast_2d(np.cov(a, rowvar=False)) + np.atleast_2d(np.cov(b, rowvar=False)))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    difference, size = mean_a - mean_b, np.linalg.norm(mean_a) + np.linalg.norm(mean_b)
    # A sample that is constant has a variance of rounding size, by its mean or by a larger eigenvalue.
    eps = float(np.finfo(np.float64).eps)
    kept = eigenvalues > max(len(a) * eps * eigenvalues[-1], (16.0 * eps * size) ** 2)
    inside = vectors[:, kept].T @ difference
    directions = [vectors[:, kept] @ (inside / eigenvalues[kept])]
    outside = difference - vectors[:, kept] @ inside
    if np.linalg.norm(outside) > _ROUNDING * size:
        directions.append(outside)
    return directions


def _lower_limit(hits: Any, n: int, tail: float) -> Any:
    """Return the Clopper-Pearson lower limit, which exceeds the probability with probability <= `tail`."""
    hits = np.asarray(hits, dtype=np.float64)
    limit = betaincinv(np.maximum(hits, 1.0), n - hits + 1.0, tail)
    return np.where(hits > 0, limit, 0.0)


def _upper_limit(hits: Any, n: int, tail: float) -> Any:
    """Return the Clopper-Pearson upper limit, which is below the probability with probability <= `tail`."""
    hits = np.asarray(hits, dtype=np.float64)
    limit = betainccinv(hits + 1.0, np.maximum(n - hits, 1.0), tail)
    return np.where(hits < n, limit, 1.0)
