r"""Removing rows from one trained problem: the steps, and what each leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.unlearning._factor import DOWNDATE_SIZE, Factor
from mlpapers.unlearning._newton import Minimum
from mlpapers.unlearning._objective import Objective
from mlpapers.unlearning.bounds import jacobian_slack, quadratic_bound, worst_case_bound
from mlpapers.unlearning.losses import Loss

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Solution:
    """One trained problem; arrays are never changed in place, so an old Solution stays what it was.

    Attributes
    ----------
    theta : ndarray of shape (p,)
        The parameters.
    theta_ref : ndarray of shape (p,)
        Where `hessian` was evaluated.
    hessian : ndarray of shape (p, p)
        Of the objective on the rows that are left, at `theta_ref`.
    factor : Factor
        Of `hessian`.
    b : ndarray of shape (p,) or None
        Noise vector of objective perturbation.
    residual : float
        Bound on the gradient norm at `theta`.
    slack : float
        Sum of the log-Jacobian bounds since the last anchor.
    mu : float
        Lower bound on the smallest eigenvalue of the Hessian at `theta`.
    n_updates : int
        Removals since `hessian` was last evaluated; each adds its rounding.
    dual : float
        Bound on the norm of the gradient in the metric of the inverse Hessian; infinite where only its length
        is bounded.
    """

    theta: Array
    theta_ref: Array
    hessian: Array
    factor: Factor
    b: Array | None
    residual: float
    slack: float
    mu: float
    n_updates: int = 0
    dual: float = math.inf

    @property
    def drift(self) -> Array | None:
        """`theta` - `theta_ref`, or None where the Hessian is current."""
        e = self.theta - self.theta_ref
        return e if e.any() else None


@dataclass(frozen=True, eq=False)
class Removal:
    """One step and its price.

    Attributes
    ----------
    solution : Solution
    step : ndarray of shape (p,)
        What was added to the parameters.
    slack : float
        Log-Jacobian bound of this step; NaN where the Hessian was stale or the map is another one.
    exact : float
        The exact gradient norm where it was computed, else NaN.
    """

    solution: Solution
    step: Array
    slack: float
    exact: float


@dataclass(frozen=True, eq=False)
class Setting:
    """What all steps of one problem share.

    Attributes
    ----------
    loss : Loss
    alpha : float
    B : float
        Bound on row norms.
    certificate : {"data_dependent", "worst_case", "exact"}
    track_mu : bool
        Whether parameter gaps matter (output perturbation), which needs an eigenvalue per anchor.
    """

    loss: Loss
    alpha: float
    B: float
    certificate: str
    track_mu: bool

    def smallest_eigenvalue(self, H: Array) -> float:
        """Return a lower bound on the smallest eigenvalue of a Hessian."""
        if not self.track_mu:
            return self.alpha
        eigenvalues = np.linalg.eigvalsh(H)
        # The computed eigenvalue may be off by a few roundings of the largest one.
        return max(self.alpha, float(eigenvalues[0] - 8.0 * len(H) * _EPS * eigenvalues[-1]))

    def with_exact_gradient(self, solution: Solution, gradient: Array) -> Solution:
        r"""Return `solution` with its gradient known, and where gaps matter the curvature along it.

        Within distance r of the point where it was evaluated the Hessian changes by factors
        :math:`e^{\pm c B r}`.
        """
        norm = float(np.linalg.norm(gradient))
        if not self.track_mu:
            return replace(solution, residual=norm)
        away = float(np.linalg.norm(solution.theta - solution.theta_ref))
        mu = max(solution.mu, self.shrink(self.smallest_eigenvalue(solution.hessian), away))
        there = math.sqrt(max(0.0, float(gradient @ solution.factor.solve(gradient))))
        dual = there * math.exp(0.5 * self.loss.constants.c * self.B * away)
        return replace(solution, residual=norm, mu=mu, dual=dual)

    def shrink(self, mu: float, distance: float) -> float:
        """Return what `mu` is still worth `distance` away: c B self-concordance shrinks it exponentially."""
        return max(self.alpha, mu * math.exp(-self.loss.constants.c * self.B * distance))


def anchored(setting: Setting, minimum: Minimum, b: Array | None) -> Solution:
    """Return the Solution at a trained point."""
    return Solution(
        theta=minimum.theta,
        theta_ref=minimum.theta,
        hessian=minimum.hessian,
        factor=minimum.factor,
        b=b,
        residual=minimum.gradient_norm,
        slack=0.0,
        mu=setting.smallest_eigenvalue(minimum.hessian),
    )


def at_current_point(setting: Setting, solution: Solution, objective: Objective) -> Solution:
    """Return `solution` with the Hessian of `objective` evaluated at its own parameters."""
    H = objective.hessian(solution.theta)
    return replace(
        solution,
        theta_ref=solution.theta,
        hessian=H,
        factor=Factor.of(H),
        mu=setting.smallest_eigenvalue(H),
        n_updates=0,
    )


def newton_removal(
    setting: Setting,
    solution: Solution,
    X: Array,
    y: NDArray[Any],
    w: Array,
    multipliers: Array | None,
    gram: Array,
    weight_retained: float,
) -> Removal:
    r"""Remove k rows with one Newton step, without a pass over the others.

    With slopes :math:`c_j = w_j s_j \phi'_j` at theta, curvatures :math:`S_j = w_j \phi''_j` at theta_ref,

    .. math:: H_R = H - X_U^\top \mathrm{diag}(S) X_U, \qquad \Delta = H_R^{-1} X_U^\top c

    For few rows of a large model, :math:`\Delta = Z (I - SK)^{-1} c` with :math:`Z = H^{-1} X_U^\top`,
    :math:`K = X_U Z`, and the factor of H is downdated.

    Parameters
    ----------
    X, y, w, multipliers
        The rows to remove, their targets, weights and forget multipliers (None: 1).
    gram : ndarray of shape (d, d)
        M of the rows that are left.
    weight_retained : float
        Sum of their weights.
    """
    loss = setting.loss
    drift = solution.drift
    Z_now = loss.scores(X, solution.theta)
    C = loss.slope(Z_now, y) * (w if loss.n_outputs == 1 else w[:, None])
    Z_ref = Z_now if drift is None else loss.scores(X, solution.theta_ref)
    S = loss.curvature(Z_ref, y)
    S *= w.reshape((-1,) + (1,) * (S.ndim - 1))

    first_order, weight_removed = 0.0, float(w.sum())
    if multipliers is not None:
        kept = 1.0 - multipliers
        first_order = float(np.linalg.norm(loss.pull(X, C * (kept if C.ndim == 1 else kept[:, None]))))
        C = C * (multipliers if C.ndim == 1 else multipliers[:, None])
        weight_removed = float(w @ multipliers)

    H = loss.gram(X, S)
    np.subtract(solution.hessian, H, out=H)  # in place: fresh memory costs more than the arithmetic
    p, rank = len(H), C.size
    leverage = math.nan
    if rank <= p and p >= DOWNDATE_SIZE:
        A = loss.lift(X)
        Z = solution.factor.solve(A)
        SK = loss.scale_rows(S, A.T @ Z)
        leverage = float(np.trace(SK))
        step = Z @ np.linalg.solve(np.eye(rank) - SK, C.ravel())
        factor = solution.factor.without(loss.root(X, S), H)
    else:
        # The factor of H_R is needed in any case; with it the step is one more solve.
        factor = Factor.of(H)
        step = factor.solve(loss.pull(X, C))
        if drift is None:
            leverage = _leverage(solution.factor, loss, X, S, solution.hessian, H)

    theta = solution.theta + step
    length = float(np.linalg.norm(step))
    # A backward stable solve, with a matrix that carries the rounding of earlier updates, errs by this much.
    rounding = _EPS * (3.0 * len(H) + solution.n_updates) * float(np.linalg.norm(H)) * length
    constants = setting.loss.constants
    if setting.certificate == "worst_case":
        distance = 0.0 if drift is None else float(np.linalg.norm(drift))
        bound = worst_case_bound(
            solution.residual,
            constants.L1,
            constants.L3,
            setting.B,
            setting.alpha,
            weight_removed,
            weight_retained,
            distance,
            first_order,
        )
    else:
        stale = 0.0 if drift is None else loss.energy(gram, drift)
        moved = loss.energy(gram, step)
        bound = quadratic_bound(solution.residual, constants.L3, setting.B, moved, stale, first_order)

    current = drift is None and multipliers is None
    slack = jacobian_slack(constants.c * setting.B * length, leverage, len(H)) if current else math.nan
    new = Solution(
        theta=theta,
        theta_ref=solution.theta_ref,
        hessian=H,
        factor=factor,
        b=solution.b,
        residual=bound + rounding,
        slack=solution.slack + slack,
        mu=_mu_after(setting, solution, X, y, w, Z_now, S if drift is None else None, length),
        n_updates=solution.n_updates + 1,
    )
    return Removal(new, step, slack, math.nan)


def _leverage(factor: Factor, loss: Loss, X: Array, S: Array, H: Array, H_R: Array) -> float:
    r"""Return :math:`\mathrm{tr}(SK) = \mathrm{tr}\, H^{-1} (H - H_R)`, from whichever is smaller."""
    k, outputs = len(X), loss.n_outputs
    if k * outputs > len(H):
        return factor.trace(H - H_R)
    A = loss.lift(X)
    columns = (len(H), k, outputs)
    blocks = np.einsum("pia,pib->iab", A.reshape(columns), factor.solve(A).reshape(columns))
    return float(np.vdot(S.reshape(k, outputs, outputs), blocks))


def _mu_after(
    setting: Setting,
    solution: Solution,
    X: Array,
    y: NDArray[Any],
    w: Array,
    Z: Array,
    S: Array | None,
    length: float,
) -> float:
    r"""Return :math:`\max(\alpha, e^{-cB\|\Delta\|} (\mu - \sum_U \lambda_{max}(S_j) \|x_j\|^2))`."""
    if not setting.track_mu:
        return setting.alpha
    if S is None:
        S = setting.loss.curvature(Z, y)
        S *= w.reshape((-1,) + (1,) * (S.ndim - 1))
    lost = float(setting.loss.largest_curvature(S) @ np.einsum("ij,ij->i", X, X))
    return setting.shrink(max(setting.alpha, solution.mu - lost), length)


def full_newton_steps(
    setting: Setting,
    solution: Solution,
    objective: Objective,
    gram: Array,
    weight_retained: float,
    n_steps: int,
    *,
    exact: bool,
) -> Removal:
    r"""Take Newton steps on `objective` with exact gradients and fresh Hessians, O(n d^2) each.

    The bound after the last step is that of a current Hessian and no earlier residual,
    :math:`\frac{L_3}{2} B\, \Delta^\top M \Delta`, or with `exact` the gradient norm itself.
    """
    theta = solution.theta
    for _ in range(n_steps):
        Z = objective.loss.scores(objective.X, theta)
        H = objective.hessian(theta, Z)
        factor = Factor.of(H)
        theta_ref, last = theta, -factor.solve(objective.gradient(theta, Z))
        theta = theta_ref + last
    length = float(np.linalg.norm(last))
    rounding = _EPS * 3.0 * len(H) * float(np.linalg.norm(H)) * length
    L3 = setting.loss.constants.L3
    exact = exact or setting.certificate == "exact"
    if setting.certificate == "worst_case":
        bound = (
            quadratic_bound(0.0, L3, setting.B, weight_retained * (setting.B * length) ** 2, 0.0, 0.0)
            + rounding
        )
    else:
        bound = quadratic_bound(0.0, L3, setting.B, setting.loss.energy(gram, last), 0.0, 0.0) + rounding
    new = Solution(
        theta=theta,
        theta_ref=theta_ref,
        hessian=H,
        factor=factor,
        b=solution.b,
        residual=bound,
        slack=math.nan,
        mu=setting.shrink(setting.smallest_eigenvalue(H), length),
    )
    if exact:
        new = setting.with_exact_gradient(new, objective.gradient(theta))
    return Removal(new, theta - solution.theta, math.nan, new.residual if exact else math.nan)


def descend(
    setting: Setting,
    start: Solution,
    hessian: Solution,
    objective: Objective,
    gram: Array,
    tol: float,
    max_iter: int,
) -> Removal:
    r"""Take gradient steps of length 2/(L + alpha) from `start`, :math:`L = L_2 \lambda_{max}(M_R) + \alpha`.

    Stops at the tolerance of training or after `max_iter` steps; the residual is exact. `hessian` holds the
    Hessian of `objective` at ``start.theta_ref``.
    """
    loss = setting.loss
    largest = float(np.linalg.eigvalsh(gram)[-1]) * (1.0 + 8.0 * len(gram) * _EPS)
    rate = 2.0 / (loss.constants.L2 * largest + 2.0 * setting.alpha)
    target = tol * max(1.0, float(np.linalg.norm(objective.gradient(np.zeros_like(start.theta)))))
    theta, gradient = start.theta, objective.gradient(start.theta)
    for _ in range(max_iter):
        if float(np.linalg.norm(gradient)) <= target:
            break
        theta = theta - rate * gradient
        gradient = objective.gradient(theta)
    moved = replace(hessian, theta=theta, slack=math.nan, mu=setting.alpha)
    new = setting.with_exact_gradient(moved, gradient)
    return Removal(new, theta - start.theta, math.nan, new.residual)
