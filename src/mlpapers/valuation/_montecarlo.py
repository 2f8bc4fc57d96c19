"""Values by random permutation scans: draws, running means, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.parallel import chunk_slices, parallel_map
from mlpapers.valuation._games import Game
from mlpapers.valuation.permutation import PermutationSampler
from mlpapers.valuation.scan import Scan

# Draws after which the stopping rule looks, and draws per task: fixed, so that results don't depend on
# workers.
_BATCH = 64
_DRAWS_PER_TASK = 4

# Consecutive steps near v(D) after which a truncated scan ends.
_QUIET_STEPS = 5


@dataclass(frozen=True, eq=False)
class ScanPlan:
    r"""How one draw is made.

    Parameters
    ----------
    sampler : PermutationSampler
    known : dict of int to float
        Utility of the first k players, for those k where they are the same in every order: 0 and n at least.
    antithetic : bool
        A draw is the mean over an order and its mirror image.
    truncation : float
        A scan ends after five consecutive steps within this share of \|v(D) - v(empty)\| of v(D); 0 =
        never.
    size_weights : ndarray of shape (n,), optional
        Factor of the marginal contribution of the k-th to enter, k = 0..n-1.
    incremental : bool
    """

    sampler: PermutationSampler
    known: dict[int, float] = field(default_factory=dict)
    antithetic: bool = False
    truncation: float = 0.0
    size_weights: NDArray[np.float64] | None = None
    incremental: bool = True

    @classmethod
    def prepare(
        cls,
        game: Game,
        sampler: PermutationSampler,
        *,
        antithetic: bool = False,
        truncation: float = 0.0,
        size_weights: NDArray[np.float64] | None = None,
        incremental: bool = True,
    ) -> ScanPlan:
        """Evaluate once the coalitions that every order passes."""
        # What scans share (distances, say) is computed here and travels with the game to the workers.
        game.scan(incremental=incremental)
        known = {len(prefix): game.evaluate(prefix) for prefix in sampler.boundaries()}
        return cls(sampler, known, antithetic, truncation, size_weights, incremental)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Means over draws, their standard errors, and how they came about."""

    values: NDArray[np.float64]
    stderr: NDArray[np.float64]
    n_draws: int
    n_evaluations: int
    converged: bool


def estimate_values(
    game: Game,
    plan: ScanPlan,
    seeds: list[np.random.SeedSequence],
    *,
    rtol: float | None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Estimate:
    r"""Average marginal contributions over random orders.

    Parameters
    ----------
    game : Game
    plan : ScanPlan
    seeds : list of SeedSequence
        One per draw, which makes the result independent of the number of workers.
    rtol : float or None
        Stop once :math:`\max_i \mathrm{se}_i < \mathrm{rtol} \cdot (\max \phi - \min \phi)`, looked at every
        64 draws; None uses all seeds and counts as converged.

    Returns
    -------
    Estimate
        `n_evaluations` counts the coalitions evaluated, the known ones once.
    """
    mean = np.zeros(game.n_players)
    squares = np.zeros(game.n_players)
    n_draws, n_evaluations = 0, len(plan.known)
    converged = rtol is None
    for batch in chunk_slices(len(seeds), _BATCH):
        in_batch = seeds[batch]
        tasks = [in_batch[chunk] for chunk in chunk_slices(len(in_batch), _DRAWS_PER_TASK)]
        for draws, n_new in parallel_map(
            draw_marginals, tasks, n_jobs=n_jobs, shared=(game, plan), verbose=verbose
        ):
            n_evaluations += n_new
            for draw in draws:
                n_draws += 1
                gap = draw - mean
                mean += gap / n_draws
                squares += gap * (draw - mean)
        if rtol is not None and n_draws > 1:
            worst = float(np.sqrt(squares.max() / (n_draws * (n_draws - 1))))
            if worst < rtol * (np.ptp(mean) + np.finfo(np.float64).eps):
                converged = True
                break
    if n_draws > 1:
        stderr = np.sqrt(squares / (n_draws * (n_draws - 1.0)))
    else:
        stderr = np.full(game.n_players, np.inf)
    return Estimate(mean, stderr, n_draws, n_evaluations, converged)


def draw_marginals(
    game: Game, plan: ScanPlan, seeds: list[np.random.SeedSequence]
) -> tuple[NDArray[np.float64], int]:
    """Return one row (n,) of marginal contributions per seed, and how many coalitions were evaluated."""
    scan = game.scan(incremental=plan.incremental)
    draws = np.empty((len(seeds), game.n_players))
    n_evaluations = 0
    for row, seed in zip(draws, seeds):
        order = plan.sampler.sample(np.random.default_rng(seed))
        n_evaluations += _scan_order(scan, order, plan, row)
        if plan.antithetic:
            mirrored = np.empty_like(row)
            order = plan.sampler.sample(np.random.default_rng(seed), mirrored=True)
            n_evaluations += _scan_order(scan, order, plan, mirrored)
            row += mirrored
            row /= 2.0
    return draws, n_evaluations


def _scan_order(scan: Scan, order: NDArray[np.int64], plan: ScanPlan, marginals: NDArray[np.float64]) -> int:
    """Write the marginal contributions along one order; return how many coalitions were evaluated."""
    if plan.truncation > 0.0:
        n_evaluations = _scan_truncated(scan, order, plan, marginals)
    else:
        values = scan.run(order, plan.known)
        marginals[order] = np.diff(values, prepend=plan.known[0])
        n_evaluations = len(order) + 1 - len(plan.known)
    if plan.size_weights is not None:
        marginals[order] *= plan.size_weights
    return n_evaluations


def _scan_truncated(
    scan: Scan, order: NDArray[np.int64], plan: ScanPlan, marginals: NDArray[np.float64]
) -> int:
    marginals[:] = 0.0
    previous, total = plan.known[0], plan.known[len(order)]
    close = plan.truncation * abs(total - previous)
    n_evaluations = quiet = 0
    scan.clear()
    for place, player in enumerate(order.tolist(), start=1):
        scan.insert(player)
        value = plan.known.get(place)
        if value is None:
            value = scan.value()
            n_evaluations += 1
        marginals[player] = value - previous
        previous = value
        quiet = quiet + 1 if abs(value - total) <= close else 0
        if quiet == _QUIET_STEPS:
            break
    return n_evaluations
