"""The paper's own experiment: multipliers from a grid, chosen on a validation half."""

from __future__ import annotations

import itertools
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.core.validation import check_choice, check_int, check_real, check_workers
from mlpapers.fairness._base import Sample, check_cost
from mlpapers.fairness._checks import check_weights
from mlpapers.fairness._cost_sensitive import cost_sensitive_task, fit_final
from mlpapers.fairness._final import FinalStageClassifier
from mlpapers.fairness._posteriors import JointModel, fit_joint, takes_weights
from mlpapers.fairness.constraints import ConstraintOptions, mean_rates
from mlpapers.fairness.groups import GroupEncoding
from mlpapers.fairness.metrics import label_violation
from mlpapers.fairness.rule import paper_functional

__all__ = ["GridSearchFairClassifier"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_CHUNK = 256


class GridSearchFairClassifier(FinalStageClassifier):
    """The paper's procedure as it was run: every multiplier of a grid, the best on a validation half.

    Models are fitted on one part of the data and their posteriors taken in sample; for each vector of signed
    multipliers on a grid in [-max_lambda, max_lambda] the rule of Theorem 2 or 3 (or the cost-sensitive
    learner of Algorithm 1) is judged on the rest. The number of candidates is exponential in the number of
    groups: kept as a faithful baseline of :class:`BayesFairClassifier`, which finds the optimum directly.

    Parameters
    ----------
    estimator : classifier with predict_proba, optional
        Default standardised logistic regression.
    processing : {"post", "in"}, default="post"
        Threshold posteriors (Algorithm 2) or train a cost-sensitive learner per candidate (Algorithm 1).
    final_estimator : classifier that takes sample weights, optional
        For "in"; default a clone of `estimator`.
    constraint, measure, tolerance, reference, groups, attribute_aware, cost : optional
        As in :class:`BayesFairClassifier`.
    joint : {"direct", "factorized", "group_first"}, default="direct"
    group_estimator, sensitive_columns, min_group_count, ratio_form : optional
        As in :class:`BayesFairClassifier`.
    eta : {"separate", "joint"}, default="separate"
    max_lambda : float, default=1.0
    grid_interval : float, default=0.1
    validation_fraction : float in (0, 1), default=0.5
    max_candidates : int, default=50_000
        Larger grids are refused.
    n_jobs : int or None, default=None
        Candidates at the same time, for "in".
    random_state : int, Generator, RandomState or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    record_ : DataFrame
        One row per candidate: its multipliers, accuracy and violation on the validation part.
    best_multipliers_ : Series indexed by (block, group)
    feasible_ : bool
        Whether a candidate kept the tolerance; otherwise the least violating one was taken.
    groups_ : GroupEncoding
    n_features_in_ : int

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Algorithms 1 and 2, Section 6.1.

    Examples
    --------
    >>> from mlpapers.fairness import GridSearchFairClassifier, make_gaussian_groups
    >>> X, y, sensitive_features, _ = make_gaussian_groups(2000, n_groups=2, random_state=0)
    >>> model = GridSearchFairClassifier(grid_interval=0.25, random_state=0)
    >>> len(model.fit(X, y, sensitive_features=sensitive_features).record_)
    81
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        processing: str = "post",
        final_estimator: Any = None,
        constraint: Any = "demographic_parity",
        measure: str = "difference",
        tolerance: float = 0.05,
        reference: str = "overall",
        groups: str = "intersectional",
        attribute_aware: bool = False,
        cost: float = 0.5,
        joint: str = "direct",
        group_estimator: Any = None,
        sensitive_columns: Any = None,
        min_group_count: int = 1,
        ratio_form: str = "complement",
        eta: str = "separate",
        max_lambda: float = 1.0,
        grid_interval: float = 0.1,
        validation_fraction: float = 0.5,
        max_candidates: int = 50_000,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.processing = processing
        self.final_estimator = final_estimator
        self.constraint = constraint
        self.measure = measure
        self.tolerance = tolerance
        self.reference = reference
        self.groups = groups
        self.attribute_aware = attribute_aware
        self.cost = cost
        self.joint = joint
        self.group_estimator = group_estimator
        self.sensitive_columns = sensitive_columns
        self.min_group_count = min_group_count
        self.ratio_form = ratio_form
        self.eta = eta
        self.max_lambda = max_lambda
        self.grid_interval = grid_interval
        self.validation_fraction = validation_fraction
        self.max_candidates = max_candidates
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> Self:
        """Fit the models on one part of the rows and try every multiplier of the grid on the other.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
        sensitive_features : DataFrame, Series, mapping, list or array of n rows, optional

        Returns
        -------
        self : GridSearchFairClassifier

        Raises
        ------
        ValueError
            For a grid of more than `max_candidates` points, and data as in :meth:`BayesFairClassifier.fit`.
        """
        options = self._check_parameters()
        sample = self._check_fit_input(X, y, sample_weight, sensitive_features)
        grid = self._grid(sample.encoding, options)
        train, held_out = self._split(sample) if sample.encoding.n_cells > 1 else (sample, sample)
        weights = train.weights if takes_weights(self._estimator()) else None
        task = self._joint_task(sample.encoding, sample.random_states)
        with config_context(enable_metadata_routing=False):
            self.estimator_: JointModel = fit_joint(task, train.X, train.encoding.codes, train.y, weights)
        joint = self.estimator_.joint(train.X, train.encoding.codes)
        self._base_rates = mean_rates(joint, check_weights(train.weights, len(train.y)))
        if self.processing == "post":
            predictions = self._post_predictions(grid, held_out, options)
            models: list[Any] = []
        else:
            predictions, models = self._in_predictions(grid, train, joint, held_out, options)
        record = self._judge(predictions, held_out, options)
        best = self._choose(record)
        index = pd.MultiIndex.from_product([options.blocks, sample.encoding.names], names=["block", "group"])
        names = [f"lambda[{block}: {group}]" for block, group in index]
        self.record_ = pd.concat([pd.DataFrame(grid, columns=names), record], axis=1)
        self.best_multipliers_ = pd.Series(grid[best], index=index, name="multiplier")
        self._functional = self._functional_of(grid[best], options)
        self._final = models[best] if models else None
        return self

    def _check_parameters(self) -> ConstraintOptions:
        options = self._check_shared()
        check_choice("processing", self.processing, ("post", "in"))
        check_int("min_group_count", self.min_group_count, minimum=1)
        check_int("max_candidates", self.max_candidates, minimum=1)
        check_real("max_lambda", self.max_lambda, low=0.0)
        check_real("grid_interval", self.grid_interval, low=0.0, closed="right")
        check_real("validation_fraction", self.validation_fraction, low=0.0, high=1.0, closed="neither")
        check_workers(self.n_jobs, self.verbose)
        self._check_final_estimator(weighted=self.processing == "in")
        return options

    def _grid(self, encoding: GroupEncoding, options: ConstraintOptions) -> Array:
        """Return the candidates (N, blocks * J); ValueError where there are too many."""
        n_multipliers = len(options.blocks) * len(encoding.names)
        if encoding.n_cells == 1:
            return np.zeros((1, n_multipliers))
        n_steps = int(np.floor(self.max_lambda / self.grid_interval + 1e-9))
        axis = self.grid_interval * np.arange(-n_steps, n_steps + 1)
        count = len(axis) ** n_multipliers
        if count > self.max_candidates:
            raise ValueError(
                f"max_candidates is {self.max_candidates}, but the grid has "
                f"{len(axis)}^{n_multipliers} = {count} candidates"
            )
        return np.array(list(itertools.product(axis, repeat=n_multipliers)))

    def _split(self, sample: Sample) -> tuple[Sample, Sample]:
        rng = np.random.default_rng(sample.random_states[3])
        order = rng.permutation(len(sample.y))
        n_held_out = round(self.validation_fraction * len(order))
        train, held_out = order[n_held_out:], order[:n_held_out]
        if not n_held_out or len(np.unique(sample.y[train])) < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(order)} samples leaves no side"
            )
        return sample.take(train), sample.take(held_out)

    def _functional_of(self, multipliers: Array, options: ConstraintOptions) -> Array:
        return paper_functional(
            multipliers,
            self.groups_.membership,
            self._base_rates,
            blocks=options.blocks,
            measure=options.measure,
            tolerance=options.tolerance,
        )

    def _margins(self, X: Any, codes: Codes | None, functionals: Array) -> Array:
        """Return H (n, R) of several functionals (R, M, 2)."""
        joint = self.estimator_.joint(X, codes)
        score = self.estimator_.eta(X, joint) - check_cost(self.cost)
        return score[:, None] - np.tensordot(joint, functionals, axes=((1, 2), (1, 2)))

    def _post_predictions(
        self, grid: Array, held_out: Sample, options: ConstraintOptions
    ) -> NDArray[np.bool_]:
        unit = np.stack([self._functional_of(row, options) for row in np.eye(grid.shape[1])])
        # H is affine in the multipliers.
        base = self._margins(held_out.X, held_out.encoding.codes, np.zeros_like(unit[:1]))
        slopes = base - self._margins(held_out.X, held_out.encoding.codes, unit)  # (n, blocks * J)
        predictions = np.empty((len(grid), len(base)), dtype=bool)
        for part in chunk_slices(len(grid), _CHUNK):
            predictions[part] = (base - slopes @ grid[part].T > 0).T
        return predictions

    def _in_predictions(
        self, grid: Array, train: Sample, joint: Array, held_out: Sample, options: ConstraintOptions
    ) -> tuple[NDArray[np.bool_], list[Any]]:
        eta = self.estimator_.eta(train.X, joint)
        functionals = [self._functional_of(row, options) for row in grid]
        shared = (
            self._final_estimator(),
            self._final_inputs(train.X, train.encoding.codes),
            train.y,
            eta,
            joint,
            float(self.cost),
            train.weights,
            train.random_states[4],
        )
        models = parallel_map(
            _train_candidate, functionals, n_jobs=self.n_jobs, shared=shared, verbose=int(self.verbose)
        )
        inputs = self._final_inputs(held_out.X, held_out.encoding.codes)
        return np.stack([model.predict(inputs) == 1 for model in models]), models

    def _judge(
        self, predictions: NDArray[np.bool_], sample: Sample, options: ConstraintOptions
    ) -> pd.DataFrame:
        """Return accuracy and violation of every candidate."""
        y = sample.y.astype(np.float64)
        weights = check_weights(sample.weights, len(y))
        rows = []
        for predicted in predictions:
            violation = label_violation(
                y,
                predicted.astype(np.float64),
                sample.encoding,
                blocks=options.blocks,
                measure=options.measure,
                reference=options.reference,
                ratio_form=options.ratio_form,
                weights=weights,
                min_group_count=self.min_group_count,
            )
            rows.append((float(weights @ (predicted == (y == 1.0))), violation))
        return pd.DataFrame(rows, columns=["accuracy", "violation"])

    def _choose(self, record: pd.DataFrame) -> int:
        """Return the most accurate candidate that keeps the tolerance, of equals the fairer."""
        accuracy, violation = record["accuracy"].to_numpy(), record["violation"].fillna(np.inf).to_numpy()
        kept = violation <= self.tolerance
        self.feasible_ = bool(kept.any())
        if self.feasible_:
            return int(np.lexsort((violation, -np.where(kept, accuracy, -np.inf)))[0])
        return int(np.lexsort((-accuracy, violation))[0])

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Return the class that the chosen rule decides for.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`, ignored otherwise.

        Returns
        -------
        y_pred : ndarray of shape (n,)
        """
        margin = self.decision_function(X, sensitive_features=sensitive_features)
        return self.classes_[(margin > 0).astype(np.int64)]

    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the margin H of the chosen rule, or 1 and -1 for the decisions of a trained learner.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        margin : ndarray of shape (n,)
        """
        check_is_fitted(self)
        table = self._check_X(X, reset=False)
        codes = self._cells(table, sensitive_features)
        inputs = self._inputs(table)
        if self._final is not None:
            return 2.0 * np.asarray(self._final.predict(self._final_inputs(inputs, codes))) - 1.0
        return self._margins(inputs, codes, self._functional[None])[:, 0]


def _train_candidate(
    final: Any,
    X: Any,
    y: Codes,
    eta: Array,
    joint: Array,
    cost: float,
    weights: Array | None,
    seed: int,
    functional: Array,
) -> Any:
    Q = np.tensordot(joint, functional, axes=2)
    target, costs = cost_sensitive_task(y, eta, Q, cost, "labels")
    return fit_final(final, X, target, costs, weights, seed)[0]
