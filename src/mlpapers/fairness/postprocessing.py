"""The Bayes-optimal fair classifier by post-processing posteriors."""

from __future__ import annotations

from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from mlpapers.fairness._cross_fit import check_rule_parameters, draw_posteriors
from mlpapers.fairness._decisions import RandomisedDecisions
from mlpapers.fairness._fair_rule import FairRule, RuleSettings, find_rule
from mlpapers.fairness.certificate import FairnessCertificate, certify_tightened

__all__ = ["BayesFairClassifier"]

# What can change without the posteriors changing.
_RESOLVABLE = (
    "constraint",
    "correction",
    "cost",
    "groups",
    "measure",
    "min_group_count",
    "multipliers",
    "randomize",
    "ratio_form",
    "reference",
    "solver",
    "tol",
    "tolerance",
)


class BayesFairClassifier(RandomisedDecisions):
    r"""Bayes-optimal fair classifier: posteriors of any base model, thresholded person by person.

    Among all randomised classifiers f that satisfy the fairness constraints, the one of least cost-sensitive
    risk :math:`E[(1-c) 1\{Y=1\}(1-f) + c\, 1\{Y=0\} f]` is

    .. math:: f^*(x) = 1\{\eta(x) > c + Q(x)\}, \qquad Q(x) = \sum_k \lambda_k A_k(x),

    randomised where equality holds: a threshold on :math:`\eta(x) = P(Y=1 \mid x)` moved by a weighted sum of
    the probabilities of belonging to each group. `fit` estimates :math:`P(S=m, Y=y \mid x)` out of fold,
    solves the linear program of the constraints exactly, and mixes rules where ties carry mass. Sensitive
    features are not needed to predict, unless `attribute_aware`.

    Parameters
    ----------
    estimator : classifier with predict_proba, optional
        Default: standardised logistic regression. How good the blind rule is depends on how good its
        posteriors are.
    constraint : str or tuple of str, default="demographic_parity"
        "demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity",
        "equalized_odds", or several of them.
    measure : {"difference", "ratio"}, default="difference"
    tolerance : float in [0, 1], default=0.05
        0 is exactly fair. For a ratio the level that has to be reached is 1 - tolerance.
    reference : {"overall", "pairwise"}, default="overall"
        Compare groups with the population, or with each other.
    groups : {"intersectional", "marginal", "all"}, default="intersectional"
    attribute_aware : bool, default=False
        Whether the rule sees the sensitive features: one threshold per cell.
    cost : float in (0, 1), default=0.5
        c, the cost of a false positive; 1 - c is that of a false negative.
    joint : {"direct", "factorized", "group_first"}, default="direct"
        How P(S, Y | x) is estimated when blind: one multiclass model of the pair; P(Y | x) P(S | x, Y); or
        P(S | x) P(Y | x, S).
    group_estimator : classifier, optional
        For the cell in "factorized" and "group_first"; default `estimator`.
    cv : int, splitter or list of (train, test), default=3
        Folds of the out-of-fold posteriors. Logistic regressions start at the coefficients of all rows.
    prefit : bool, default=False
        The models are fitted already, on other data, and are used as they are: `estimator` for "direct"
        predicts 2 * cell + label (cells numbered as :func:`make_groups` does, labels 0 and 1 in the order of
        `classes_`), for "factorized" the label, with `group_estimator` a pair of models of the cell for
        labels 0 and 1; for "group_first" the label from [X, one-hot cells], with `group_estimator` of the
        cell; `attribute_aware` takes a model of the label from X or from [X, one-hot cells]. Models of the
        label know the classes of `y`, models of the cell (or pair) all cells.
    correction : {"none", "shrunk", "full"}, default="none"
        Move the bounds by what the constraints, met by the posteriors, miss on the labels. "full" follows the
        noise of small groups.
    randomize : {"hash", "independent", "none"}, default="hash"
        How `predict` decides where the rule is randomised: by a hash of the row (the same person always gets
        the same answer), by independent draws, or by rounding the probability.
    sensitive_columns : names or positions of columns of X, optional
        Where the sensitive features are when they are not given to `fit`. They are hidden from the base
        models, unless `attribute_aware`; words among them are hidden from the default estimator even then,
        which sees one column per cell in any case.
    min_group_count : int, default=10
        Groups with fewer samples in an event that a notion needs are not constrained.
    ratio_form : {"complement", "inverse", "lower"}, default="complement"
    eta : {"joint", "separate"}, default="joint"
        Where P(Y = 1 | x) comes from: the sum of the joint posterior, or a model of its own, which enters the
        score only. No difference if `attribute_aware`.
    multipliers : array of shape (J,) or (blocks * J,), optional
        Signed multipliers as the paper defines them. Nothing is optimised then, and `tolerance` enters
        through the level of a ratio only.
    solver : {"auto", "ipm", "sifting", "highs"}, default="auto"
    tol : float, default=1e-9
        Duality gap of the solver.
    n_jobs : int or None, default=None
        Folds at the same time.
    random_state : int, Generator, RandomState or None, default=None
        For the folds, the seeds of the base models, and the salt of the hash (0 for None).
    verbose : int, default=0

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X has column names.
    groups_ : GroupEncoding
    multipliers_ : Series
        Multipliers by block, group and side (given ones by block and group).
    solution_ : FairLPResult or None
        None where `multipliers` are given.
    shadow_price_ : float
        Derivative of the optimal risk by the tolerance, at most 0.
    price_of_fairness_ : float
        Out-of-fold accuracy lost against the unconstrained rule.
    tie_mass_ : float
        Share of the training rows on the boundary :math:`|\eta - c - Q| \le 10^{-7}`. Decisions there are a
        matter of chance; where a tied group is an atom (equal rows), a hash cannot split it.
    mixture_ : list of (weight, rule)
        Multipliers, "always", "never", or (cell, direction, threshold of eta).
    dropped_groups_ : list of (block, group)
    estimator_ : object
        The fitted base models.
    oof_joint_ : ndarray of shape (n, M, 2)
        Out-of-fold posteriors (in-sample where nothing is constrained or `prefit`).
    oof_violation_ : float
        Mean difference (or 1 - mean ratio) of the rule out of fold, on the labels.

    Warns
    -----
    FairnessWarning
        Without sensitive features, with a single group, for groups that are too small, and for pairs of cell
        and label rarer than the folds.

    References
    ----------
    [1] Yang, Huang and Chang, "Bayes-optimal fair classification with multiple sensitive features",
    arXiv:2505.00631, Theorems 2-3, Corollaries 1-2, Algorithm 2.

    Examples
    --------
    >>> from mlpapers.fairness import BayesFairClassifier, make_gaussian_groups, mean_difference
    >>> X, y, sensitive_features, _ = make_gaussian_groups(4000, random_state=0)
    >>> model = BayesFairClassifier(tolerance=0.05, random_state=0)
    >>> model = model.fit(X, y, sensitive_features=sensitive_features)
    >>> bool(mean_difference(y, model.predict(X), sensitive_features=sensitive_features) < 0.08)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
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
        prefit: bool = False,
        correction: str = "none",
        randomize: str = "hash",
        sensitive_columns: Any = None,
        min_group_count: int = 10,
        ratio_form: str = "complement",
        eta: str = "joint",
        multipliers: Any = None,
        solver: str = "auto",
        tol: float = 1e-9,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
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
        self.prefit = prefit
        self.correction = correction
        self.randomize = randomize
        self.sensitive_columns = sensitive_columns
        self.min_group_count = min_group_count
        self.ratio_form = ratio_form
        self.eta = eta
        self.multipliers = multipliers
        self.solver = solver
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> Self:
        """Estimate the posteriors out of fold and find the optimal fair rule.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        y : array of shape (n,)
            Two classes; the second in sorted order is the positive one.
        sample_weight : array of shape (n,), optional
            Weights of the rows in the constraints and, where they take them, in the base models.
        sensitive_features : DataFrame, Series, mapping, list or array of n rows, optional

        Returns
        -------
        self : BayesFairClassifier

        Raises
        ------
        ValueError
            For options out of range, labels that are not binary, lengths that differ, missing sensitive
            values, `prefit` models of other classes, or where no group is large enough to constrain.
        TypeError
            Where a base model has no predict_proba.
        """
        settings = self._check_parameters()
        sample = self._check_fit_input(X, y, sample_weight, sensitive_features)
        self._salt = 0 if self.random_state is None else sample.random_states[0]
        self.estimator_, self._posteriors = draw_posteriors(self, sample)
        self.oof_joint_ = self._posteriors.joint
        self._set_rule(find_rule(self._posteriors, settings), settings)
        return self

    def _check_parameters(self) -> RuleSettings:
        return check_rule_parameters(self)

    def _set_rule(self, found: FairRule, settings: RuleSettings) -> None:
        self._found, self._asked = found, settings
        self.groups_ = found.encoding
        self.multipliers_ = found.multipliers
        self.solution_ = found.solution
        self.shadow_price_ = found.shadow_price
        self.price_of_fairness_ = found.price
        self.tie_mass_ = found.tie_mass
        self.mixture_ = found.rule.parts()
        self.dropped_groups_ = found.dropped
        self.oof_violation_ = found.violation

    def resolve(self, **changes: Any) -> Self:
        """Change what is asked of the rule and solve again, without fitting any model.

        Parameters
        ----------
        **changes
            New values of constraint, measure, tolerance, reference, ratio_form, groups, cost, correction,
            multipliers, min_group_count, randomize, solver or tol.

        Returns
        -------
        self : BayesFairClassifier

        Raises
        ------
        ValueError
            For other parameters, which need `fit`; the classifier is left as it was.
        """
        check_is_fitted(self)
        unknown = sorted(set(changes) - set(_RESOLVABLE))
        if unknown:
            raise ValueError(f"resolve can change {', '.join(_RESOLVABLE)}; got {', '.join(unknown)}")
        before = {name: getattr(self, name) for name in changes}
        # Not set_params, which looks through the base models for parameters: that takes as long as solving.
        self.__dict__.update(changes)
        try:
            settings = self._check_parameters()
            # Of several optimal rules the same one, where only the way to decide has changed.
            if not _agree(settings, self._asked):
                self._set_rule(find_rule(self._posteriors, settings, self._found), settings)
        except (TypeError, ValueError):
            self.__dict__.update(before)
            raise
        return self

    def certify(
        self, X: Any, y: Any, *, sensitive_features: Any, confidence: float = 0.95
    ) -> FairnessCertificate:
        """Find the most permissive rule that fresh data certify to keep the tolerance.

        Rules of tolerances from 0 up to the nominal one are tested in this order, each at the full level; the
        first failure ends the search, so the chance of certifying an unfair rule stays below 1 - confidence.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
            Independent of everything that was fitted.
        y : array of shape (n,)
        sensitive_features : DataFrame, Series, mapping, list or array of n rows
        confidence : float, default=0.95

        Returns
        -------
        certificate : FairnessCertificate
            Of the last certified rule (`candidate` is its inner tolerance, `estimator` the rule itself), or
            of the strictest one where none is certified.
        """
        check_is_fitted(self)
        return certify_tightened(self, X, y, sensitive_features=sensitive_features, confidence=confidence)


def _agree(settings: RuleSettings, others: RuleSettings) -> bool:
    """Whether the same is asked of the rule; given multipliers are taken to differ."""
    return settings.multipliers is None and others.multipliers is None and settings == others
