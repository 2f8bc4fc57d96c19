"""The Bayes-optimal fair rule as a cost-sensitive learning problem: one ordinary classifier of X."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import check_choice, check_int, check_real
from mlpapers.fairness._base import Sample
from mlpapers.fairness._checks import check_weights
from mlpapers.fairness._cost_sensitive import cost_sensitive_task, fit_final
from mlpapers.fairness._cross_fit import check_rule_parameters, draw_posteriors
from mlpapers.fairness._fair_rule import FairRule, Posteriors, RuleSettings, find_rule
from mlpapers.fairness._final import FinalStageClassifier
from mlpapers.fairness.metrics import label_violation

__all__ = ["InProcessingFairClassifier"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Trained(NamedTuple):
    """A candidate: classifier, weights it was trained with, multipliers."""

    model: Any
    weights: Array
    multipliers: pd.Series


def _final_has(name: str) -> Any:
    def check(self: Any) -> bool:
        model = getattr(self, "final_estimator_", None)
        if model is None:
            model = self._final_estimator()
        getattr(model, name)
        return True

    return check


class InProcessingFairClassifier(FinalStageClassifier):
    r"""Fair classifier by cost-sensitive learning: one ordinary, deterministic classifier of X.

    The Bayes-optimal fair rule minimises the fair cost-sensitive risk

    .. math:: R_{FCS}(f) = \sum_y E\big[c_y(X)\, P(\hat Y = 1-y, Y = y \mid X)\big], \qquad
              c_y(x) = (1-2y)\,(c + Q(x)) + y,

    so a learner that weighs each sample by :math:`c_{y_i}(x_i)` learns it. Q comes from out-of-fold
    posteriors and the optimal multipliers. A restricted learner need not contain the optimal rule: a part of
    the data is held out, candidates with tightened tolerances are trained, and the most accurate one that
    keeps the tolerance there is taken.

    Parameters
    ----------
    estimator : classifier with predict_proba, optional
        For the posteriors; default standardised logistic regression.
    final_estimator : classifier that takes sample weights, optional
        What is trained in the end; default a clone of `estimator`.
    variant : {"labels", "distilled"}, default="labels"
        Train on labels with costs, as the paper does, or on the optimal decisions with their margins, which
        has less variance.
    constraint, measure, tolerance, reference, groups, attribute_aware, cost, joint : optional
        As in :class:`BayesFairClassifier`. With `attribute_aware` the final learner gets [X, one-hot cells].
    group_estimator, cv, correction, sensitive_columns, min_group_count, ratio_form : optional
        As in :class:`BayesFairClassifier`.
    eta : {"separate", "joint"}, optional
        As in :class:`BayesFairClassifier`.
    multipliers : array of shape (J,) or (blocks times J,), optional
        Signed multipliers as the paper defines them: nothing is optimised or held out then.
    n_candidates : int, default=4
        Tolerances tried: the nominal one, halved again and again, the last one 0.
    validation_fraction : float in (0, 1), default=0.25
        Share of the rows that judge the candidates.
    solver, tol : optional
        As in :class:`BayesFairClassifier`.
    n_jobs : int or None, default=None
    random_state : int, Generator, RandomState or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    final_estimator_ : classifier
    multipliers_ : Series
    sample_weight_ : ndarray
        Weights of the rows that the final learner was trained on, of mean 1 where `sample_weight` counts
        repetitions: each row's is multiplied by its `sample_weight`, and the sum is that of `sample_weight`.
    feasible_ : bool
        Whether a candidate kept the tolerance on the held-out rows; if none did, the least violating one was
        taken. True where nothing was held out.
    candidates_ : DataFrame
        Columns tolerance, accuracy and violation on the held-out rows.
    groups_ : GroupEncoding
    n_features_in_ : int

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Theorem 4, Corollary 7, Algorithm 1.

    Examples
    --------
    >>> from mlpapers.fairness import InProcessingFairClassifier, make_gaussian_groups
    >>> X, y, sensitive_features, _ = make_gaussian_groups(2000, random_state=0)
    >>> model = InProcessingFairClassifier(tolerance=0.1, random_state=0)
    >>> model.fit(X, y, sensitive_features=sensitive_features).predict(X[:3]).shape
    (3,)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        final_estimator: Any = None,
        variant: str = "labels",
        constraint: Any = "demographic_parity",
        measure: str = "difference",
        tolerance: float = 0.05,
        reference: str = "overall",
        groups: str = "intersectional",
        attribute_aware: bool = False,
        cost: float = 0.5,
        joint: str = "direct",
        group_estimator: Any = None,
        cv: Any = 3,
        correction: str = "none",
        sensitive_columns: Any = None,
        min_group_count: int = 10,
        ratio_form: str = "complement",
        eta: str = "joint",
        multipliers: Any = None,
        n_candidates: int = 4,
        validation_fraction: float = 0.25,
        solver: str = "auto",
        tol: float = 1e-9,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.final_estimator = final_estimator
        self.variant = variant
        self.constraint = constraint
        self.measure = measure
        self.tolerance = tolerance
        self.reference = reference
        self.groups = groups
        self.attribute_aware = attribute_aware
        self.cost = cost
        self.joint = joint
        self.group_estimator = group_estimator
        self.cv = cv
        self.correction = correction
        self.sensitive_columns = sensitive_columns
        self.min_group_count = min_group_count
        self.ratio_form = ratio_form
        self.eta = eta
        self.multipliers = multipliers
        self.n_candidates = n_candidates
        self.validation_fraction = validation_fraction
        self.solver = solver
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> Self:
        """Estimate the costs and train the final learner.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
        sensitive_features : DataFrame, Series, mapping, list or array of n rows, optional

        Returns
        -------
        self : InProcessingFairClassifier

        Raises
        ------
        ValueError
            For options out of range and data as in :meth:`BayesFairClassifier.fit`.
        TypeError
            Where the final learner takes no sample weights.
        """
        settings = self._check_parameters()
        sample = self._check_fit_input(X, y, sample_weight, sensitive_features)
        columns = ["tolerance", "accuracy", "violation"]
        if sample.encoding.n_cells == 1 or self.multipliers is not None:
            _, posteriors = draw_posteriors(self, sample)
            chosen = self._train(posteriors, find_rule(posteriors, settings), sample)
            self.feasible_, self.candidates_ = True, pd.DataFrame(columns=columns, dtype=np.float64)
        else:
            train, held_out = self._split(sample)
            trained, rows = [], []
            _, posteriors = draw_posteriors(self, train)
            for tolerance in self._candidate_tolerances():
                options = settings.options._replace(tolerance=tolerance)
                found = find_rule(posteriors, settings._replace(options=options))
                trained.append(self._train(posteriors, found, train))
                rows.append((tolerance, *self._judge(trained[-1].model, held_out, found.dropped)))
            self.candidates_ = pd.DataFrame(rows, columns=columns)
            kept = (self.candidates_["violation"] <= self.tolerance).to_numpy()
            self.feasible_ = bool(kept.any())
            order = np.where(kept, self.candidates_["accuracy"], -np.inf)
            least = int(self.candidates_["violation"].to_numpy().argmin())
            chosen = trained[int(order.argmax()) if self.feasible_ else least]
        self.final_estimator_, self.sample_weight_, self.multipliers_ = chosen
        return self

    def _check_parameters(self) -> RuleSettings:
        settings = check_rule_parameters(self)
        check_choice("variant", self.variant, ("labels", "distilled"))
        check_int("n_candidates", self.n_candidates, minimum=1)
        check_real("validation_fraction", self.validation_fraction, low=0.0, high=1.0, closed="neither")
        self._check_final_estimator()
        return settings

    def _candidate_tolerances(self) -> list[float]:
        halved = [self.tolerance * 0.5**k for k in range(self.n_candidates)]
        return [*halved[:-1], 0.0] if self.n_candidates > 1 and self.tolerance > 0 else halved[:1]

    def _split(self, sample: Sample) -> tuple[Sample, Sample]:
        """Hold out a share of every pair of cell and label."""
        rng = np.random.default_rng(sample.random_states[3])
        order = rng.permutation(len(sample.y))
        strata = 2 * sample.encoding.codes[order] + sample.y[order]
        place = np.empty(len(order))
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        held_out = np.zeros(len(order), dtype=bool)
        held_out[order] = place < self.validation_fraction
        train = np.flatnonzero(~held_out)
        if not held_out.any() or len(np.unique(sample.y[train])) < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(order)} samples leaves no side"
            )
        return sample.take(train), sample.take(np.flatnonzero(held_out))

    def _train(self, posteriors: Posteriors, found: FairRule, sample: Sample) -> Trained:
        Q = np.tensordot(posteriors.joint, found.functional, axes=2)
        target, weights = cost_sensitive_task(sample.y, posteriors.eta, Q, self.cost, self.variant)
        inputs = self._final_inputs(sample.X, sample.encoding.codes)
        model, scaled = fit_final(
            self._final_estimator(), inputs, target, weights, sample.weights, sample.random_states[4]
        )
        return Trained(model, scaled, found.multipliers)

    def _judge(self, model: Any, sample: Sample, dropped: list[tuple[str, str]]) -> tuple[float, float]:
        """Return accuracy and violation of hard decisions on held-out rows, by the groups constrained."""
        predicted = model.predict(self._final_inputs(sample.X, sample.encoding.codes)).astype(np.float64)
        y = sample.y.astype(np.float64)
        weights = check_weights(sample.weights, len(y))
        options, encoding = self._check_shared(), sample.encoding
        violations = []
        for block in options.blocks:
            kept = [(block, name) not in dropped for name in encoding.names]
            found = label_violation(
                y,
                predicted,
                replace(encoding, membership=encoding.membership[:, kept]),
                blocks=(block,),
                measure=options.measure,
                reference=options.reference,
                ratio_form=options.ratio_form,
                weights=weights,
            )
            violations.append(found)
        # nan of a notion none of whose groups is there; of all of them only where nothing counts.
        worst = max((v for v in violations if not np.isnan(v)), default=float("nan"))
        return float(weights @ (predicted == y)), worst

    def _inputs_of(self, X: Any, sensitive_features: Any) -> Any:
        check_is_fitted(self)
        table = self._check_X(X, reset=False)
        return self._final_inputs(self._inputs(table), self._cells(table, sensitive_features))

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Return the final learner's predictions.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`, ignored otherwise.

        Returns
        -------
        y_pred : ndarray of shape (n,)
        """
        inputs = self._inputs_of(X, sensitive_features)
        return self.classes_[self.final_estimator_.predict(inputs).astype(np.int64)]

    @available_if(_final_has("predict_proba"))
    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the final learner's probabilities, those of its weighted task: not calibrated for y.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        probabilities : ndarray of shape (n, 2)
        """
        inputs = self._inputs_of(X, sensitive_features)
        return np.asarray(self.final_estimator_.predict_proba(inputs))

    @available_if(_final_has("decision_function"))
    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the final learner's decision function.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        decision : ndarray of shape (n,)
        """
        inputs = self._inputs_of(X, sensitive_features)
        return np.asarray(self.final_estimator_.decision_function(inputs))
