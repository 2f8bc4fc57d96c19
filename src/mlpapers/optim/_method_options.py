"""Which arguments of ``minimize_fw_zo`` a method reads: one that it passes over is refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpapers.core.validation import join_names

__all__ = ["check_read", "reads"]

# Arguments that some methods pass over, with what stands for "not given".
_DEFAULTS: dict[str, Any] = {
    "schedule": "adaptive",
    "step": "open-loop",
    "step_offset": 2,
    "E": 1.0,
    "memory": "project",
    "preset": None,
    "batch_size": None,
    "n_directions": None,
    "refresh_prob": None,
    "refresh": "fractional",
    "warmup": "growing",
    "m0": 16,
    "init": "sample",
    "directions_per_sample": "auto",
}
# Which kinds of `step` the others have is checked with that argument.
_READ: dict[str, frozenset[str]] = {
    "auto": frozenset({"m0", "init", "directions_per_sample"}),
    "dvr": frozenset(_DEFAULTS),
    "fd": frozenset({"step", "step_offset"}),
    "zscg": frozenset({"step", "step_offset", "batch_size"}),
    "sgffw": frozenset({"step"}),
    "acc_szofw": frozenset({"step", "batch_size"}),
    "acc_szofw_star": frozenset({"step", "batch_size"}),
    "fzfw": frozenset({"step", "step_offset", "batch_size"}),
    "fcgs": frozenset({"step", "batch_size"}),
    "jaguar": frozenset({"step", "m0", "init"}),
    "jaguar_stochastic": frozenset({"step", "batch_size", "m0", "init"}),
    "sfw": frozenset({"step", "step_offset", "batch_size"}),
    "zo_svrg": frozenset({"step", "batch_size"}),
}
# Entries of `options` that belong to some methods only (which variants a method has is checked with them).
_OWNERS: dict[str, frozenset[str]] = {
    "c": frozenset({"dvr"}),
    "kappa": frozenset({"dvr"}),
    "offset": frozenset({"jaguar", "jaguar_stochastic"}),
    "nonconvex": frozenset({"zscg"}),
    "lr": frozenset({"fcgs", "zo_svrg"}),
}


def reads(method: Any, name: str) -> bool:
    """Whether a method (an unknown one is left to other checks) looks at the argument `name`."""
    return name in _READ.get(method, _DEFAULTS)


def check_read(given: Mapping[str, Any]) -> None:
    """Raise a ValueError for an argument, or an entry of `options`, that the method would not look at.

    An argument that has its default counts as not given.
    """
    method = given["method"]
    read = _READ[method]
    for name, default in _DEFAULTS.items():
        if name not in read and not _is_default(given[name], default):
            own = join_names(read) or "none of them"
            raise ValueError(
                f"{name} is no argument of method={method!r}; got {name}={given[name]!r}. Of those that not "
                f"every method has it takes {own}"
            )
    for name in given["options"] or {}:
        if name in _OWNERS and method not in _OWNERS[name]:
            allowed = [other for other, owners in _OWNERS.items() if method in owners]
            raise ValueError(
                f"options[{name!r}] is for {join_names(_OWNERS[name])}, not for method={method!r}, whose "
                f"options are {join_names([*allowed, 'on_nan', 'project_x0'])}"
            )


def _is_default(value: Any, default: Any) -> bool:
    if default is None or isinstance(value, str) != isinstance(default, str):
        return value is default
    return bool(value == default)
