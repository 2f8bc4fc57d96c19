r"""Bounds on how far an unlearned model is from the model retrained without the rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_choice, check_real

__all__ = ["jacobian_slack", "parameter_gap_bound", "residual_bound"]


def residual_bound(
    kind: str,
    *,
    constants: Sequence[float] | None = None,
    B: float = 1.0,
    rho: float = 0.0,
    first_order: float = 0.0,
    step: ArrayLike | None = None,
    gram: ArrayLike | None = None,
    drift: ArrayLike | None = None,
    alpha: float | None = None,
    weight_removed: float | None = None,
    weight_retained: float | None = None,
    gradient: ArrayLike | None = None,
) -> float:
    r"""Bound the norm of the gradient of the retained objective after one removal step.

    With :math:`M_R = \sum_R w_i x_i x_i^\top`, step :math:`\Delta`, drift :math:`e` = parameters before the
    step minus the point where the Hessian was evaluated, and :math:`b_1` the part of the forget gradient that
    was not removed,

    .. math::
        \rho_{new} \le \rho + \frac{L_3}{2} B\, \Delta^\top M_R \Delta
        + L_3 B \sqrt{e^\top M_R e}\, \sqrt{\Delta^\top M_R \Delta} + b_1 \qquad \text{("data\_dependent")}

    .. math::
        \rho_{new} \le \rho + \frac{L_3}{2} B^3 W_R\, s^2 + L_3 B^3 W_R \|e\|\, s + b_1, \qquad
        s = \frac{W_U L_1 B}{\alpha} \qquad \text{("worst\_case")}

    and "exact" is the norm of `gradient` itself. Derivation: Taylor's remainder of each row's gradient is at
    most :math:`\frac{L_3}{2} (x_i^\top \Delta)^2 \|x_i\|`, a Hessian evaluated e away errs by at most
    :math:`L_3 |x_i^\top e|\, |x_i^\top \Delta|\, \|x_i\|`; sum with Cauchy-Schwarz. "worst_case" replaces
    :math:`\|\Delta\|` by s and :math:`\|M_R\|` by :math:`W_R B^2`.

    Parameters
    ----------
    kind : {"data_dependent", "worst_case", "exact"}
    constants : (L1, L2, L3, c)
        Of the loss, e.g. ``LOSS_CONSTANTS["log_loss"]``; needed unless "exact".
    B : float, default=1.0
        Bound on the norm of every row.
    rho : float, default=0.0
        Bound on the gradient norm before the step.
    first_order : float, default=0.0
        :math:`b_1`.
    step : array-like of shape (p,)
        :math:`\Delta` ("data_dependent"); for K classes K d numbers, class by class.
    gram : array-like of shape (d, d)
        :math:`M_R` ("data_dependent").
    drift : array-like of shape (p,), optional
        e; None where the Hessian is current.
    alpha : float > 0
        Regularisation strength ("worst_case").
    weight_removed, weight_retained : float
        :math:`W_U` (with multipliers) and :math:`W_R` ("worst_case").
    gradient : array-like of shape (p,)
        The gradient after the step ("exact"), with the noise vector of objective perturbation added.

    Returns
    -------
    bound : float

    Raises
    ------
    ValueError, TypeError
        For an unknown kind, or an argument that this kind needs and that is missing or out of range.

    Examples
    --------
    >>> round(
    ...     residual_bound("data_dependent", constants=(1, 0.25, 0.1, 1), step=[2.0], gram=[[3.0]], rho=0.5),
    ...     6,
    ... )
    1.1
    """
    check_choice("kind", kind, ("data_dependent", "worst_case", "exact"))
    if kind == "exact":
        return float(np.linalg.norm(_vector("gradient", gradient)))
    L1, _, L3, _ = _constants(constants)
    check_real("B", B, low=0.0)
    check_real("rho", rho, low=0.0)
    check_real("first_order", first_order, low=0.0)
    if kind == "data_dependent":
        M = np.asarray(_given("gram", gram), dtype=np.float64)
        if M.ndim != 2 or M.shape[0] != M.shape[1]:
            raise ValueError(f"gram must be a square matrix; got shape {M.shape}")
        moved = _energy("step", step, M)
        stale = 0.0 if drift is None else _energy("drift", drift, M)
        return quadratic_bound(rho, L3, B, moved, stale, first_order)
    alpha = check_real("alpha", _given("alpha", alpha), low=0.0, closed="neither")
    W_U = check_real("weight_removed", _given("weight_removed", weight_removed), low=0.0)
    W_R = check_real("weight_retained", _given("weight_retained", weight_retained), low=0.0)
    distance = 0.0 if drift is None else float(np.linalg.norm(_vector("drift", drift)))
    return worst_case_bound(rho, L1, L3, B, alpha, W_U, W_R, distance, first_order)


def quadratic_bound(rho: float, L3: float, B: float, moved: float, stale: float, first_order: float) -> float:
    r"""Return :math:`\rho + \frac{L_3}{2} B q + L_3 B \sqrt{e^\top M e} \sqrt q + b_1` for q = `moved`."""
    moved, stale = max(moved, 0.0), max(stale, 0.0)
    return rho + L3 * B * (0.5 * moved + math.sqrt(stale * moved)) + first_order


def worst_case_bound(
    rho: float,
    L1: float,
    L3: float,
    B: float,
    alpha: float,
    weight_removed: float,
    weight_retained: float,
    drift: float,
    first_order: float,
) -> float:
    """Return the bound that looks at no data; see :func:`residual_bound`."""
    if L3 == 0.0:  # the squared loss: L1 is infinite, and there is nothing to bound
        return rho + first_order
    step = weight_removed * L1 * B / alpha
    return rho + L3 * B**3 * weight_retained * step * (0.5 * step + drift) + first_order


def parameter_gap_bound(
    rho: float, *, alpha: float, mu: float | None = None, B: float = 1.0, c: float = 0.0
) -> float:
    r"""Bound the distance to the exact minimiser from the norm of the gradient.

    .. math:: \|\theta - \theta^*\| \le \min\Big(\frac\rho\alpha,\; \frac{-\log(1 - \kappa)}{c B}\Big), \qquad
              \kappa = \frac{c B \rho}{\mu}

    The second only for :math:`\kappa < 1`; it is :math:`\rho/\mu` for c = 0.

    Parameters
    ----------
    rho : float >= 0
        Gradient norm.
    alpha : float > 0
        Strong convexity of the objective everywhere.
    mu : float, optional
        Lower bound on the smallest eigenvalue of the Hessian at theta; default `alpha`.
    B : float, default=1.0
        Bound on the norm of every row.
    c : float, default=0.0
        Generalised self-concordance of the loss.

    Returns
    -------
    bound : float

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Warns
    -----
    RuntimeWarning
        Where kappa >= 1, so that only rho/alpha is left.

    References
    ----------
    .. [1] Bach, "Self-concordant analysis for logistic regression", Electronic Journal of Statistics 4
       (2010), Proposition 1 and its proof.

    Examples
    --------
    >>> parameter_gap_bound(0.5, alpha=2.0)
    0.25
    >>> round(parameter_gap_bound(0.5, alpha=1.0, mu=10.0, c=1.0), 4)
    0.0513
    """
    check_real("rho", rho, low=0.0)
    check_real("alpha", alpha, low=0.0, closed="neither")
    if mu is not None:
        check_real("mu", mu, low=0.0, closed="neither")
    check_real("B", B, low=0.0)
    check_real("c", c, low=0.0)
    bound, kappa = gap_and_kappa(rho, alpha, alpha if mu is None else mu, B, c)
    if kappa >= 1.0:
        warn_kappa(kappa)
    return bound


def gap_and_kappa(
    rho: float, alpha: float, mu: float, B: float, c: float, dual: float = math.inf
) -> tuple[float, float]:
    r"""Return the bound of :func:`parameter_gap_bound` and kappa, without a warning.

    `dual` bounds :math:`\|u\|_{H^{-1}}` of the residual vector u where that is known; it replaces
    :math:`\rho/\sqrt\mu`, so that :math:`\kappa = c B \|u\|_{H^{-1}}/\sqrt\mu`.
    """
    distance = min(rho / mu, dual / math.sqrt(mu))
    kappa = c * B * distance
    if c * B == 0.0:
        return min(rho / alpha, distance), 0.0
    if kappa >= 1.0:
        return rho / alpha, kappa
    # The logarithm of 1 - kappa has no digits for tiny kappa; 1/(1 - kappa) is above the same ratio.
    excess = -math.log1p(-kappa) / kappa if kappa > 1e-8 else 1.0 / (1.0 - kappa)
    return min(rho / alpha, distance * excess), kappa


def warn_kappa(kappa: float) -> None:
    """Warn that only rho/alpha bounds the gap."""
    warnings.warn(
        f"kappa = c B rho / mu = {kappa:.3g} >= 1: the gap is bounded by rho/alpha only",
        RuntimeWarning,
        stacklevel=3,
    )


def residual_of_gap(gap: float, alpha: float, mu: float, B: float, c: float) -> float:
    """Return the largest gradient norm whose gap bound is at most `gap` (the inverse of `gap_and_kappa`)."""
    if c * B == 0.0:
        return gap * max(alpha, mu)
    turn = c * B * gap
    share = -math.expm1(-turn) / turn if turn > 1e-8 else 1.0 - turn
    return max(alpha * gap, mu * gap * share)


def jacobian_slack(eta: float, leverage: float, n_parameters: int) -> float:
    r"""Bound the log-Jacobian of one removal map, Hessian at the current point.

    .. math:: J \le \eta\, \mathrm{tr}(SK) + d' \big[-\ln(1 - \eta) - \eta + 2 (e^\eta - 1 - \eta)\big],
    \qquad
              \eta = c B \|\Delta\| < 1

    Infinite for eta >= 1.
    """
    if not eta < 1.0:
        return math.inf
    second_order = -math.log1p(-eta) - eta + 2.0 * (math.expm1(eta) - eta)
    return eta * leverage + n_parameters * second_order


def _constants(constants: Sequence[float] | None) -> tuple[float, float, float, float]:
    values = tuple(float(value) for value in _given("constants", constants))
    if len(values) != 4 or not all(value >= 0.0 for value in values):
        raise ValueError(f"constants must be four numbers >= 0, (L1, L2, L3, c); got {constants!r}")
    return values


def _given(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"{name} must be given for this kind of bound")
    return value


def _vector(name: str, value: ArrayLike | None) -> NDArray[np.float64]:
    return np.asarray(_given(name, value), dtype=np.float64).ravel()


def _energy(name: str, value: ArrayLike | None, M: NDArray[np.float64]) -> float:
    vector = _vector(name, value)
    if vector.size == 0 or vector.size % M.shape[0]:
        raise ValueError(f"{name} must have a multiple of {M.shape[0]} entries, as gram; got {vector.size}")
    D = vector.reshape(-1, M.shape[0])
    return float(np.vdot(D @ M, D))
