"""Requests: atomic, logged, saved, repeatable."""

from __future__ import annotations

import copy
import dataclasses
import time
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mlpapers.unlearning._engine import Step
from mlpapers.unlearning._state import SavedState
from mlpapers.unlearning.result import UnlearningResult

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


class Unlearning(SavedState):
    """The public procedures of a fitted estimator."""

    def unlearn(self, indices: Any, *, request_id: str | None = None) -> UnlearningResult:
        """Remove rows and everything that depended on them.

        The model moves by one weighted Newton step; where the bound on what is left exceeds the budget that
        the noise pays for, the ladder returns to the optimum of the retained rows (or retrains). Our copy of
        the rows is overwritten; the arrays given to ``fit`` are the caller's to delete. On an error nothing
        has changed.

        Parameters
        ----------
        indices : array-like of int, or bool mask of shape (n,)
            Original row numbers, as in the X of ``fit``; earlier removals do not shift them. A mask is read
            by position, also that of pandas, whose index is not looked at.
        request_id : str, optional
            Name of the request. The same name with the same rows is answered with the first result and
            changes nothing. Default: a new name.

        Returns
        -------
        result : UnlearningResult

        Raises
        ------
        ValueError
            If `indices` is empty, repeats a row, names one that does not exist or is already removed, or
            names all that are left; if `request_id` was used for other rows.
        TypeError
            If `indices` are not integers, or `request_id` is no string.
        NotFittedError
            Before ``fit``.

        Notes
        -----
        With a log, the request is durable before the model changes and the commit follows when the state file
        (with ``state_path``) is replaced. If writing the commit fails after that, the error is raised, the
        rows are gone, and ``recover`` completes the log.
        """
        if "_model" not in vars(
            self
        ):  # what check_is_fitted asks, without the tenth of a request that it takes
            check_is_fitted(self, "_model")
        repeated = self._repeated(indices, request_id)
        if repeated is not None:
            return repeated
        self._rows.compact()
        ids = self._rows.check(indices)
        logged = False
        if request_id is None:
            request_id = self._new_request_id()
        elif self.log_ is not None:
            logged = self._is_pending(request_id, ids)
        return self._carry_out(ids, request_id, log_request=not logged, log_commit=True)

    def reanchor(self) -> UnlearningResult:
        """Return to the exact optimum of the retained rows, with the same noise vector; resets the bound.

        Returns
        -------
        result : UnlearningResult
            With no indices and action "reanchor".
        """
        check_is_fitted(self, "_model")
        return self._reanchor(self._new_request_id("reanchor"), log=True)

    def retrain(self, *, fresh_noise: bool = False) -> Self:
        """Train a new estimator from scratch on the retained rows, under their present weights.

        Parameters
        ----------
        fresh_noise : bool, default=False
            Draw new noise. Otherwise the new estimator has the same noise vector b (objective perturbation)
            or the same output noise, so that the two models differ only by what unlearning left over.

        Returns
        -------
        estimator : the same class, with the same classes and options, without log and state file
        """
        check_is_fitted(self, "_model")
        new = copy.copy(self)
        new.log_path = new.state_path = new.log_ = None
        new._requests = {}
        new._rows = copy.deepcopy(self._rows)
        event = self._model.event
        if fresh_noise:
            new._entropy = (
                np.random.SeedSequence().entropy if self.random_state is None else self._other_entropy()
            )
            noise = new._objective_noise(event)
        else:
            noise = [solution.b for solution in self._model.solutions]
        model, new.n_iter_ = new._engine.train(new._rows, new._rows.w, noise)
        new._model = dataclasses.replace(model, event=event, reweighted=self._model.reweighted)
        new._publish()
        if self.log_ is not None:
            self.log_.append("retrain", indices=[], **new._log_fields())
        return new

    def release(self) -> Any:
        """Return a scikit-learn model that holds the published parameters and nothing else.

        Returns
        -------
        model : LogisticRegression, LinearSVC, Ridge, or a Pipeline
            As :func:`mlpapers.unlearning.release.make_release` describes. It predicts what this estimator
            predicts, and carries no data, noise or bounds. A pipeline's first step needs this library.
        """
        from mlpapers.unlearning.release import make_release

        check_is_fitted(self, "_model")
        if self.log_ is not None:
            self.log_.append("release", indices=[], **self._log_fields())
        return make_release(self)

    def plan(self, n_deletions: int, *, batch_size: int = 1) -> pd.DataFrame:
        """Predict what deleting rows drawn at random will cost, before doing it.

        Parameters
        ----------
        n_deletions : int
            Rows to be deleted.
        batch_size : int, default=1
            Rows a request.

        Returns
        -------
        frame : DataFrame with one row per request: deletions, residual_bound, epsilon_spent, reanchors,
        seconds
            All cumulative but the bound and epsilon, which are those after the request.
        """
        from mlpapers.unlearning.plan import plan_deletions

        check_is_fitted(self, "_model")
        return plan_deletions(self._engine, self._model, self._rows, n_deletions, batch_size)

    def _repeated(self, indices: Any, request_id: str | None) -> UnlearningResult | None:
        """Return the stored result of a request that was already carried out."""
        if request_id is None:
            return None
        if not isinstance(request_id, str):
            raise TypeError(f"request_id must be a string or None; got {request_id!r}")
        if not request_id:
            raise ValueError(f"request_id must be a non-empty string; got {request_id!r}")
        stored = self._requests.get(request_id)
        if stored is None:
            return None
        asked = np.asarray(indices)
        if asked.dtype == bool:
            asked = np.flatnonzero(asked)
        if not np.array_equal(np.sort(asked.ravel()), np.sort(stored.indices)):
            raise ValueError(
                f"request_id {request_id!r} was used for other rows: {stored.indices.tolist()[:10]}"
            )
        if self.log_ is not None and self.log_.find(request_id)[0] is not None:
            self._log_commit(stored)
        return stored

    def _is_pending(self, request_id: str, ids: NDArray[np.int64]) -> bool:
        """Return whether the log holds this request already, not yet carried out."""
        assert self.log_ is not None
        record, committed = self.log_.find(request_id)
        if record is None:
            return False
        if sorted(record["indices"]) != sorted(ids.tolist()):
            raise ValueError(
                f"request_id {request_id!r} stands in the log for other rows: {record['indices'][:10]}"
            )
        if committed:
            raise ValueError(
                f"request_id {request_id!r} is committed in the log but not in this estimator; "
                "recover(estimator, log) brings it up to date"
            )
        return True

    def _new_request_id(self, word: str = "request") -> str:
        number = self._model.event + 1
        while True:
            name = f"{word}-{number}"
            if name not in self._requests and (self.log_ is None or self.log_.find(name)[0] is None):
                return name
            number += 1

    def _carry_out(
        self,
        ids: NDArray[np.int64],
        request_id: str,
        *,
        log_request: bool,
        log_commit: bool,
        save: bool = True,
    ) -> UnlearningResult:
        started = time.perf_counter()
        rows, previous = self._rows, self._model
        positions = rows.positions(ids)
        w_target, values = self._target_weights(positions)
        taken = rows.take(positions)
        weight_removed = float(taken["w"].sum())
        step = self._engine.remove(
            previous, rows, positions, taken, w_target, lambda: self._objective_noise(previous.event + 1)
        )
        if log_request and self.log_ is not None:
            self.log_.append("request", request_id=request_id, indices=ids.tolist())
        undo = rows.erase(positions, taken, w_target, values)
        try:
            self._model = step.model
            self._publish(step.account)
            result = self._make_result(request_id, ids, step, weight_removed, started)
            self._requests[request_id] = result
            if save and self.state_path is not None:
                self.save(self.state_path)
            elif log_commit:
                self._log_commit(result)
        except BaseException:
            rows.restore(undo)
            self._model = previous
            self._requests.pop(request_id, None)
            self._publish()
            raise
        if save and self.state_path is not None and log_commit:
            # The state file is replaced: from here on the rows are gone, and only the log may lag behind.
            self._log_commit(result)
        self._tell(result)
        return result

    def _reanchor(self, name: str, *, log: bool, save: bool = True) -> UnlearningResult:
        started = time.perf_counter()
        self._rows.compact()
        previous = self._model
        step = self._engine.reanchor(previous, self._rows, self._rows.w)
        none = np.empty(0, dtype=np.int64)
        try:
            self._model = step.model
            self._publish(step.account)
            result = self._make_result(name, none, step, 0.0, started)
            self._requests[name] = result
            if log and self.log_ is not None:
                self.log_.append("reanchor", request_id=name, indices=[], **self._log_fields())
            if save and self.state_path is not None:
                self.save(self.state_path)
        except BaseException:
            self._model = previous
            self._requests.pop(name, None)
            self._publish()
            raise
        self._tell(result)
        return result

    def _target_weights(self, positions: NDArray[np.int64]) -> tuple[Array | None, Array | None]:
        """Return new weights and values of all rows where this request changes them, else None twice."""
        settings, rows = self._settings, self._rows
        from_function = self.value_function is not None
        retain = settings.weight_role == "retain" and (from_function or not self._model.reweighted)
        if not retain and settings.value_update == "frozen":
            return None, None
        alive = rows.alive
        alive[positions] = False
        values: Array | None = None
        if from_function:
            values = self._compute_values(rows.X[alive], rows.y[alive])
        elif rows.values is not None:
            values = rows.values[alive]
        w = np.zeros(len(alive))
        weights: Array | float = 1.0 if values is None else self._training_weights(values)
        w[alive] = weights * rows.sample_weight[alive]
        if values is None:
            return w, None
        everywhere = np.full(len(alive), np.nan)
        everywhere[alive] = values
        return w, everywhere

    def _make_result(
        self, request_id: str, ids: NDArray[np.int64], step: Step, weight_removed: float, started: float
    ) -> UnlearningResult:
        account, settings = step.account, self._settings
        if account.kappa >= 1.0 and settings.perturbation == "output":
            warnings.warn(
                f"kappa = {account.kappa:.3g} >= 1: the parameter gap is bounded by rho/alpha only",
                RuntimeWarning,
                stacklevel=4,
            )
        if step.too_long:
            warnings.warn(
                "the step was too long (eta >= 1) for a bound on its log-Jacobian; accounting='strict' "
                "counts it as infinite, which exhausts the budget",
                RuntimeWarning,
                stacklevel=4,
            )
        return UnlearningResult(
            request_id=request_id,
            indices=ids,
            n_removed=len(ids),
            n_remaining=self._rows.n_alive,
            action=step.action,
            certified=account.certified and (settings.perturbation != "none" or step.action == "exact"),
            epsilon=settings.epsilon,
            delta=settings.delta,
            epsilon_spent=account.epsilon_spent,
            residual_norm=step.residual_norm,
            residual_bound=account.residual_bound,
            residual_budget=account.residual_budget,
            budget_left=account.residual_budget - account.residual_bound,
            parameter_gap_bound=account.gap_bound,
            gap_budget=account.gap_budget,
            noise_scale=settings.noise_scale,
            perturbation=settings.perturbation,
            step_norm=step.step_norm,
            weight_removed=weight_removed,
            jacobian_slack=step.slack,
            scope=self._scope,
            seconds=time.perf_counter() - started,
        )

    def _log_commit(self, result: UnlearningResult) -> None:
        """Append the commit of `result` unless the log has it."""
        if self.log_ is None or self.log_.find(result.request_id)[1]:
            return
        self.log_.append(
            "commit",
            request_id=result.request_id,
            indices=result.indices.tolist(),
            action=result.action,
            **self._log_fields(),
        )

    def _other_entropy(self) -> list[int]:
        """Return seed material for fresh noise that is reproducible under a fixed random_state."""
        child = np.random.SeedSequence(self._entropy, spawn_key=(self._model.event, 1))
        return [int(word) for word in child.generate_state(4)]

    def _tell(self, result: UnlearningResult) -> None:
        if self.verbose:
            print(
                f"[{type(self).__name__}] {result.request_id}: {result.n_removed} rows, {result.action}, "
                f"bound {result.residual_bound:.3g} of {result.residual_budget:.3g}, "
                f"epsilon {result.epsilon_spent:.3g}"
            )
