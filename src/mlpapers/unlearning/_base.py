"""What both estimators share: fitting, publishing, and the views of the state."""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mlpapers.core.validation import check_matrix, check_real, seed_sequence
from mlpapers.unlearning._account import Account
from mlpapers.unlearning._engine import Engine, Model
from mlpapers.unlearning._rows import Rows
from mlpapers.unlearning._settings import check_settings
from mlpapers.unlearning.certificate import Certificate, find_scope, make_certificate
from mlpapers.unlearning.log import DeletionLog
from mlpapers.unlearning.result import UnlearningResult
from mlpapers.unlearning.values import find_value_function
from mlpapers.unlearning.weights import check_values, weights_of

Array = NDArray[np.float64]

# Entries of X up to which no bound overflows, the highest power in which is the fourth.
_LARGEST = 1e50


class FittedState(BaseEstimator, ABC):
    """Training, the published parameters, and the state behind them.

    The state is explicit: `_rows` (our own copy of the data), `_model` (secret parameters, Hessians, noise
    vectors), `_requests` (results by request id), `_entropy` (seed material of the noise). `_model` is
    replaced, never changed.
    """

    _LOSSES: ClassVar[tuple[str, ...]]
    _NUMERIC_TARGETS: ClassVar[bool]
    _rows: Rows
    _model: Model
    _engine: Engine
    _requests: dict[str, UnlearningResult]
    _account: Account
    coef_: Array
    intercept_: Any

    @abstractmethod
    def _encode_targets(self, y: Any) -> tuple[NDArray[Any], int]:
        """Return y as the losses expect it, and the number of classes (1 for regression)."""

    @abstractmethod
    def _decode_targets(self, y: NDArray[Any], *, built_in: bool) -> NDArray[Any]:
        """Return targets as the caller gave them (as codes for the library's own value functions)."""

    @abstractmethod
    def _validation_codes(self, y_val: NDArray[Any]) -> NDArray[Any]:
        """Return validation targets for the library's own value functions."""

    @abstractmethod
    def _set_parameters(self, theta: Array) -> None:
        """Set coef_ and intercept_ from published parameters (n_problems, p)."""

    @abstractmethod
    def save(self, path: Any) -> Any:
        """Write the whole state to a file."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        data_values: Any = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train to the stated gradient norm.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Copied; the copy is what requests erase.
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional
            Non-negative; multiplies the weights after these are divided by their mean.
        data_values : array-like of shape (n,) or a valuer, or its result, optional
        X_val, y_val : array-like, optional
            Validation data for `value_function`. They are kept, and are not covered by requests.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described.
        FileExistsError
            If `log_path` or `state_path` is a file of another model.
        """
        started = time.perf_counter()
        params: dict[str, Any] = self.get_params(deep=False)
        check_settings(params, self._LOSSES)
        self._check_files()
        if sparse.issparse(X):
            raise TypeError("X must be dense; got a sparse container (use X.toarray())")
        rows, labels = validate_data(self, X, y, dtype=np.float64, y_numeric=self._NUMERIC_TARGETS)
        if (largest := float(np.abs(rows).max())) > _LARGEST:
            raise ValueError(f"X is too large, its bounds overflow: an entry of size {largest:.3g}; scale it")
        targets, n_classes = self._encode_targets(labels)
        n, d = rows.shape
        self._settings = check_settings(
            params, self._LOSSES, n_classes=n_classes, n_features=d + int(params["fit_intercept"])
        )
        weight = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, copy=True, ensure_non_negative=True
        )
        self._check_norm_bound()
        design = self._design(rows)
        self.norm_bound_ = self._largest_norm(design)
        self.noise_scale_ = self._settings.noise_scale
        self._X_val, self._y_val = self._check_validation_data(X_val, y_val, d)
        self._entropy = seed_sequence(self.random_state).entropy
        self._requests = {}
        self._engine = Engine(self._settings, self.norm_bound_, self.n_jobs)
        values = self._first_values(design, targets, data_values)
        w, multipliers = self._first_weights(values, weight)
        self._has_values = values is not None or self.value_function is not None
        self._rows = Rows(design, targets, w, weight, values, multipliers)
        self._model, self.n_iter_ = self._engine.train(self._rows, w, self._objective_noise(0))
        self._publish()
        self._own_files()
        self.log_ = None if self.log_path is None else DeletionLog(self.log_path)
        if self.state_path is not None:
            self.save(self.state_path)
        if self.log_ is not None:
            self.log_.append("fit", indices=[], **self._log_fields())
        if self.verbose:
            print(
                f"[{type(self).__name__}] trained on {n} rows in {self.n_iter_} iterations, gradient norm "
                f"{self._account.residual_bound:.3g}, {time.perf_counter() - started:.2f} s"
            )
        return self

    def _check_files(self) -> None:
        """Refuse files that another model has written; a clone, in cross-validation say, is another model."""
        for name in ("log_path", "state_path"):
            given = getattr(self, name)
            if given is None or (path := Path(given).resolve()) in getattr(self, "_files", ()):
                continue
            if path.is_file() and path.stat().st_size > 0:
                raise FileExistsError(
                    f"{name}={str(given)!r} is the file of another model: load that one and go on, or give "
                    f"another {name}, or None where nothing is to be written (set_params({name}=None))"
                )

    def _own_files(self) -> None:
        self._files = {Path(name).resolve() for name in (self.log_path, self.state_path) if name is not None}

    def _check_norm_bound(self) -> None:
        if self.norm_bound is None:
            return
        low = 1.0 if self.fit_intercept else 0.0
        check_real("norm_bound", self.norm_bound, low=low, closed="neither")

    def _design(self, X: Array) -> Array:
        """Return our own rows: scaled down to the norm bound where one is set, with the constant column."""
        n, d = X.shape
        design = np.empty((n, d + int(self.fit_intercept)))
        design[:, :d] = X
        if self.fit_intercept:
            design[:, d] = 1.0
        if self.norm_bound is not None:
            design[:, :d] *= self._row_scale(X)[:, None]
        return design

    def _row_scale(self, X: Array) -> Array:
        """Return factors <= 1 that bring rows, constant column included, within the norm bound."""
        longest = math.sqrt(self.norm_bound**2 - float(self.fit_intercept))
        norms = np.sqrt(np.einsum("ij,ij->i", X, X))
        return longest / np.maximum(norms, longest)

    def _largest_norm(self, design: Array) -> float:
        if self.norm_bound is not None:
            return float(self.norm_bound)
        largest = math.sqrt(float(np.einsum("ij,ij->i", design, design).max()))
        return largest * (1.0 + 1e-14)  # a bound must not lose to the rounding of its own sum

    def _check_validation_data(
        self, X_val: Any, y_val: Any, d: int
    ) -> tuple[Array | None, NDArray[Any] | None]:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        if X_val is None:
            return None, None
        points = np.array(check_matrix("X_val", X_val, dtype=np.float64))
        labels = np.array(y_val)
        if points.shape[1] != d or labels.shape != (len(points),):
            raise ValueError(
                f"X_val and y_val must have shapes (M, {d}) and (M,); got {points.shape} and {labels.shape}"
            )
        if self.norm_bound is not None:
            points *= self._row_scale(points)[:, None]
        return points, labels

    def _first_values(self, design: Array, targets: NDArray[Any], data_values: Any) -> Array | None:
        function = self.value_function
        if function is not None:
            _, needs_validation = find_value_function(function)
            if data_values is not None:
                raise ValueError(
                    "data_values must be None where value_function is set: one of them gives the values"
                )
            if needs_validation and self._X_val is None:
                raise ValueError(f"value_function={function!r} needs X_val and y_val in fit; got None")
            if self._settings.weight_role == "retain":
                return None  # training is conventional; values are asked for when rows leave
            return self._compute_values(design, targets)
        if data_values is None:
            return None
        if self._settings.value_update == "recompute":
            raise ValueError(
                "value_update='recompute' needs value_function: values given as data_values cannot be "
                "recomputed"
            )
        return check_values("data_values", data_values, len(design)).copy()

    def _compute_values(self, design: Array, targets: NDArray[Any]) -> Array:
        function, built_in = find_value_function(self.value_function)
        X = design[:, :-1] if self.fit_intercept else design
        y_val = self._y_val
        if built_in and y_val is not None:
            y_val = self._validation_codes(y_val)
        values = function(X.copy(), self._decode_targets(targets, built_in=built_in), self._X_val, y_val)
        return check_values("value_function's values", values, len(design))

    def _first_weights(self, values: Array | None, weight: Array) -> tuple[Array, Array | None]:
        """Return the weights of the training objective and the multipliers of the forget role."""
        settings = self._settings
        if values is None or settings.weight_role == "retain":
            return weight.copy(), None
        if settings.weight_role == "forget":
            multipliers = weights_of(
                values, settings.weighting, floor=0.0, direction="decreasing", name="weighting"
            )
            return weight.copy(), multipliers
        return self._training_weights(values) * weight, None

    def _training_weights(self, values: Array) -> Array:
        """Return what values make of the weights of the training objective."""
        settings = self._settings
        return weights_of(
            values,
            settings.weighting,
            floor=settings.weight_floor,
            normalize=not settings.values_public,
            name="weighting",
        )

    def _rng(self, event: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(event,)))

    def _n_parameters(self) -> int:
        return self._rows.X.shape[1] * self._engine.loss.n_outputs

    def _objective_noise(self, event: int) -> list[Array | None]:
        """Return one noise vector b per problem, None unless the objective is perturbed."""
        settings = self._settings
        if settings.perturbation != "objective":
            return [None] * settings.n_problems
        shape = (settings.n_problems, self._n_parameters())
        return list(self._settings.noise_scale * self._rng(event).standard_normal(shape))

    def _publish(self, account: Account | None = None) -> None:
        """Set what may be published from the secret model; output noise is drawn by event."""
        theta = self._model.theta
        if self._settings.perturbation == "output":
            noise = self._rng(self._model.event).standard_normal(theta.shape)
            theta = theta + self._settings.noise_scale * noise
        self._account = self._engine.account(self._model) if account is None else account
        self._set_parameters(theta)

    @property
    def _theta(self) -> Array:
        """The secret parameters before output noise (n_problems, p)."""
        return self._model.theta

    @property
    def weights_(self) -> Array:
        """Weights in the current objective by original row number; 0 for removed rows."""
        check_is_fitted(self, "_model")
        return self._rows.by_original(self._rows.w, 0.0)

    @property
    def data_values_(self) -> Array | None:
        """Data values by original row number, NaN for removed rows; None without values."""
        check_is_fitted(self, "_model")
        values = self._rows.values
        return None if values is None else self._rows.by_original(values, math.nan)

    @property
    def retain_indices_(self) -> NDArray[np.int64]:
        """Original numbers of the rows that are left."""
        check_is_fitted(self, "_model")
        return self._rows.retained

    @property
    def forget_indices_(self) -> NDArray[np.int64]:
        """Original numbers of the rows that were removed."""
        check_is_fitted(self, "_model")
        return self._rows.removed

    @property
    def residual_bound_(self) -> float:
        """Bound on the gradient norm of the current objective."""
        check_is_fitted(self, "_model")
        return self._account.residual_bound

    @property
    def residual_budget_(self) -> float:
        """Gradient norm that the noise pays for; infinite without noise."""
        check_is_fitted(self, "_model")
        return self._account.residual_budget

    @property
    def budget_left_(self) -> float:
        """`residual_budget_` - `residual_bound_`."""
        check_is_fitted(self, "_model")
        return self._account.residual_budget - self._account.residual_bound

    @property
    def certificate_(self) -> Certificate:
        """The certificate of the model as it stands."""
        check_is_fitted(self, "_model")
        return make_certificate(self._settings, self._account, self._scope, valid=self._account.certified)

    @property
    def _scope(self) -> str:
        return find_scope(
            self._settings, has_values=self._has_values, from_function=self.value_function is not None
        )

    def exact_residual(self) -> float:
        """Return the gradient norm of the current objective, noise vector included; O(n d).

        Returns
        -------
        norm : float
            It describes the secret parameters: do not publish it.
        """
        check_is_fitted(self, "_model")
        return self._engine.residual(self._rows, self._model)

    def _log_fields(self) -> dict[str, Any]:
        account = self._account
        return {
            "params_digest": self._digest(),
            "residual_bound": _json_number(account.residual_bound),
            "budget": _json_number(account.residual_budget),
        }

    def _digest(self) -> str:
        """Return the sha256 of the published parameters."""
        published = np.ascontiguousarray(self.coef_).tobytes() + np.asarray(self.intercept_).tobytes()
        return hashlib.sha256(published).hexdigest()

    def _linear_scores(self, X: ArrayLike) -> Array:
        """Return X coef^T + intercept of validated rows, scaled down to the norm bound where one is set."""
        check_is_fitted(self, "_model")
        if sparse.issparse(X):
            raise TypeError("X must be dense; got a sparse container (use X.toarray())")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        if self.norm_bound is not None:
            rows = rows * self._row_scale(rows)[:, None]
        return rows @ self.coef_.T + self.intercept_


def _json_number(value: float) -> float | None:
    """Return a finite number, None for an infinite budget: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None
