"""A linear classifier that forgets rows with a certificate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from mlpapers.unlearning._unlearning import Unlearning
from mlpapers.unlearning.values import ValueFunction
from mlpapers.unlearning.weights import Strategy

__all__ = ["DVWUClassifier"]

Array = NDArray[np.float64]


def _has_probabilities(estimator: DVWUClassifier) -> bool:
    if estimator.loss != "log_loss":
        raise AttributeError(f"predict_proba needs loss='log_loss'; got loss={estimator.loss!r}")
    return True


class DVWUClassifier(ClassifierMixin, Unlearning):
    r"""Data value-weighted unlearning for linear classifiers.

    Trains :math:`F(\theta) = \sum_i w_i \ell(\theta; z_i) + \frac\alpha2 \|\theta\|^2` (plus
    :math:`b^\top\theta` with noise b under objective perturbation) and forgets rows U with one Newton step
    :math:`\theta \leftarrow \theta + H_R^{-1} \sum_U w_j \nabla \ell_j`, certified by a bound on the gradient
    that is left. The weights come from data values.

    Parameters
    ----------
    alpha : float, default=1.0
        Regularisation strength, absolute: it does not shrink when rows leave, and covers the intercept. On
        the retained rows the model is ``LogisticRegression(C=1/alpha)`` with ``sample_weight=weights_``.
    loss : {"log_loss", "smooth_hinge"}, default="log_loss"
    perturbation : {"objective", "output", "none"}, default="objective"
        Where the noise of the certificate enters. "output" is the one to choose where a proof is wanted,
        "objective" gives more accuracy for the same epsilon. "none" certifies nothing but exact removals.
    noise_scale : float or None, default=None
        Standard deviation of the noise, to be fixed before seeing the data; None: 1.0 ("objective"), 0.1
        ("output").
    epsilon, delta : float, default=1.0, 1e-5
    weighting : str or callable, default="rank"
        Strategy of :func:`value_weights`.
    weight_role : {"objective", "forget", "retain"}, default="objective"
        Three readings of what the weights multiply. "objective": every term of the objective. "forget": only
        the forget gradients, decreasing in value; the removal is then incomplete and its certificate
        expensive. "retain": training is conventional, the objective of the retained rows becomes weighted at
        the first request.
    n_newton_steps : int or None, default=None
        Newton steps a request; those after the first pass over the data. None: 2 for the first request under
        "retain", else 1.
    weight_floor : float, default=0.1
    value_function : str, callable or None, default=None
        "knn_shapley", "influence", "gradient_alignment", a registered name, or ``fn(X, y, X_val, y_val)``.
        None: values are given to ``fit``, or all weights are one.
    value_update : {"frozen", "recompute"}, default="frozen"
        Keep the weights of retained rows, or compute values and weights anew on the retained rows at every
        request.
    values_public : bool, default=False
        The values come from a public rule: weights are then not divided by their mean.
    update : {"newton", "descent"}, default="newton"
    certificate : {"data_dependent", "worst_case", "exact"}, default="data_dependent"
        How the residual is bounded: without a pass over the data, without a look at it, or by a pass.
    accounting : {"gaussian", "strict"}, default="gaussian"
        "strict" drops the assumption that the direction of the residual is independent of b.
    on_exhausted : {"reanchor", "retrain"}, default="reanchor"
        What happens when the bound exceeds the budget.
    reanchor_every : int or None, default=None
        Return to the optimum after this many removed rows, whatever the bound says.
    multi_class : {"auto", "multinomial", "ovr"}, default="auto"
        "auto": softmax for log-loss while K d <= 4000, else one problem a class.
    hinge_temperature : float, default=0.5
    fit_intercept : bool, default=True
        Append a constant column.
    norm_bound : float or None, default=None
        Scale rows down to this norm (constant column included), in fit and in predict. None: the largest norm
        in the data is the bound.
    tol : float, default=1e-8
        Training ends at gradient norm <= tol max(1, gradient norm at zero).
    max_iter : int, default=100
    log_path, state_path : path or None, default=None
        A :class:`DeletionLog` to write, and a file that holds the state after every change. Those of another
        model are refused by ``fit``; a clone is another model, so cross-validate
        ``clone(model).set_params(log_path=None, state_path=None)``.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the noise: as secret as the noise itself.
    n_jobs : int or None, default=None
        Problems trained at once under "ovr".
    verbose : int, default=0

    Attributes
    ----------
    coef_ : ndarray of shape (1, d) or (K, d)
        Published; under objective perturbation the minimiser itself, under output perturbation with noise
        added.
    intercept_ : ndarray of shape (1,) or (K,)
    classes_ : ndarray of shape (K,)
        All classes of ``fit``, also where every row of one is forgotten.
    n_features_in_ : int
    weights_, data_values_ : ndarray of shape (n,)
        By original row number; 0 and NaN for removed rows.
    retain_indices_, forget_indices_ : ndarray of int
    residual_bound_, residual_budget_, budget_left_ : float
    norm_bound_, noise_scale_ : float
    certificate_ : Certificate
    n_iter_ : int
    log_ : DeletionLog or None

    References
    ----------
    .. [1] He, Yang, Chang, "Beyond Uniform Deletion: A Data Value-Weighted Framework for Certified Machine
       Unlearning", arXiv:2511.06794, 2025.
    .. [2] Guo et al., "Certified data removal from machine learning models", ICML 2020.

    Examples
    --------
    >>> from mlpapers.datasets import load_unlearning_data
    >>> X, y = load_unlearning_data("breast_cancer", return_X_y=True)
    >>> X = (X - X.mean(0)) / X.std(0)
    >>> model = DVWUClassifier(random_state=0).fit(X, y)
    >>> receipt = model.unlearn([3, 17])
    >>> receipt.action, receipt.certified, receipt.n_remaining
    ('newton', True, 567)
    """

    _LOSSES: ClassVar[tuple[str, ...]] = ("log_loss", "smooth_hinge")
    _NUMERIC_TARGETS: ClassVar[bool] = False

    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        loss: str = "log_loss",
        perturbation: str = "objective",
        noise_scale: float | None = None,
        epsilon: float = 1.0,
        delta: float = 1e-5,
        weighting: Strategy = "rank",
        weight_role: str = "objective",
        n_newton_steps: int | None = None,
        weight_floor: float = 0.1,
        value_function: str | ValueFunction | None = None,
        value_update: str = "frozen",
        values_public: bool = False,
        update: str = "newton",
        certificate: str = "data_dependent",
        accounting: str = "gaussian",
        on_exhausted: str = "reanchor",
        reanchor_every: int | None = None,
        multi_class: str = "auto",
        hinge_temperature: float = 0.5,
        fit_intercept: bool = True,
        norm_bound: float | None = None,
        tol: float = 1e-8,
        max_iter: int = 100,
        log_path: Any = None,
        state_path: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.loss = loss
        self.perturbation = perturbation
        self.noise_scale = noise_scale
        self.epsilon = epsilon
        self.delta = delta
        self.weighting = weighting
        self.weight_role = weight_role
        self.n_newton_steps = n_newton_steps
        self.weight_floor = weight_floor
        self.value_function = value_function
        self.value_update = value_update
        self.values_public = values_public
        self.update = update
        self.certificate = certificate
        self.accounting = accounting
        self.on_exhausted = on_exhausted
        self.reanchor_every = reanchor_every
        self.multi_class = multi_class
        self.hinge_temperature = hinge_temperature
        self.fit_intercept = fit_intercept
        self.norm_bound = norm_bound
        self.tol = tol
        self.max_iter = max_iter
        self.log_path = log_path
        self.state_path = state_path
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def decision_function(self, X: ArrayLike) -> Array:
        """Return scores: (n,) for two classes, positive for ``classes_[1]``; (n, K) otherwise.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        scores : ndarray
        """
        scores = self._linear_scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label of the largest score.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        labels : ndarray of shape (n,)
        """
        scores = self.decision_function(X)
        codes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]

    @available_if(_has_probabilities)
    def predict_proba(self, X: ArrayLike) -> Array:
        """Return class probabilities: softmax of the scores, or normalised sigmoids under "ovr".

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        probabilities : ndarray of shape (n, K)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.column_stack([expit(-scores), expit(scores)])
        if self._settings.scheme == "softmax":
            return softmax(scores, axis=1)
        positive = expit(scores)
        total = positive.sum(axis=1, keepdims=True)
        # All sigmoids can underflow; the row then says nothing, as one of K equal classes.
        return np.where(total > 0.0, positive / np.where(total > 0.0, total, 1.0), 1.0 / scores.shape[1])

    def _encode_targets(self, y: Any) -> tuple[NDArray[Any], int]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(f"y must have at least two classes; got {n_classes} class: {self.classes_[0]!r}")
        return (2.0 * codes - 1.0 if n_classes == 2 else codes.astype(np.int64)), n_classes

    def _decode_targets(self, y: NDArray[Any], *, built_in: bool) -> NDArray[Any]:
        codes = (y > 0).astype(np.int64) if len(self.classes_) == 2 else y
        return codes if built_in else self.classes_[codes]

    def _validation_codes(self, y_val: NDArray[Any]) -> NDArray[Any]:
        """Return class codes; a label that training has not seen becomes K, which agrees with no row."""
        code_of = {label: code for code, label in enumerate(self.classes_.tolist())}
        return np.array([code_of.get(label, len(code_of)) for label in y_val.tolist()], dtype=np.int64)

    def _set_parameters(self, theta: Array) -> None:
        table = theta.reshape(-1, self._rows.X.shape[1])
        d = self.n_features_in_
        self.coef_ = np.ascontiguousarray(table[:, :d])
        self.intercept_ = table[:, d].copy() if self.fit_intercept else np.zeros(len(table))
