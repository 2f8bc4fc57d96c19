r"""What a model's residual costs in epsilon, and how much of the budget is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlpapers.unlearning._removal import Setting, Solution
from mlpapers.unlearning._settings import Settings
from mlpapers.unlearning.bounds import gap_and_kappa, residual_of_gap
from mlpapers.unlearning.mechanism import (
    epsilon_of_shift,
    gaussian_mechanism_ratio,
    strict_epsilon,
    strict_residual,
)


@dataclass(frozen=True)
class Account:
    """Bounds of all problems together, against the budget that the noise pays for.

    Attributes
    ----------
    residual_bound, residual_budget : float
        Gradient norm; the budget is infinite without noise.
    gap_bound, gap_budget : float
        Parameter distance; the budget is NaN unless the output is perturbed.
    epsilon_spent : float
        Infinite without noise, unless the removal was exact.
    within : bool
        Whether the bound that the certificate rests on is within its budget.
    certified : bool
        `within`, and there is noise or nothing to hide.
    kappa : float
        The largest kappa of the gap bounds; from 1 on only rho/alpha is left of them.
    """

    residual_bound: float
    residual_budget: float
    gap_bound: float
    gap_budget: float
    epsilon_spent: float
    within: bool
    certified: bool
    kappa: float


def make_account(
    settings: Settings, setting: Setting, solutions: Sequence[Solution], *, exact: bool, fresh: bool
) -> Account:
    """Return the Account of a model.

    Parameters
    ----------
    settings : Settings
    setting : Setting
    solutions : sequence of Solution
        One per problem; residuals and gaps combine as the norm of the joint vector.
    exact : bool
        Nothing but exact removals since training.
    fresh : bool
        The model is a run of the training procedure on the rows that are left: its distribution is the
        reference's.

    Raises
    ------
    ValueError
        If a residual is not finite.
    """
    alpha, B, c = setting.alpha, setting.B, setting.loss.constants.c
    rho = math.hypot(*(solution.residual for solution in solutions))
    if not math.isfinite(rho):
        raise ValueError(f"y is too large: the gradient overflows (residual {rho}); scale it")
    gaps = [gap_and_kappa(item.residual, alpha, item.mu, B, c, item.dual) for item in solutions]
    gap, kappa = math.hypot(*(bound for bound, _ in gaps)), max(value for _, value in gaps)
    sigma, epsilon, delta = settings.noise_scale, settings.epsilon, settings.delta
    budget, gap_budget, spent, within = math.inf, math.nan, math.inf, True
    if settings.perturbation == "output":
        gap_budget = sigma / gaussian_mechanism_ratio(epsilon, delta)
        # The gap bound is convex in rho and 0 at 0, so the joint residual under the smallest mu is on the
        # safe side.
        budget = residual_of_gap(gap_budget, alpha, min(solution.mu for solution in solutions), B, c)
        spent = epsilon_of_shift(delta, _ratio(gap, sigma))
        within = gap <= gap_budget
        if within:  # where the gradient vector is known, more than a bound on its length would allow
            budget = max(budget, rho)
    elif settings.perturbation == "objective":
        if settings.strict:
            n_parameters = sum(solution.theta.size for solution in solutions)
            slack = sum(solution.slack for solution in solutions)
            budget = strict_residual(epsilon, sigma, n_parameters, delta, slack)
            spent = strict_epsilon(rho, sigma, n_parameters, delta, slack)
        else:
            budget = sigma / gaussian_mechanism_ratio(epsilon, delta)
            spent = epsilon_of_shift(delta, _ratio(rho, sigma))
        within = rho <= budget
    if exact or fresh:
        spent, within = 0.0, True
    certified = within and (settings.perturbation != "none" or exact)
    return Account(rho, budget, gap, gap_budget, spent, within, certified, kappa)


def _ratio(shift: float, sigma: float) -> float:
    if sigma > 0.0:
        return shift / sigma
    return 0.0 if shift == 0.0 else math.inf
