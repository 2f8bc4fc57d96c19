"""A linear regressor that forgets rows with a certificate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from mlpapers.unlearning._unlearning import Unlearning
from mlpapers.unlearning.values import ValueFunction
from mlpapers.unlearning.weights import Strategy

__all__ = ["DVWURegressor"]

Array = NDArray[np.float64]


class DVWURegressor(RegressorMixin, Unlearning):
    r"""Data value-weighted unlearning for linear regression.

    As :class:`DVWUClassifier`, with the squared or the pseudo-Huber loss. For the squared loss the Hessian
    does not depend on the parameters, so one step removes rows exactly and spends nothing.

    Parameters
    ----------
    alpha : float, default=1.0
        Regularisation strength, absolute, intercept included; the squared loss is ``Ridge(alpha)`` on the
        retained rows with ``sample_weight=weights_``.
    loss : {"squared", "pseudo_huber"}, default="squared"
    perturbation, noise_scale, epsilon, delta, weighting, weight_role, n_newton_steps, weight_floor
        See :class:`DVWUClassifier`.
    value_function, value_update, values_public, update, certificate, accounting, on_exhausted, reanchor_every
        See :class:`DVWUClassifier`.
    huber_delta : float, default=1.0
        Residual at which the pseudo-Huber loss turns from quadratic to linear.
    fit_intercept, norm_bound, tol, max_iter, log_path, state_path, random_state, n_jobs, verbose
        See :class:`DVWUClassifier`.

    Attributes
    ----------
    coef_ : ndarray of shape (d,)
        Published parameters.
    intercept_ : float
    n_features_in_ : int
    weights_, data_values_ : ndarray of shape (n,)
        By original row number; 0 and NaN for removed rows.
    retain_indices_, forget_indices_ : ndarray of int
    residual_bound_, residual_budget_, budget_left_ : float
    norm_bound_, noise_scale_ : float
    certificate_ : Certificate
    n_iter_ : int
    log_ : DeletionLog or None

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> model = DVWURegressor(random_state=0).fit(X, X @ [1.0, 2.0])
    >>> model.unlearn([0, 1]).action
    'exact'
    """

    _LOSSES: ClassVar[tuple[str, ...]] = ("squared", "pseudo_huber")
    _NUMERIC_TARGETS: ClassVar[bool] = True

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        loss: str = "squared",
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
        huber_delta: float = 1.0,
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
        self.huber_delta = huber_delta
        self.fit_intercept = fit_intercept
        self.norm_bound = norm_bound
        self.tol = tol
        self.max_iter = max_iter
        self.log_path = log_path
        self.state_path = state_path
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def predict(self, X: ArrayLike) -> Array:
        """Return X coef + intercept.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        predictions : ndarray of shape (n,)
        """
        return self._linear_scores(X)

    def _encode_targets(self, y: Any) -> tuple[NDArray[Any], int]:
        return np.array(y, dtype=np.float64), 1

    def _decode_targets(self, y: NDArray[Any], *, built_in: bool) -> NDArray[Any]:  # noqa: ARG002 - targets are numbers
        return y.copy()

    def _validation_codes(self, y_val: NDArray[Any]) -> NDArray[Any]:
        return y_val.astype(np.float64)

    def _set_parameters(self, theta: Array) -> None:
        table = theta.ravel()
        d = self.n_features_in_
        self.coef_ = table[:d].copy()
        self.intercept_ = float(table[d]) if self.fit_intercept else 0.0
