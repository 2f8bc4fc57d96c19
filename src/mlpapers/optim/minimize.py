"""minimize_fw_zo: Frank-Wolfe over a finite sum known through values only."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import is_tensor
from mlpapers.core.validation import (
    check_choice,
    check_int,
    check_path,
    check_real,
    check_workers,
    seed_sequence,
)
from mlpapers.optim import _estimators, _steps
from mlpapers.optim._arguments import check_domain, check_settings, check_start
from mlpapers.optim._auto import AutoStep
from mlpapers.optim._cycles import AutoEstimator
from mlpapers.optim._dvr import AdaptiveDVR, FixedDVR
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._fingerprint import fingerprint
from mlpapers.optim._lean import LeanDVR, LeanStep, is_lean
from mlpapers.optim._loop import Loop, OptimizationState, Stopping
from mlpapers.optim._method_options import check_read
from mlpapers.optim._oracle import Oracle
from mlpapers.optim._run import Run, Settings
from mlpapers.optim._steps import Step
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.finite_sum import FiniteSum, as_finite_sum
from mlpapers.optim.result import STATUS, FWResult

__all__ = ["minimize_fw_zo"]

Array = NDArray[np.float64]

# Method -> gradient estimator and step rule.
_PARTS: dict[str, tuple[type[Estimator], type[Step]]] = {
    "auto": (AutoEstimator, AutoStep),
    "fd": (_estimators.FullDifferences, _steps.FrankWolfe),
    "zscg": (_estimators.GaussianSmoothing, _steps.FrankWolfe),
    "sgffw": (_estimators.MomentumSmoothing, _steps.FrankWolfe),
    "acc_szofw": (_estimators.Spider, _steps.Momentum),
    "acc_szofw_star": (_estimators.Storm, _steps.Momentum),
    "fzfw": (_estimators.Spider, _steps.FrankWolfe),
    "fcgs": (_estimators.Spider, _steps.Sliding),
    "jaguar": (_estimators.Memory, _steps.FrankWolfe),
    "jaguar_stochastic": (_estimators.StochasticMemory, _steps.FrankWolfe),
    "sfw": (_estimators.Saga, _steps.FrankWolfe),
    "zo_svrg": (_estimators.Spider, _steps.Projection),
}


def minimize_fw_zo(
    fun: Any,
    x0: Any,
    constraint: ConstraintSet,
    *,
    method: str = "dvr",
    schedule: str = "adaptive",
    max_queries: int | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
    step: float | str = "open-loop",
    step_offset: float = 2,
    E: float | str = 1.0,
    memory: str = "project",
    preset: str | None = None,
    batch_size: int | None = None,
    n_directions: int | None = None,
    refresh_prob: float | None = None,
    refresh: str = "fractional",
    warmup: str = "growing",
    m0: int = 16,
    init: str = "sample",
    directions: str = "coordinate",
    directions_per_sample: int | str = "auto",
    fd: str = "forward",
    mu: float | str = "auto",
    query_domain: str = "free",
    return_: str = "last",
    certificate: str = "estimate",
    target_fun: float | None = None,
    chunk_size: int = 65536,
    callback: Callable[[OptimizationState], Any] | None = None,
    history_every: float = 1.05,
    checkpoint: Any = None,
    resume: Any = None,
    random_state: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    options: dict[str, Any] | None = None,
) -> FWResult:
    r"""Minimise a finite sum over a convex set, from values only and without projections.

    .. math:: \min_{x \in C} f(x) = \frac{1}{n} \sum_{i=1}^{n} f_i(x), \qquad
              x_{t+1} = x_t + \gamma_t (\mathrm{lmo}(v_t) - x_t)

    One query is one value of one :math:`f_i` at one point. ``method="dvr"`` estimates the gradient with
    double variance reduction: b sampled pairs (i, u) carry v along by
    :math:`v \mathrel{+}= \frac{d}{b} \sum [D_i(x_t; u) - D_i(x_{t-1}; u)] u`, and a memory of directions has
    l components replaced by exact ones, :math:`v \leftarrow v + U(\delta - U^\top v)`.

    Parameters
    ----------
    fun : FiniteSum or callable
        A callable f(x) -> float has n = 1; with an attribute ``batch``, ``fun.batch(X)`` answers rows. Points
        are numpy arrays of float64, also where x0 is a tensor (``torch.as_tensor(x)`` makes one of
        them); values may be arrays or tensors of one element.
    x0 : array or tensor of shape (d,), or None
        Starting point in C; None stands for the center of C. The result's x is of its kind.
    constraint : ConstraintSet
        C.
    method : str
        "dvr"; "auto" (regime-free, see the guide); or a rival: "fd", "zscg", "sgffw", "acc_szofw",
        "acc_szofw_star", "fzfw", "fcgs", "jaguar", "jaguar_stochastic", "sfw" (first order), "zo_svrg"
        (projects).
    schedule : {"adaptive", "fixed"}
        How dvr chooses batch and refresh: from a ledger of variances, or by the formulas in `E`.
    max_queries : int, optional
        A hard cap on what the method asks. This or `max_iter` is required.
    max_iter : int, optional
        Cap on steps.
    tol : float, optional
        Stop where estimated gap + 2 standard deviations is at most this in two consecutive steps.
    step : {"open-loop", "constant", "short", "pairwise"} or float
        2/(t + step_offset); 1/sqrt(max_iter) (dvr, fd, zscg, fzfw, sfw); min(1, gap/curvature) (dvr with the
        adaptive schedule); weight moved from the worst vertex to the best (polytopes); a number (not auto).
    step_offset : float
        At least 1.
    E : float or "sqrt_d"
        Error factor of the fixed schedule: rho = 2/(E sqrt n), b = d sqrt(n)/(2E). "sqrt_d" keeps rho
        constant; where `step_offset` and `init` have their defaults, they become 1/rho and "full".
    memory : {"project", "average", "unbiased"}
        How a refresh enters the memory; the last two need random directions.
    preset : {None, "paper"}
        "paper": fixed schedule, E="sqrt_d", averaged memory, Gaussian directions, coin-flip refreshes, no
        warm-up, full start. Other arguments than the defaults stand.
    batch_size, n_directions, refresh_prob : int, int, float, optional
        b, l and p, where the schedule's are not wanted; `batch_size` is also the rivals' b.
    refresh : {"fractional", "bernoulli"}
        Refresh the accumulated share, or flip a coin.
    warmup : {"growing", "none"}
        Whether early refreshes use a subsample of m0 (t+1)^2 functions.
    m0 : int
        Functions of the first estimate.
    init : {"sample", "full", "zero"}
        First estimate: on m0 functions, on all, or none.
    directions : {"coordinate", "orthogonal", "sphere", "gaussian"}
        Kind of the directions u.
    directions_per_sample : int or "auto"
        Directions asked of each drawn function; they share its value at x.
    fd : {"forward", "central"}
        Kind of the differences.
    mu : float or "auto"
        Radius of the differences; "auto" follows the precision of the values.
    query_domain : {"free", "feasible", "tangent"}
        Whether queries may leave C; "feasible" needs an interior, "tangent" is for flat sets. Both bound `mu`
        by the radius of the ball around the center.
    return_ : {"last", "best"}
        The last point, or that of the least estimated gap.
    certificate : {"estimate", "full", "none"}
        What is asked after the end, beyond `max_queries`: f(x); also a full gap; nothing.
    target_fun : float, optional
        Stop where f(x) is at most this; looked at whenever the history is, for n queries.
    chunk_size : int
        Rows evaluated at once, at most; points that would take more than 64 MiB are fewer. Results do not
        depend on it.
    callback : callable, optional
        ``callback(state)`` after each step; returning True stops, and so does raising StopIteration.
    history_every : float
        Growth factor of queries between recorded steps.
    checkpoint : path, optional
        File that is kept up to date while the run lasts.
    resume : path, optional
        Checkpoint to go on from, of a run with the same objective, start, constraint and settings. One value
        that it holds is asked again and counted in ``n_queries_final``. Draws go on as in that run, whatever
        `random_state` is.
    random_state : int, Generator, RandomState, SeedSequence or None
        Seed of all draws.
    n_jobs : int or None
        Threads for chunks.
    verbose : int
        Above 0, print recorded steps.
    options : dict, optional
        c, kappa (accuracy aimed at by the ledger), offset (jaguar), variant (sgffw; acc_szofw,
        fzfw, fcgs, zo_svrg), nonconvex (zscg), lr (fcgs, zo_svrg), on_nan ("raise" or "skip"), project_x0.

    Returns
    -------
    result : FWResult

    Raises
    ------
    TypeError
        For an objective that is not callable, a constraint that is no ConstraintSet, or a callback that
        returns an array or a list.
    ValueError
        For an infeasible start, an unknown option, one that the method does not read, a budget that is too
        small for one step, a checkpoint of another problem, or differences that do not fit into the
        constraint.
    FloatingPointError
        For values that are not finite, or so large that squares of differences are not.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim import L1Ball, minimize_fw_zo
    >>> target = np.array([0.3, -0.2, 0.0])
    >>> result = minimize_fw_zo(
    ...     lambda x: float(((x - target) ** 2).sum()),
    ...     np.zeros(3),
    ...     L1Ball(1.0),
    ...     max_queries=2000,
    ...     random_state=0,
    ... )
    >>> bool(np.abs(result.x - target).max() < 0.01)
    True
    """
    given = {name: value for name, value in locals().items() if name not in ("fun", "x0", "constraint")}
    total = as_finite_sum(fun)
    x = check_start(x0, total, constraint, options if isinstance(options, dict) else {})
    settings = check_settings(given, total, x.size)
    check_read(given)
    stopping = _check_stopping(given)
    oracle, basis = _make_oracle(total, x, constraint, given, settings)
    run = Run(oracle, constraint, settings, x, seed_sequence(random_state), basis)
    estimator, rule = _make_parts(run, given)
    if max_queries is not None and max_queries < estimator.least_cost:
        raise ValueError(
            f"max_queries must be at least {estimator.least_cost} for one step of {method!r}; "
            f"got {max_queries}"
        )
    loop = Loop(
        run,
        estimator,
        rule,
        stopping,
        keep_best=check_choice("return_", return_, ("last", "best")) == "best",
        fingerprint={} if checkpoint is None and resume is None else fingerprint(run, given),
    )
    if (state := check_path("resume", resume)) is not None:
        loop.load(state)
    loop.execute()
    return _make_result(loop, given, x0)


def _check_stopping(given: dict[str, Any]) -> Stopping:
    if given["max_queries"] is None and given["max_iter"] is None:
        raise ValueError("max_queries or max_iter must be given; a run needs an end")
    if given["max_queries"] is not None:
        check_int("max_queries", given["max_queries"], minimum=1)
    if given["callback"] is not None and not callable(given["callback"]):
        raise TypeError(f"callback must be callable or None; got {type(given['callback']).__name__}")
    check_choice("certificate", given["certificate"], ("estimate", "full", "none"))
    check_int("chunk_size", given["chunk_size"], minimum=1)
    check_workers(given["n_jobs"], given["verbose"])
    target = given["target_fun"]
    return Stopping(
        max_iter=given["max_iter"],
        tol=None if given["tol"] is None else check_real("tol", given["tol"], low=0.0),
        verify=given["certificate"] == "full",
        target_fun=None if target is None else check_real("target_fun", target),
        callback=given["callback"],
        history_every=check_real("history_every", given["history_every"], low=1.0),
        checkpoint=check_path("checkpoint", given["checkpoint"]),
        verbose=int(given["verbose"]),
    )


def _make_oracle(
    total: FiniteSum, x: Array, constraint: ConstraintSet, given: dict[str, Any], settings: Settings
) -> tuple[Oracle, Array | None]:
    mu = given["mu"]
    if isinstance(mu, str):
        check_choice("mu", mu, ("auto",))
    else:
        mu = check_real("mu", mu, low=0.0, closed="neither")
    basis, contraction = check_domain(given["query_domain"], constraint, x.size)
    reach = 1.0
    if contraction is not None:
        if not isinstance(mu, str) and mu > contraction[1]:
            raise ValueError(
                f"mu must be at most {contraction[1]:g} with query_domain={given['query_domain']!r}, the "
                f"radius of the ball around the center of {type(constraint).__name__}; got {mu:g}"
            )
        reach = _reach(constraint, x)
    oracle = Oracle(
        total,
        x.size,
        max_queries=given["max_queries"],
        fd=check_choice("fd", given["fd"], ("forward", "central")),
        mu=mu,
        chunk_size=given["chunk_size"],
        n_jobs=given["n_jobs"],
        on_nan=settings.option("on_nan", "raise"),
        contraction=contraction,
        reach=reach,
    )
    return oracle, basis


def _reach(constraint: ConstraintSet, x: Array) -> float:
    """Return the largest absolute coordinate of `x` and of some extreme points."""
    costs = np.zeros((4, x.size))
    costs[0], costs[1, 0] = 1.0, 1.0
    costs[2:] = -costs[:2]
    return max(float(np.abs(x).max()), float(np.abs(constraint._lmo(costs)).max()))


def _make_parts(run: Run, given: dict[str, Any]) -> tuple[Estimator, Step]:
    s = run.settings
    if is_lean(run, given):
        lean = LeanDVR(run)
        return lean, LeanStep(run, lean)
    if s.method == "dvr":
        estimator: Estimator = FixedDVR(run) if s.schedule == "fixed" else AdaptiveDVR(run)
        kind: type[Step] = _steps.FrankWolfe
    else:
        made, kind = _PARTS[s.method]
        estimator = made(run)
    if s.step == "pairwise":
        if kind is not _steps.FrankWolfe:
            raise ValueError(f"step='pairwise' is for plain Frank-Wolfe methods, not {s.method!r}")
        if not run.constraint.is_polytope:
            raise ValueError(f"step='pairwise' needs a polytope; got {type(run.constraint).__name__}")
        kind = _steps.Pairwise
    return estimator, kind(run, estimator)


def _make_result(loop: Loop, given: dict[str, Any], x0: Any) -> FWResult:
    run, status = loop.run, loop.status
    x = loop.result_point()
    n_queries = run.oracle.n_queries
    value, gap, final, is_known = None, None, loop.n_checked, True
    if given["certificate"] != "none":
        oracle = run.oracle
        last = Oracle(
            oracle.fun,
            run.d,
            max_queries=None,
            fd=oracle.fd,
            mu=oracle.mu,
            chunk_size=oracle.chunk_size,
            n_jobs=oracle.n_jobs,
            on_nan=oracle.on_nan,
        )
        probe = last.at(x)
        values = probe.base(np.arange(run.n))
        value, is_known = float(np.mean(values)), bool(np.isfinite(values).any())
        if given["certificate"] == "full":
            if oracle.contraction is not None:
                # f(x) is that of the point itself; differences stay inside, around one a little off it.
                last.contraction, last.reach = oracle.contraction, oracle.reach
                probe = last.at(x)
            g = np.zeros(run.d)
            block = run.directions.everything()
            block.add(g, probe.means(block, np.arange(run.n))[0])
            gap = max(float(g @ (x - run.lmo(g))), 0.0) if last.n_good or not last.n_bad else math.nan
        final += last.n_queries
    is_blind = run.oracle.n_bad > 0 and run.oracle.n_good == 0
    wanted = given["tol"] is not None or given["target_fun"] is not None
    seed = given["random_state"]
    return FWResult(
        x=_like(x, x0),
        fun=value,
        gap=gap,
        gap_estimate=run.gap,
        gap_estimate_std=loop.gap_std,
        error_variance=loop.error_variance,
        n_queries=n_queries,
        n_queries_final=final,
        n_lmo=run.n_lmo,
        n_iter=run.t,
        n_full_gradients=run.n_full_gradients,
        max_queries_per_iter=loop.dearest,
        n_bad=run.oracle.n_bad,
        success=(status in (0, 1) or (not wanted and status in (2, 3))) and is_known and not is_blind,
        status=status,
        message=(STATUS[status] if status or given["tol"] is not None else "no direction descends")
        + getattr(loop.estimator, "note", "")
        + ("; no difference of the objective was finite" if is_blind else ""),
        method=run.settings.method,
        history=loop.history_array(),
        wall_time=np.array(loop.seconds),
        active_set=None if loop.keep_best or status == 0 else loop.step.active_set(),
        random_state=int(seed) if isinstance(seed, int | np.integer) else None,
    )


def _like(x: Array, x0: Any) -> Any:
    """Return x in the kind of x0; float32 is promoted except on a GPU, which has little else."""
    if not is_tensor(x0):
        return x.copy()
    torch = sys.modules["torch"]
    dtype = torch.float32 if x0.is_cuda and x0.dtype == torch.float32 else torch.float64
    return torch.as_tensor(x.copy(), dtype=dtype, device=x0.device)
