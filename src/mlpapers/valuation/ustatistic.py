"""Data values with confidence intervals: Data Shapley as a U-statistic of the sample."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import (
    accepts_nan,
    check_bool,
    check_choice,
    check_indices,
    check_int,
    check_matrix,
    check_real,
    check_workers,
    seed_sequence,
)
from mlpapers.valuation._base import row_names
from mlpapers.valuation._intervals import IntervalMixin, two_sided_quantile
from mlpapers.valuation._kernel import Kernel, NeighbourKernel, Targets, UtilityKernel
from mlpapers.valuation._labels import as_labels
from mlpapers.valuation._subsets import Subsets, draw_families, draw_subsets
from mlpapers.valuation.knn import check_n_neighbors
from mlpapers.valuation.uncertainty import UStatisticResult
from mlpapers.valuation.utility import check_model
from mlpapers.valuation.variance import (
    PF_MIN_EVALUATIONS,
    VarianceEstimate,
    double_monte_carlo,
    infinitesimal_jackknife,
    pick_and_freeze,
)

__all__ = ["UStatisticShapley"]

# A kernel whose values differ by no more than this, relative to their size, is constant up to rounding.
_ROUNDING = 1e-12


class UStatisticShapley(IntervalMixin, BaseEstimator):
    r"""Data Shapley values with intervals that hold for other samples of the same population.

    In a market of s + 1 points a point z is worth :math:`\theta_s = E\, h_s(Z_1, \dots, Z_s)`, where
    :math:`h_s(S)` is the Shapley value of z in the game of :math:`S \cup \{z\}`. From a sample of n points it
    is estimated by an incomplete U-statistic over B uniform subsets, which is asymptotically normal [1]_:

    .. math::
        \hat\theta = \frac1B \sum_b h_s(S_b), \qquad
        V = \frac{s^2}n \zeta_1 + \frac{\zeta_{tot}}B, \qquad
        \hat\theta \pm z_{(1 + c)/2} \sqrt V,

    with :math:`\zeta_1 = Var(E[h | Z_1])` and :math:`\zeta_{tot} = Var(h)`, as s grows more slowly than
    :math:`\sqrt n` and a point's marginal contribution to a set falls like one over its size. The second term
    of V alone is Monte Carlo error; an interval made of it ignores that the sample could have been another.

    A training point is valued by the n - 1 others. All targets share the same subsets: one more point is
    drawn with each, and stands in where the target is in the subset.

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor, or None, default=None
        Model of the utility (see :class:`~mlpapers.valuation.Utility`). None is the nearest-neighbour utility
        of :class:`~mlpapers.valuation.KNNShapley` for class labels, whose kernel is exact.
    subset_size : int or None, default=None
        s; None stands for max(2, floor(sqrt(n))).
    n_subsets : int, default=1000
        B.
    variance : {"ij", "dmc", "pf"}, default="ij"
        How :math:`\zeta_1` is estimated; :func:`~mlpapers.valuation.recommend_variance` says which to take.

        - "ij", the infinitesimal jackknife: from the B evaluations themselves; needs s <= n / 2.
        - "dmc", double Monte Carlo: `n_outer` families of `n_inner` further subsets with one point in common.
        - "pf", pick-and-freeze: `n_pairs` pairs of further subsets with one point in common.
    n_outer, n_inner, n_pairs : int, default=30, 50, 5000
        See `variance`.
    bias_correct : bool, default=False
        For "dmc": subtract the bias, which otherwise makes intervals too wide.
    confidence : float, default=0.95
        Level of the intervals.
    kernel : {"auto", "exact", "random"}, default="auto"
        "exact" evaluates :math:`h_s` (nearest neighbours only); "random" is an unbiased draw of it, the
        marginal contribution to k random points of the subset, k uniform in 0..s. "auto" takes "exact" where
        it can.
    n_neighbors : int, default=5
        K of the nearest-neighbour utility.
    scoring : str, callable or None, default=None
        Scorer for `estimator`.
    random_state : int, RandomState, Generator or None, default=None
        Subsets; results do not depend on `n_jobs`.
    n_jobs : int or None, default=None
        Workers over subsets: threads for nearest neighbours, processes for other models.
    verbose : int, default=0
        Progress messages of joblib.

    Attributes
    ----------
    values_ : ndarray of shape (T,)
        :math:`\hat\theta` of each target, in units of the utility.
    stderr_ : ndarray of shape (T,)
        :math:`\sqrt V`.
    ci_low_, ci_high_ : ndarray of shape (T,)
        Interval of level `confidence`.
    zeta1_, zeta_tot_ : ndarray of shape (T,)
        The parts of V.
    clipped_ : ndarray of shape (T,) of bool
        Whether the estimate of :math:`\zeta_1` was negative and set to 0.
    subset_size_ : int
        s.
    targets_ : ndarray of shape (T,) of int
        Training points that were valued.
    batch_means_ : ndarray of shape (floor(sqrt(B)), T)
        Means of consecutive batches of kernel values.
    groups_ : ndarray of shape (T,) of int
        Zeros.
    group_values_ : ndarray of shape (1,)
        Sum of the values.
    total_utility_, empty_utility_ : float
        Utility of the whole sample and of none of it.
    n_samples_, n_features_in_ : int
        Rows and columns of `X`.
    feature_names_in_ : ndarray of shape (d,)
        Where `X` had string column names.
    n_evaluations_ : int
        Kernel evaluations per target, those for the variance included.
    converged_ : bool
        False where "pf" had too few pairs.
    result_ : ValuationResult
        Values and standard errors as one frozen object.

    References
    ----------
    .. [1] Wu, Liu, Li, Jia, Chang, "Uncertainty Quantification of Data Shapley via Statistical Inference",
       arXiv 2407.19373 (the bridge to infinite-order U-statistics; double Monte Carlo and pick-and-freeze).

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.valuation import UStatisticShapley
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 1))
    >>> valuer = UStatisticShapley(subset_size=10, n_subsets=200, random_state=0)
    >>> valuer = valuer.fit(X, X[:, 0] > 0, X[:20], X[:20, 0] > 0)
    >>> new = valuer.evaluate([[1.0], [-1.0]], [True, True])
    >>> bool(new.ci_low[0] > new.ci_high[1])
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        subset_size: int | None = None,
        n_subsets: int = 1000,
        variance: str = "ij",
        n_outer: int = 30,
        n_inner: int = 50,
        n_pairs: int = 5000,
        bias_correct: bool = False,
        confidence: float = 0.95,
        kernel: str = "auto",
        n_neighbors: int = 5,
        scoring: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.subset_size = subset_size
        self.n_subsets = n_subsets
        self.variance = variance
        self.n_outer = n_outer
        self.n_inner = n_inner
        self.n_pairs = n_pairs
        self.bias_correct = bias_correct
        self.confidence = confidence
        self.kernel = kernel
        self.n_neighbors = n_neighbors
        self.scoring = scoring
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        targets: ArrayLike | None = None,
    ) -> UStatisticShapley:
        """Value training points.

        Parameters
        ----------
        X, y : array-likes of shape (n, d) and (n,)
            The sample.
        X_val, y_val : array-likes of shape (M, d) and (M,)
            Validation points: they define the utility and count as given.
        targets : array-like of shape (T,) of int, optional
            Training points to value; all by default, none if empty (to :meth:`evaluate` others only).

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described.

        Warns
        -----
        ConvergenceWarning
            If ``variance="pf"`` has fewer than 1000 evaluations: its intervals are then too short.
        UserWarning
            If the kernel of a target is constant (as for s < K), so that its standard error is 0.
        """
        self._check_parameters()
        points = self._check_points("X", X, finite=self._finite())
        n = len(points)
        s = self._resolve_size(n)
        index = np.arange(n) if targets is None else check_indices("targets", targets, n)
        self._kernel = self._make_kernel(points, y, X_val, y_val)
        self._draw(n, s)
        self.subset_size_ = s
        self.targets_ = index
        few_pairs = self.variance == "pf" and 2 * self.n_pairs < PF_MIN_EVALUATIONS
        if few_pairs:
            warnings.warn(
                f"n_pairs={self.n_pairs} means {2 * self.n_pairs} evaluations; below {PF_MIN_EVALUATIONS} "
                "the pick-and-freeze variance is too noisy and its intervals too short",
                ConvergenceWarning,
                stacklevel=2,
            )
        values, estimate, self.batch_means_ = self._estimate(Targets(index))
        self.zeta1_, self.zeta_tot_, self.clipped_ = estimate.zeta1, estimate.zeta_tot, estimate.clipped
        names = row_names(X)
        self._players_named = None if names is None else names[index]
        self._set_values(
            values,
            n_samples=n,
            total_utility=self._kernel.total_utility,
            empty_utility=self._kernel.empty_utility,
            method=f"ustatistic-{self.variance}",
            stderr=np.sqrt(estimate.variance),
            n_evaluations=len(self._subsets) + len(self._families or ()),
            converged=not few_pairs,
            meta={"subset_size": s, "n_subsets": int(self.n_subsets), "targets": index},
        )
        self.ci_low_, self.ci_high_ = self.confidence_interval(self.confidence)
        return self

    def evaluate(self, X_new: ArrayLike, y_new: ArrayLike) -> UStatisticResult:
        """Value points outside the sample, by the subsets that `fit` drew.

        Parameters
        ----------
        X_new, y_new : array-likes of shape (n_new, d) and (n_new,)
            Points on offer; the whole sample values them.

        Returns
        -------
        UStatisticResult

        Raises
        ------
        NotFittedError
            If the valuer is not fitted.
        ValueError
            If an array has another shape or type than in `fit`.
        """
        check_is_fitted(self, "values_")
        points = self._check_points("X_new", X_new, reset=False, finite=self._finite())
        labels = as_labels(y_new)
        self._kernel.check_labels(labels, len(points))
        values, estimate, _ = self._estimate(Targets.outside(points, labels))
        stderr = np.sqrt(estimate.variance)
        reach = two_sided_quantile(self.confidence) * stderr
        return UStatisticResult(
            values=values,
            stderr=stderr,
            ci_low=values - reach,
            ci_high=values + reach,
            zeta1=estimate.zeta1,
            zeta_tot=estimate.zeta_tot,
            clipped=estimate.clipped,
            confidence=float(self.confidence),
            subset_size=self.subset_size_,
            players=row_names(X_new),
        )

    def _check_parameters(self) -> None:
        check_choice("variance", self.variance, ("ij", "dmc", "pf"))
        check_choice("kernel", self.kernel, ("auto", "exact", "random"))
        check_n_neighbors(self.n_neighbors)
        for name, minimum in (("n_subsets", 2), ("n_outer", 2), ("n_inner", 2), ("n_pairs", 2)):
            check_int(name, getattr(self, name), minimum=minimum)
        check_bool("bias_correct", self.bias_correct)
        check_real("confidence", self.confidence, low=0.0, high=1.0, closed="neither")
        check_model(self.estimator, self.scoring)
        check_workers(self.n_jobs, self.verbose)
        if self.estimator is None and self.scoring is not None:
            raise ValueError(f"scoring needs an estimator; got scoring={self.scoring!r} with estimator=None")
        if self.kernel == "exact" and self.estimator is not None:
            raise ValueError(
                "kernel must be 'auto' or 'random' unless estimator is None (nearest neighbours); got 'exact'"
            )

    def _finite(self) -> bool | str:
        """Return what rows may hold: NaN only where a model that takes it is fitted to them."""
        return "allow-nan" if self.estimator is not None and accepts_nan(self.estimator) else True

    def _resolve_size(self, n: int) -> int:
        if self.subset_size is None:
            least = 4 if self.variance == "ij" else 3
            if n < least:
                raise ValueError(
                    f"X must have at least {least} rows for variance={self.variance!r} and subset_size=None; "
                    f"got {n}"
                )
            s = max(2, int(np.sqrt(n)))
        else:
            s = check_int("subset_size", self.subset_size)
        if not 1 <= s <= n - 1:
            raise ValueError(f"subset_size must lie in [1, n - 1] = [1, {n - 1}]; got {s}")
        # Without the target there are n - 1 points, of which the jackknife needs more than s.
        if self.variance == "ij" and (2 * s > n or s > n - 2):
            raise ValueError(
                f"subset_size must be at most n / 2 = {n / 2:g} (and n at least 3) for variance='ij'; got {s}"
            )
        return s

    def _make_kernel(self, points: NDArray[np.float64], y: Any, X_val: Any, y_val: Any) -> Kernel:
        queries = check_matrix("X_val", X_val, dtype=np.float64, order="C", ensure_all_finite=self._finite())
        if queries.shape[1] != points.shape[1]:
            raise ValueError(f"X_val must have the {points.shape[1]} columns of X; got {queries.shape[1]}")
        names, names_val = getattr(self, "feature_names_in_", None), getattr(X_val, "columns", None)
        if names is not None and names_val is not None and list(names) != list(names_val):
            raise ValueError(f"X_val must have the columns of X, {list(names)}; got {list(names_val)}")
        if self.estimator is None:
            return NeighbourKernel(points, y, queries, y_val, int(self.n_neighbors))
        return UtilityKernel(self.estimator, points, y, queries, y_val, self.scoring)

    def _draw(self, n: int, s: int) -> None:
        plain, shared = seed_sequence(self.random_state).spawn(2)
        with_sizes = self.kernel == "random" or self.estimator is not None
        self._subsets = draw_subsets(n, s, self.n_subsets, with_sizes, plain)
        self._families: Subsets | None = None
        if self.variance != "ij":
            shape = (self.n_outer, self.n_inner) if self.variance == "dmc" else (self.n_pairs, 2)
            self._families = draw_families(n, s, *shape, with_sizes, shared)

    def _estimate(
        self, targets: Targets
    ) -> tuple[NDArray[np.float64], VarianceEstimate, NDArray[np.float64]]:
        """Return estimates, their variances and batch means, block by block of targets."""
        n_batches = int(np.sqrt(self.n_subsets))
        values = np.empty(len(targets))
        columns = {"variance": values.copy(), "zeta1": values.copy(), "zeta_tot": values.copy()}
        clipped = np.zeros(len(targets), dtype=bool)
        means = np.empty((n_batches, len(targets)))
        for part, block in targets.blocks(max(len(self._subsets), len(self._families or ()))):
            h = self._kernel.values(block, self._subsets, self.n_jobs, self.verbose)
            # A constant kernel leaves only rounding, which must not pass for randomness.
            constant = np.ptp(h, axis=1) <= _ROUNDING * np.abs(h).max(axis=1)
            h[constant] = h[constant, :1]
            values[part] = np.where(constant, h[:, 0], h.mean(axis=1))
            estimate = self._variance(block, h)
            for name, column in columns.items():
                column[part] = np.where(constant, 0.0, getattr(estimate, name))
            clipped[part] = estimate.clipped & ~constant
            batches = np.array_split(h, n_batches, axis=1)
            means[:, part] = np.stack([batch.mean(axis=1) for batch in batches])
        n_constant = int(np.count_nonzero(columns["zeta_tot"] == 0.0))
        if n_constant:
            warnings.warn(
                f"the kernel is constant for {n_constant} of {len(targets)} points (subset_size="
                f"{self.subset_size_}): no subset changes their value, and their standard error is 0",
                UserWarning,
                stacklevel=3,
            )
        return values, VarianceEstimate(**columns, clipped=clipped), means

    def _variance(self, targets: Targets, h: NDArray[np.float64]) -> VarianceEstimate:
        training = targets.training()
        n = self._kernel.n_samples
        if self._families is None:
            return infinitesimal_jackknife(h, self._subsets.tuples, n, targets=training)
        s, n_subsets = self.subset_size_, len(self._subsets)
        others = n - (training >= 0)
        total = h.var(axis=1, ddof=1)
        inner = self._kernel.values(targets, self._families, self.n_jobs, self.verbose)
        if self.variance == "dmc":
            families = inner.reshape(len(targets), self.n_outer, self.n_inner)
            return double_monte_carlo(families, total, others, s, n_subsets, bias_correct=self.bias_correct)
        return pick_and_freeze(inner.reshape(len(targets), -1, 2), total, others, s, n_subsets)
