"""Training to a stated gradient norm, and the way back to the optimum after deletions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.exceptions import ConvergenceWarning

from mlpapers.unlearning._factor import Factor
from mlpapers.unlearning._objective import Objective

Array = NDArray[np.float64]

# Above this many parameters an iteration does not factorise a Hessian.
_DIRECT_SIZE = 2000
_ARMIJO = 1e-4
# A chord step must shrink the gradient by this factor, or the Hessian is evaluated anew.
_CHORD_FACTOR = 0.1


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where training ended.

    Attributes
    ----------
    theta : ndarray of shape (p,)
    gradient_norm : float
        The exact norm at `theta`, never assumed to be zero.
    hessian : ndarray of shape (p, p)
        At `theta`.
    factor : Factor
        Of `hessian`.
    n_iter : int
    """

    theta: Array
    gradient_norm: float
    hessian: Array
    factor: Factor
    n_iter: int


def minimise(objective: Objective, start: Array, *, tol: float, max_iter: int) -> Minimum:
    """Newton's method with backtracking until ||gradient|| <= tol max(1, ||gradient at 0||).

    Above 2000 parameters L-BFGS goes ahead and the Newton directions come from conjugate gradients.

    Warns
    -----
    ConvergenceWarning
        Where `max_iter` iterations do not reach the tolerance; the gradient norm that is returned is exact
        all the same.
    """
    zero = np.zeros_like(start)
    target = tol * max(1.0, float(np.linalg.norm(objective.gradient(zero))))
    theta, n_iter = start, 0
    direct = objective.n_parameters <= _DIRECT_SIZE
    if not direct:
        theta, n_iter = _lbfgs(objective, theta, target, max_iter)
    Z = objective.loss.scores(objective.X, theta)
    gradient = objective.gradient(theta, Z)
    norm = float(np.linalg.norm(gradient))
    newton_steps = 0
    while norm > target and newton_steps < max_iter:
        newton_steps += 1
        if direct:
            step = -Factor.of(objective.hessian(theta, Z)).solve(gradient)
        else:
            step = -_conjugate_gradients(objective, Z, gradient, norm)
        moved = _line_search(objective, theta, Z, gradient, step, norm)
        if moved is None:  # at rounding level no step makes progress
            break
        theta, Z, gradient, norm = moved
    if norm > target:
        warnings.warn(
            f"training stopped at gradient norm {norm:.3g}, above tol's {target:.3g}, after "
            f"{newton_steps} Newton steps (max_iter={max_iter})",
            ConvergenceWarning,
            stacklevel=2,
        )
    H = objective.hessian(theta, Z)
    return Minimum(theta, norm, H, Factor.of(H), n_iter + newton_steps)


def return_to_optimum(
    objective: Objective, theta: Array, factor: Factor, *, tol: float, max_iter: int
) -> Minimum:
    """Warm-started retraining: chord steps with a cached factor, then `minimise` where they are slow."""
    zero = np.zeros_like(theta)
    target = tol * max(1.0, float(np.linalg.norm(objective.gradient(zero))))
    Z = objective.loss.scores(objective.X, theta)
    gradient = objective.gradient(theta, Z)
    norm = float(np.linalg.norm(gradient))
    n_iter = 0
    while norm > target:
        candidate = theta - factor.solve(gradient)
        Z_new = objective.loss.scores(objective.X, candidate)
        gradient_new = objective.gradient(candidate, Z_new)
        norm_new = float(np.linalg.norm(gradient_new))
        if norm_new > _CHORD_FACTOR * norm and norm_new > target:
            better = candidate if norm_new < norm else theta
            minimum = minimise(objective, better, tol=tol, max_iter=max_iter)
            return Minimum(
                minimum.theta, minimum.gradient_norm, minimum.hessian, minimum.factor, n_iter + minimum.n_iter
            )
        theta, Z, gradient, norm = candidate, Z_new, gradient_new, norm_new
        n_iter += 1
    H = objective.hessian(theta, Z)
    return Minimum(theta, norm, H, Factor.of(H), n_iter)


def _line_search(
    objective: Objective, theta: Array, Z: Array, gradient: Array, step: Array, norm: float
) -> tuple[Array, Array, Array, float] | None:
    value = objective.value(theta, Z)
    slope = float(gradient @ step)
    Z_step = objective.loss.scores(objective.X, step)
    # Near the optimum the decrease drowns in the rounding of F; there the gradient decides.
    rounding = 16.0 * np.finfo(float).eps * abs(value)
    t = 1.0
    for _ in range(40):
        candidate, Z_new = theta + t * step, Z + t * Z_step
        decrease = value - objective.value(candidate, Z_new)
        if decrease >= -_ARMIJO * t * slope or decrease >= -rounding:
            # Scores are recomputed: updated ones would carry the rounding of every step.
            Z_new = objective.loss.scores(objective.X, candidate)
            gradient_new = objective.gradient(candidate, Z_new)
            norm_new = float(np.linalg.norm(gradient_new))
            if decrease > rounding or norm_new < norm:
                return candidate, Z_new, gradient_new, norm_new
        t *= 0.5
    return None


def _lbfgs(objective: Objective, start: Array, target: float, max_iter: int) -> tuple[Array, int]:
    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        Z = objective.loss.scores(objective.X, theta)
        return objective.value(theta, Z), objective.gradient(theta, Z)

    # scipy stops on the largest entry; sqrt(p) times it bounds the norm.
    options = {"maxiter": 10 * max_iter, "gtol": target / np.sqrt(start.size), "ftol": 0.0, "maxls": 50}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return found.x, int(found.nit)


def _conjugate_gradients(objective: Objective, Z: Array, gradient: Array, norm: float) -> Array:
    p = gradient.size
    H = LinearOperator((p, p), matvec=lambda v: objective.hessian_product(Z, np.ravel(v)), dtype=np.float64)
    # The forcing term of an inexact Newton method that converges superlinearly.
    direction, _ = cg(H, gradient, rtol=min(0.1, norm**0.5, 1e-3), maxiter=4 * p)
    return direction
