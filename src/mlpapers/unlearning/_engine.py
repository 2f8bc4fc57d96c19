"""Training, removal and the way back: pure functions from one Model to the next."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.parallel import parallel_map
from mlpapers.unlearning._account import Account, make_account
from mlpapers.unlearning._newton import minimise, return_to_optimum
from mlpapers.unlearning._objective import Objective, weighted_gram
from mlpapers.unlearning._removal import (
    Removal,
    Setting,
    Solution,
    anchored,
    at_current_point,
    descend,
    full_newton_steps,
    newton_removal,
)
from mlpapers.unlearning._rows import Indices, Rows
from mlpapers.unlearning._settings import Settings
from mlpapers.unlearning.losses import Loss

Array = NDArray[np.float64]
Noise = Callable[[], "list[Array | None]"]


@dataclass(frozen=True, eq=False)
class Model:
    """The whole secret state that a request turns into the next.

    Attributes
    ----------
    solutions : tuple of Solution
        One, or one per class ("ovr").
    gram : ndarray of shape (d, d)
        M of the rows that are left, under their weights.
    weight_total : float
        Sum of those weights.
    n_since_anchor : int
        Rows removed since the last anchor.
    exact : bool
        Nothing but exact removals since training.
    fresh : bool
        The solutions are a run of the training procedure on exactly these rows.
    reweighted : bool
        Role "retain": whether the weights are in the objective yet.
    event : int
        Counts model changes; the noise of each is drawn from its own seed.
    """

    solutions: tuple[Solution, ...]
    gram: Array
    weight_total: float
    n_since_anchor: int = 0
    exact: bool = False
    fresh: bool = True
    reweighted: bool = False
    event: int = 0

    @property
    def theta(self) -> Array:
        """All parameters, one row per problem."""
        return np.stack([solution.theta for solution in self.solutions])


@dataclass(frozen=True, eq=False)
class Step:
    """The next Model, and what a result says about the way there.

    Attributes
    ----------
    model : Model
    account : Account
    action : {"newton", "descent", "exact", "reanchor", "retrain"}
    residual_norm : float
        Exact, NaN where it was not computed.
    step_norm : float
    slack : float
        Log-Jacobian bound of the removal, NaN where there is none.
    too_long : bool
        Strict accounting had no bound for the removal step, whatever was done about it.
    """

    model: Model
    account: Account
    action: str
    residual_norm: float
    step_norm: float
    slack: float
    too_long: bool = False


@dataclass(frozen=True, eq=False)
class Engine:
    """The procedures under one set of options.

    Attributes
    ----------
    settings : Settings
    B : float
        Bound on row norms.
    """

    settings: Settings
    B: float
    n_jobs: int | None = None

    @functools.cached_property
    def loss(self) -> Loss:
        """The loss of each problem."""
        return self.settings.make_loss()

    @functools.cached_property
    def setting(self) -> Setting:
        """What the steps share."""
        s = self.settings
        return Setting(self.loss, s.alpha, self.B, s.certificate, s.perturbation == "output")

    def targets(self, y: NDArray[Any], problem: int) -> NDArray[Any]:
        """Return the targets of `problem`: labels -1 and +1 of one class against the rest under "ovr"."""
        return np.where(y == problem, 1.0, -1.0) if self.settings.scheme == "ovr" else y

    def objective(self, rows: Rows, w: Array, problem: int, b: Array | None) -> Objective:
        """Return the objective of one problem."""
        return Objective(self.loss, rows.X, self.targets(rows.y, problem), w, self.settings.alpha, b)

    def train(self, rows: Rows, w: Array, noise: Sequence[Array | None]) -> tuple[Model, int]:
        """Train every problem from zero; return the Model and the largest number of iterations."""
        setting = self.setting
        p = rows.X.shape[1] * setting.loss.n_outputs

        def train_one(problem: int) -> tuple[Solution, int]:
            objective = self.objective(rows, w, problem, noise[problem])
            found = minimise(objective, np.zeros(p), tol=self.settings.tol, max_iter=self.settings.max_iter)
            return anchored(setting, found, noise[problem]), found.n_iter

        trained = parallel_map(
            train_one, range(self.settings.n_problems), n_jobs=self.n_jobs, prefer="threads"
        )
        solutions = tuple(solution for solution, _ in trained)
        model = Model(
            solutions,
            weighted_gram(rows.X, w),
            float(w.sum()),
            exact=self.settings.loss == "squared",
            fresh=True,
        )
        return model, max(n_iter for _, n_iter in trained)

    def account(self, model: Model) -> Account:
        """Return what `model` has spent and has left."""
        return make_account(
            self.settings, self.setting, model.solutions, exact=model.exact, fresh=model.fresh
        )

    def residual(self, rows: Rows, model: Model) -> float:
        """Return the exact gradient norm of all problems together."""
        norms = (
            float(np.linalg.norm(self.objective(rows, rows.w, problem, solution.b).gradient(solution.theta)))
            for problem, solution in enumerate(model.solutions)
        )
        return math.hypot(*norms)

    def remove(
        self,
        model: Model,
        rows: Rows,
        positions: Indices,
        taken: dict[str, NDArray[Any]],
        w_target: Array | None,
        noise: Noise,
    ) -> Step:
        """Remove the rows at `positions`.

        Parameters
        ----------
        taken : dict of ndarray
            What ``rows.take(positions)`` returned.
        w_target : ndarray of shape (m,) or None
            New weights of all rows (0 for removed ones); None where the weights of the others stay.
        noise : callable
            Draws the noise vectors of a retraining.
        """
        if w_target is None:
            next_model, removals = self._remove_frozen(model, rows, positions, taken)
            w = None
        else:
            next_model, removals = self._remove_reweighted(model, rows, w_target, len(positions))
            w = w_target
        next_model = replace(next_model, event=model.event + 1)
        step_norm = math.hypot(*(float(np.linalg.norm(removal.step)) for removal in removals))
        slack = sum(removal.slack for removal in removals)
        exact_norm = math.hypot(*(removal.exact for removal in removals))
        action = "exact" if next_model.exact else self.settings.update
        account = self.account(next_model)
        if not account.within and self.settings.perturbation == "output":
            next_model, account = self._with_better_mu(next_model)
        every = self.settings.reanchor_every
        due = every is not None and next_model.n_since_anchor >= every
        if account.within and not due:
            return Step(next_model, account, action, exact_norm, step_norm, slack)
        if w is None:
            w = rows.w.copy()
            w[positions] = 0.0
        too_long = self.settings.strict and math.isinf(slack)
        if due or self.settings.on_exhausted == "reanchor":
            step = self.reanchor(next_model, rows, w, start=model)
            if step.account.within:
                return replace(step, too_long=too_long)
        return replace(self._retrain(next_model, rows, w, noise, start=model), too_long=too_long)

    def reanchor(self, model: Model, rows: Rows, w: Array, *, start: Model | None = None) -> Step:
        """Return to the optimum of the rows under `w`, with the noise vector that the model has.

        `start` is the model that the step is measured from, default `model`, whose event then advances.
        """
        solutions = []
        for problem, solution in enumerate(model.solutions):
            found = return_to_optimum(
                self.objective(rows, w, problem, solution.b),
                solution.theta,
                solution.factor,
                tol=self.settings.tol,
                max_iter=self.settings.max_iter,
            )
            solutions.append(anchored(self.setting, found, solution.b))
        next_model = replace(
            model,
            solutions=tuple(solutions),
            n_since_anchor=0,
            exact=self.settings.loss == "squared",
            fresh=False,
            event=model.event if start is not None else model.event + 1,
        )
        return self._anchor_step(next_model, start if start is not None else model, "reanchor")

    def with_noise(self, model: Model, noise: Sequence[Array | None]) -> Model:
        """Return `model` with other noise vectors in its solutions (which it then no longer solves)."""
        solutions = (replace(solution, b=b) for solution, b in zip(model.solutions, noise))
        return replace(model, solutions=tuple(solutions))

    def _remove_frozen(
        self, model: Model, rows: Rows, positions: Indices, taken: dict[str, NDArray[Any]]
    ) -> tuple[Model, list[Removal]]:
        settings, setting, loss = self.settings, self.setting, self.loss
        X, w, multipliers = taken["X"], taken["w"], taken.get("multipliers")
        gram = weighted_gram(X, w)
        np.subtract(model.gram, gram, out=gram)
        weight_total = max(model.weight_total - float(w.sum()), 0.0)
        n_steps = settings.n_newton_steps or 1
        after: Array | None = None
        if settings.certificate == "exact" or settings.update == "descent" or n_steps > 1:
            after = rows.w.copy()
            after[positions] = 0.0
        removals = []
        for problem, solution in enumerate(model.solutions):
            if settings.strict and (solution.drift is not None or solution.n_updates):
                # The Jacobian bound holds for a Hessian at the current parameters only.
                before = self.objective(rows, rows.w, problem, solution.b)
                solution = at_current_point(setting, solution, before)
            y = self.targets(taken["y"], problem)
            removal = newton_removal(setting, solution, X, y, w, multipliers, gram, weight_total)
            if after is not None:
                objective = self.objective(rows, after, problem, solution.b)
                removal = self._refine(removal, solution, objective, gram, weight_total, n_steps)
            removals.append(removal)
        exact = model.exact and loss.name == "squared" and multipliers is None and settings.update == "newton"
        next_model = replace(
            model,
            solutions=tuple(removal.solution for removal in removals),
            gram=gram,
            weight_total=weight_total,
            n_since_anchor=model.n_since_anchor + len(positions),
            exact=exact,
            fresh=False,
        )
        return next_model, removals

    def _refine(
        self,
        removal: Removal,
        solution: Solution,
        objective: Objective,
        gram: Array,
        weight_total: float,
        n_steps: int,
    ) -> Removal:
        settings, setting = self.settings, self.setting
        if settings.update == "descent":
            updated = removal.solution
            return descend(setting, solution, updated, objective, gram, settings.tol, settings.max_iter)
        if n_steps > 1:
            more = full_newton_steps(
                setting, removal.solution, objective, gram, weight_total, n_steps - 1, exact=True
            )
            return replace(more, step=removal.step + more.step)
        gradient = objective.gradient(removal.solution.theta)
        known = setting.with_exact_gradient(removal.solution, gradient)
        return replace(removal, solution=known, exact=known.residual)

    def _remove_reweighted(
        self, model: Model, rows: Rows, w: Array, n_removed: int
    ) -> tuple[Model, list[Removal]]:
        settings, setting = self.settings, self.setting
        gram, weight_total = weighted_gram(rows.X, w), float(w.sum())
        retain = settings.weight_role == "retain"
        default_steps = 2 if retain and not model.reweighted else 1
        n_steps = settings.n_newton_steps or default_steps
        removals = []
        for problem, solution in enumerate(model.solutions):
            objective = self.objective(rows, w, problem, solution.b)
            if settings.update == "descent":
                at_start = at_current_point(setting, solution, objective)
                removals.append(
                    descend(setting, solution, at_start, objective, gram, settings.tol, settings.max_iter)
                )
            else:
                removals.append(
                    full_newton_steps(
                        setting, solution, objective, gram, weight_total, n_steps, exact=retain or n_steps > 1
                    )
                )
        next_model = replace(
            model,
            solutions=tuple(removal.solution for removal in removals),
            gram=gram,
            weight_total=weight_total,
            n_since_anchor=model.n_since_anchor + n_removed,
            exact=settings.loss == "squared" and settings.update == "newton",
            fresh=False,
            reweighted=True,
        )
        return next_model, removals

    def _with_better_mu(self, model: Model) -> tuple[Model, Account]:
        """Replace the cheap lower bounds on the curvature by eigenvalues, where those are better."""
        setting = self.setting
        solutions = []
        for solution in model.solutions:
            distance = float(np.linalg.norm(solution.theta - solution.theta_ref))
            mu = setting.shrink(setting.smallest_eigenvalue(solution.hessian), distance)
            solutions.append(replace(solution, mu=max(mu, solution.mu)))
        better = replace(model, solutions=tuple(solutions))
        return better, self.account(better)

    def _retrain(self, model: Model, rows: Rows, w: Array, noise: Noise, *, start: Model) -> Step:
        trained, _ = self.train(rows, w, noise())
        next_model = replace(trained, event=model.event, reweighted=model.reweighted)
        return self._anchor_step(next_model, start, "retrain")

    def _anchor_step(self, model: Model, start: Model, action: str) -> Step:
        moved = float(np.linalg.norm(model.theta - start.theta))
        account = self.account(model)
        return Step(model, account, action, account.residual_bound, moved, 0.0)
