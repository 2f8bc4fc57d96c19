"""Checks of the arguments of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import is_tensor
from mlpapers.core.validation import check_choice, check_int, check_real, join_names
from mlpapers.optim._run import Settings
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.finite_sum import FiniteSum

__all__ = ["METHODS", "check_domain", "check_settings", "check_start", "project_or_refuse"]

METHODS = (
    "auto",
    "dvr",
    "fd",
    "zscg",
    "sgffw",
    "acc_szofw",
    "acc_szofw_star",
    "fzfw",
    "fcgs",
    "jaguar",
    "jaguar_stochastic",
    "sfw",
    "zo_svrg",
)
_STEPS = ("open-loop", "constant", "short", "pairwise")
_VARIANTS = {
    "sgffw": ("irdsa", "rdsa", "kwsa"),
    **dict.fromkeys(("acc_szofw", "fzfw", "fcgs", "zo_svrg"), ("cooge", "unige")),
}
# Methods whose steps are 1/sqrt(max_iter) if asked; the others have a rule of their own, which only a number
# replaces.
_OPEN_LOOP = ("dvr", "fd", "zscg", "fzfw", "sfw")
_OPTIONS = {"c", "kappa", "offset", "on_nan", "project_x0", "variant", "nonconvex", "lr"}


def check_settings(given: dict[str, Any], total: FiniteSum, d: int) -> Settings:
    """Return checked settings from the arguments of ``minimize_fw_zo``."""
    check_choice("preset", given["preset"], (None, "paper"))
    if given["preset"] == "paper":
        given = _with_preset(given)
    method = check_choice("method", given["method"], METHODS)
    schedule = check_choice("schedule", given["schedule"], ("adaptive", "fixed"))
    E, constant_rate = _check_E(given["E"], d)
    directions = check_choice(
        "directions", given["directions"], ("coordinate", "orthogonal", "sphere", "gaussian")
    )
    memory = check_choice("memory", given["memory"], ("project", "average", "unbiased"))
    if memory != "project" and directions == "coordinate":
        raise ValueError(
            f"memory={memory!r} needs random directions; with directions='coordinate' use memory='project'"
        )
    check_choice("query_domain", given["query_domain"], ("free", "feasible", "tangent"))
    if given["query_domain"] != "free" and directions == "gaussian":
        raise ValueError(
            "directions='gaussian' have no bounded length; query_domain='feasible' needs unit directions"
        )
    if given["query_domain"] == "tangent":
        directions = "tangent"
    max_iter = None if given["max_iter"] is None else check_int("max_iter", given["max_iter"], minimum=1)
    step = _check_step(given["step"], max_iter)
    options = _check_options(given["options"], method)
    offset = check_real("step_offset", given["step_offset"], low=1.0)
    init = check_choice("init", given["init"], ("sample", "full", "zero"))
    warmup = check_choice("warmup", given["warmup"], ("growing", "none"))
    if constant_rate:
        # The mode's own start, unless another one was asked for.
        offset = 0.5 * E * math.sqrt(total.n_functions) if offset == 2.0 else offset
        init = "full" if init == "sample" else init
        schedule = "fixed"
    _check_step_fits(step, method, schedule)
    if method == "sfw" and total.grad is None:
        raise ValueError("method='sfw' needs the objective's grad; this FiniteSum has values only")
    return Settings(
        method=method,
        schedule=schedule,
        step=step,
        step_offset=max(offset, 1.0),
        E=E,
        constant_rate=constant_rate,
        memory=memory,
        batch_size=_optional_int("batch_size", given["batch_size"]),
        n_directions=_optional_int("n_directions", given["n_directions"], maximum=d),
        refresh_prob=_optional_share("refresh_prob", given["refresh_prob"]),
        refresh=check_choice("refresh", given["refresh"], ("fractional", "bernoulli")),
        warmup=warmup,
        m0=check_int("m0", given["m0"], minimum=1),
        init=init,
        directions=directions,
        directions_per_sample=_per_sample(given["directions_per_sample"], directions, d, schedule),
        max_iter=max_iter,
        options=options,
    )


def check_start(x0: Any, total: FiniteSum, constraint: Any, options: dict[str, Any]) -> NDArray[np.float64]:
    """Return a feasible float64 starting point."""
    if not isinstance(constraint, ConstraintSet):
        raise TypeError(f"constraint must be a ConstraintSet; got {type(constraint).__name__}")
    if x0 is None:
        dim = total.dim if total.dim is not None else constraint.dim
        if None not in (total.dim, constraint.dim) and total.dim != constraint.dim:
            raise ValueError(
                f"fun and constraint must have one dimension; got {total.dim} and {constraint.dim}"
            )
        if dim is None:
            raise ValueError("x0 must be given: neither the objective nor the set knows the dimension")
        x = constraint.center(dim)
    else:
        try:
            if is_tensor(x0) and x0.is_floating_point():
                # Numpy has no bfloat16.
                x0 = x0.double()
            x = np.array(x0.detach().cpu().numpy() if hasattr(x0, "detach") else x0, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"x0 must be a vector of numbers or None; got {x0!r}") from error
        if x.ndim != 1 or not x.size:
            raise ValueError(f"x0 must be a vector; got shape {x.shape}")
    for what, dim in (("objective", total.dim), ("constraint", constraint.dim)):
        if dim is not None and dim != x.size:
            raise ValueError(f"x0 must have {dim} coordinates, as the {what} has; got {x.size}")
    if not np.isfinite(x).all():
        raise ValueError("x0 must be finite")
    constraint._dimension(x.size)
    if not constraint.contains(x, 1e-6):
        if not options.get("project_x0", False):
            raise ValueError(
                "x0 is not feasible: it leaves the set by more than 1e-6 "
                "(options={'project_x0': True} projects it)"
            )
        x = project_or_refuse("options={'project_x0': True}", constraint, x)
    return np.ascontiguousarray(x)


def project_or_refuse(asked: str, constraint: ConstraintSet, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the projection of one point; the ValueError of a set without one names what was `asked`."""
    try:
        return constraint._project(x[None])[0]
    except NotImplementedError as error:
        raise ValueError(f"{asked} needs a constraint with a projection: {error}") from error


def check_domain(
    domain: str, constraint: ConstraintSet, d: int
) -> tuple[NDArray[np.float64] | None, tuple[NDArray[np.float64], float] | None]:
    """Return tangent directions, and the center and radius of a ball in the set, where the domain asks."""
    if domain == "free":
        return None, None
    basis, room = None, 0.0
    if domain == "feasible":
        room = constraint.inradius(d)
        if room <= 0.0:
            raise ValueError(
                f"query_domain='feasible' needs a set with an interior; {type(constraint).__name__} is flat "
                "(its inradius is 0): use query_domain='tangent'"
            )
    else:
        try:
            basis, room = constraint.tangent_basis(d)
        except NotImplementedError as error:
            raise ValueError(
                f"query_domain='tangent' is for flat sets whose directions are known; {error}: use 'feasible'"
            ) from error
    return basis, (constraint.center(d), room)


def _with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in what "paper" stands for where an argument has its default."""
    preset = {
        "schedule": ("adaptive", "fixed"),
        "E": (1.0, "sqrt_d"),
        "memory": ("project", "average"),
        "directions": ("coordinate", "gaussian"),
        "refresh": ("fractional", "bernoulli"),
        "warmup": ("growing", "none"),
        "init": ("sample", "full"),
    }
    changed = {name: new for name, (default, new) in preset.items() if given[name] == default}
    return {**given, **changed}


def _check_E(E: Any, d: int) -> tuple[float, bool]:
    if isinstance(E, str):
        if E != "sqrt_d":
            raise ValueError(f"E must be a positive number or 'sqrt_d'; got {E!r}")
        return math.sqrt(d), True
    return check_real("E", E, low=0.0, closed="neither"), False


def _check_step(step: Any, max_iter: int | None) -> float | str:
    if isinstance(step, str):
        check_choice("step", step, _STEPS)
        if step == "constant" and max_iter is None:
            raise ValueError("step='constant' is 1/sqrt(max_iter) and needs max_iter")
        return step
    return check_real("step", step, low=0.0, high=1.0, closed="right")


def _check_step_fits(step: float | str, method: str, schedule: str) -> None:
    if step == "short" and (method, schedule) != ("dvr", "adaptive"):
        raise ValueError(
            "step='short' needs the curvature that method='dvr' with schedule='adaptive' measures; got "
            f"method={method!r}, schedule={schedule!r}"
        )
    if step == "constant" and method not in _OPEN_LOOP:
        raise ValueError(f"step='constant' is for {join_names(_OPEN_LOOP)}, not for method={method!r}")


def _check_options(options: Any, method: str) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise TypeError(f"options must be a dict or None; got {type(options).__name__}")
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ValueError(f"options must be among {', '.join(sorted(_OPTIONS))}; got {unknown}")
    for name in ("c", "kappa", "offset", "lr"):
        if name in options:
            check_real(f"options[{name!r}]", options[name], low=0.0, closed="neither")
    if "on_nan" in options:
        check_choice("options['on_nan']", options["on_nan"], ("raise", "skip"))
    if "variant" in options:
        if method not in _VARIANTS:
            raise ValueError(f"options['variant'] is for {join_names(_VARIANTS)}, not for method={method!r}")
        check_choice("options['variant']", options["variant"], _VARIANTS[method])
    return dict(options)


def _optional_int(name: str, value: Any, maximum: int | None = None) -> int | None:
    return None if value is None else check_int(name, value, minimum=1, maximum=maximum)


def _optional_share(name: str, value: Any) -> float | None:
    return None if value is None else check_real(name, value, low=0.0, high=1.0, closed="right")


def _per_sample(value: Any, directions: str, d: int, schedule: str) -> int:
    if isinstance(value, str):
        check_choice("directions_per_sample", value, ("auto",))
        # The constants of the fixed schedule are those of independent pairs.
        return 1 if schedule == "fixed" or directions in ("gaussian", "sphere") else min(d, 32)
    return check_int("directions_per_sample", value, minimum=1)
