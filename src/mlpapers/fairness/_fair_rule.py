"""From posteriors on a sample to the optimal fair rule: constraints, program, mixture, and what it costs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.fairness._checks import FairnessWarning
from mlpapers.fairness._correction import corrected
from mlpapers.fairness._mixture import LiteralRule, Rule, blind_mixture, cell_mixture
from mlpapers.fairness.constraints import (
    ConstraintOptions,
    ConstraintSystem,
    build_system,
    constraint_rows,
    mean_rates,
    rate_functionals,
)
from mlpapers.fairness.groups import GroupEncoding
from mlpapers.fairness.metrics import worst_of
from mlpapers.fairness.rule import paper_functional
from mlpapers.fairness.solver import FairLPResult, solve_fair_lp

__all__ = ["FairRule", "Posteriors", "RuleSettings", "find_rule"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_TIED = 1e-7


class Posteriors(NamedTuple):
    """A sample with its estimated posteriors."""

    joint: Array  # (n, M, 2)
    eta: Array  # (n,)
    y: Codes  # (n,)
    weights: Array  # (n,), of sum 1
    encoding: GroupEncoding


class RuleSettings(NamedTuple):
    """What is asked of the rule, checked."""

    options: ConstraintOptions
    groups: str
    aware: bool
    cost: float
    correction: str
    multipliers: Any
    min_group_count: int
    solver: str
    tol: float


@dataclass(frozen=True, eq=False)
class FairRule:
    """The rule, how it came about, and how it does on the sample that it was found on."""

    rule: Rule
    system: ConstraintSystem
    functional: Array  # W (M, 2) with Q(x) = sum gamma W
    base_rates: Array
    encoding: GroupEncoding
    solution: FairLPResult | None
    multipliers: pd.Series
    shadow_price: float
    dropped: list[tuple[str, str]]
    tie_mass: float = float("nan")
    accuracy: float = float("nan")
    price: float = float("nan")
    violation: float = float("nan")

    def margin(self, joint: Array, eta: Array, cost: float) -> Array:
        """Return H = eta - c - Q."""
        return eta - cost - np.tensordot(joint, self.functional, axes=2)

    def group_functionals(self) -> list[tuple[tuple[str, Any], Array]]:
        """Return the part of Q that each notion and group is responsible for, as (label, W)."""
        if self.solution is None:
            options, lam = self.system.options, self.multipliers.to_numpy()
            return [
                (label, _literal_functional(np.where(np.arange(len(lam)) == k, lam, 0.0), self, options))
                for k, label in enumerate(self.multipliers.index)
            ]
        terms = self.multipliers.to_numpy()[:, None, None] * self.system.functionals
        rows = self.system.labels.groupby(["block", "group"], sort=False).indices
        return [(label, terms[members].sum(axis=0)) for label, members in rows.items()]


def find_rule(posteriors: Posteriors, settings: RuleSettings, neighbour: FairRule | None = None) -> FairRule:
    """Return the optimal fair rule on a sample.

    Parameters
    ----------
    posteriors : Posteriors
    settings : RuleSettings
    neighbour : FairRule, optional
        The rule of a neighbouring problem; its multipliers are the start where its rows mean the same.

    Raises
    ------
    ValueError
        Where no group is large enough, or given multipliers do not fit.
    """
    encoding = posteriors.encoding.with_groups(settings.groups)
    posteriors = posteriors._replace(encoding=encoding)
    base_rates = mean_rates(posteriors.joint, posteriors.weights)
    keep, dropped = _constrained_groups(posteriors, settings, base_rates)
    system = build_system(base_rates, encoding.membership, settings.options, names=encoding.names, keep=keep)
    if settings.multipliers is not None:
        found = _literal_rule(system, encoding, base_rates, settings, dropped)
    else:
        found = _optimal_rule(system, posteriors, base_rates, settings, keep, dropped, neighbour)
    return _measured(found, posteriors, settings)


def _literal_rule(
    system: ConstraintSystem,
    encoding: GroupEncoding,
    base_rates: Array,
    settings: RuleSettings,
    dropped: list[tuple[str, str]],
) -> FairRule:
    blocks = settings.options.blocks
    lam = _given_multipliers(settings.multipliers, len(encoding.names), len(blocks))
    index = pd.MultiIndex.from_product([blocks, encoding.names], names=["block", "group"])
    found = FairRule(
        rule=LiteralRule(np.zeros_like(base_rates), settings.cost, lam),
        system=system,
        functional=np.zeros_like(base_rates),
        base_rates=base_rates,
        encoding=encoding,
        solution=None,
        multipliers=pd.Series(lam, index=index, name="multiplier"),
        shadow_price=float("nan"),
        dropped=dropped,
    )
    W = _literal_functional(lam, found, settings.options)
    return replace(found, rule=LiteralRule(W, settings.cost, lam), functional=W)


def _literal_functional(lam: Array, found: FairRule, options: ConstraintOptions) -> Array:
    return paper_functional(
        lam,
        found.encoding.membership,
        found.base_rates,
        blocks=options.blocks,
        measure=options.measure,
        tolerance=options.tolerance,
    )


def _given_multipliers(multipliers: Any, n_groups: int, n_blocks: int) -> Array:
    try:
        lam = np.asarray(multipliers, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"multipliers must be finite numbers; got {multipliers!r}") from None
    if lam.size == n_groups:
        lam = np.tile(lam, n_blocks)
    if lam.size != n_groups * n_blocks or not np.isfinite(lam).all():
        raise ValueError(
            f"multipliers must be {n_groups} finite numbers, one per group, or {n_blocks * n_groups}, one "
            f"per notion and group; got {multipliers!r}"
        )
    return lam


def _optimal_rule(
    system: ConstraintSystem,
    posteriors: Posteriors,
    base_rates: Array,
    settings: RuleSettings,
    keep: list[NDArray[np.bool_]],
    dropped: list[tuple[str, str]],
    neighbour: FairRule | None,
) -> FairRule:
    joint, eta, _, weights, encoding = posteriors
    before = None if neighbour is None or neighbour.system.meaning != system.meaning else neighbour.solution
    start = None if before is None else before.multipliers
    if neighbour is None or before is None:
        index: pd.Index = pd.MultiIndex.from_frame(system.labels)
    else:
        index = neighbour.multipliers.index
    solution, system = _optimise(system, posteriors, settings, start)
    if settings.aware:
        rule: Rule = cell_mixture(
            system, solution.multipliers, joint, eta, encoding.codes, weights, settings.cost, solution.primal
        )
    else:
        rule = blind_mixture(
            system, solution.multipliers, joint, eta, weights, settings.cost, solution.primal
        )
    return FairRule(
        rule=rule,
        system=system,
        functional=system.combine(solution.multipliers),
        base_rates=base_rates,
        encoding=encoding,
        solution=solution,
        multipliers=pd.Series(solution.multipliers, index=index, name="multiplier"),
        shadow_price=_shadow_price(system, solution, posteriors, base_rates, keep),
        dropped=dropped,
    )


def _optimise(
    system: ConstraintSystem, posteriors: Posteriors, settings: RuleSettings, start: Array | None
) -> tuple[FairLPResult, ConstraintSystem]:
    A = system.rows(posteriors.joint)
    score = posteriors.eta - settings.cost

    def solve(b: Array, start: Array | None) -> FairLPResult:
        return solve_fair_lp(
            score,
            A,
            b,
            system.C,
            sample_weight=posteriors.weights,
            method=settings.solver,
            tol=settings.tol,
            warm_start=start,
        )

    solution = solve(system.b, start)
    if settings.correction != "none" and len(system.b):
        first = solution.multipliers
        solution, offsets = corrected(
            solution,
            lambda b: solve(b, first),
            system,
            A,
            posteriors.encoding.codes,
            posteriors.y,
            posteriors.weights,
            shrink=settings.correction == "shrunk",
        )
        system = replace(system, b=system.b - offsets)
    if solution.status != "optimal":
        warnings.warn(
            f"the solver ended {solution.status} with a duality gap of {solution.gap:.2g}",
            FairnessWarning,
            stacklevel=5,
        )
    return solution, system


def _labels_of(notion: str) -> list[int]:
    """Return the labels whose samples a notion averages over."""
    return {"equal_opportunity": [1], "predictive_equality": [0]}.get(notion, [0, 1])


def _cell_sums(posteriors: Posteriors, amounts: Array | None) -> Array:
    """Return the sums of amounts (of ones for None) by cell and label, as float64 (M, 2)."""
    n_cells = posteriors.encoding.n_cells
    pairs = 2 * posteriors.encoding.codes + posteriors.y
    return np.bincount(pairs, weights=amounts, minlength=2 * n_cells).reshape(n_cells, 2).astype(np.float64)


def _constrained_groups(
    posteriors: Posteriors, settings: RuleSettings, base_rates: Array
) -> tuple[list[NDArray[np.bool_]], list[tuple[str, str]]]:
    """Return which groups each notion constrains, and those left out; warn of them."""
    encoding, blocks = posteriors.encoding, settings.options.blocks
    if encoding.n_cells == 1:
        return [np.zeros(len(encoding.names), dtype=bool) for _ in blocks], []
    events = encoding.membership.T @ _cell_sums(posteriors, None)  # (J, 2)
    mass = encoding.membership.T @ base_rates
    keep, dropped = [], []
    for block in blocks:
        labels = _labels_of(block)
        enough = events[:, labels].sum(axis=1) >= settings.min_group_count
        usable = enough & (mass[:, labels].sum(axis=1) > 0)
        keep.append(usable)
        dropped += [(block, encoding.names[j]) for j in np.flatnonzero(~usable)]
    least = settings.min_group_count
    if not any(usable.any() for usable in keep):
        raise ValueError(
            f"every group has fewer than min_group_count={least} samples of what {', '.join(blocks)} needs"
        )
    if dropped:
        warnings.warn(
            f"groups with fewer than {least} samples of what a notion needs are not constrained: {dropped}",
            FairnessWarning,
            stacklevel=4,
        )
    return keep, dropped


def _shadow_price(
    system: ConstraintSystem,
    solution: FairLPResult,
    posteriors: Posteriors,
    base_rates: Array,
    keep: list[NDArray[np.bool_]],
) -> float:
    """Return dR*/d tolerance by the envelope theorem: the rows are affine in the tolerance."""
    membership = posteriors.encoding.membership
    zero, one = (
        constraint_rows(base_rates, membership, system.options._replace(tolerance=t), keep)
        for t in (0.0, 1.0)
    )
    functionals, b, C = (at_one - at_zero for at_zero, at_one in zip(zero[:3], one[:3]))
    moments = np.tensordot(posteriors.weights * solution.f, posteriors.joint, axes=1)  # E_w[f gamma]
    slope = b - np.tensordot(functionals, moments, axes=2) - C @ solution.free
    return 0.0 - float(solution.multipliers @ slope)


def _measured(found: FairRule, posteriors: Posteriors, settings: RuleSettings) -> FairRule:
    joint, eta, labels, weights, encoding = posteriors
    y, cost = labels.astype(np.float64), settings.cost
    f = found.rule.probabilities(joint, eta, encoding.codes)
    unconstrained = (eta > cost).astype(np.float64)
    return replace(
        found,
        tie_mass=float(weights @ (np.abs(found.margin(joint, eta, cost)) <= _TIED)),
        accuracy=float(weights @ (y * f + (1.0 - y) * (1.0 - f))),
        price=float(weights @ ((2.0 * y - 1.0) * (unconstrained - f))),
        violation=_violation(f, posteriors, settings),
    )


def _violation(f: Array, posteriors: Posteriors, settings: RuleSettings) -> float:
    """Return the mean difference, or 1 - the mean ratio, of f on the labels; nan if no group counts.

    The rates are those of :func:`label_violation`, from sums by cell and label.
    """
    membership, options = posteriors.encoding.membership, settings.options
    chosen, mass, counts = (
        _cell_sums(posteriors, amounts) for amounts in (posteriors.weights * f, posteriors.weights, None)
    )
    worst = []
    for block in options.blocks:
        among = _labels_of(block)
        if not mass[:, among].sum() > 0:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            R, k_g, r, k = rate_functionals(block, mass, membership)
            rates = np.tensordot(R, chosen, axes=2) + k_g
        enough = (membership.T @ counts)[:, among].sum(axis=1) >= settings.min_group_count
        usable = enough & np.isfinite(rates)
        if usable.any():
            overall = float((r * chosen).sum()) + k
            worst.append(
                worst_of(rates[usable], overall, options.measure, options.reference, options.ratio_form)
            )
    return max(worst) if worst else float("nan")
