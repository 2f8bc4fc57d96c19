"""The estimators' options, checked and resolved once per fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlpapers.core.validation import (
    check_bool,
    check_choice,
    check_int,
    check_path,
    check_real,
    check_workers,
)
from mlpapers.unlearning.losses import Loss, make_loss
from mlpapers.unlearning.weights import STRATEGIES, Strategy

_DEFAULT_NOISE = {"objective": 1.0, "output": 0.1, "none": 0.0}
# Largest K d for which the joint softmax Hessian is formed.
_LARGEST_SOFTMAX = 4000


@dataclass(frozen=True)
class Settings:
    """Everything of the constructor that a request needs, with defaults filled in.

    `scheme` is "single" (one problem), "softmax" (one problem of K d parameters) or "ovr" (K problems).
    """

    loss: str
    loss_scale: float
    scheme: str
    n_classes: int
    alpha: float
    perturbation: str
    noise_scale: float
    epsilon: float
    delta: float
    accounting: str
    certificate: str
    weighting: Strategy
    weight_role: str
    weight_floor: float
    value_update: str
    values_public: bool
    update: str
    n_newton_steps: int | None
    on_exhausted: str
    reanchor_every: int | None
    tol: float
    max_iter: int

    @property
    def n_problems(self) -> int:
        """Number of separately trained problems."""
        return self.n_classes if self.scheme == "ovr" else 1

    @property
    def strict(self) -> bool:
        """Whether the log-Jacobian is accounted for; output perturbation has none to account for."""
        return self.accounting == "strict" and self.perturbation == "objective"

    def make_loss(self) -> Loss:
        """Return the loss of each problem."""
        name = "softmax" if self.scheme == "softmax" else self.loss
        return make_loss(name, scale=self.loss_scale, n_classes=self.n_classes)


def check_settings(
    params: dict[str, Any], losses: tuple[str, ...], *, n_classes: int = 1, n_features: int = 1
) -> Settings:
    """Return the Settings of an estimator's `params`; ValueError or TypeError names the first bad one.

    `n_features` counts the intercept column.
    """
    check_choice("loss", params["loss"], losses)
    scale_name = "hinge_temperature" if "hinge_temperature" in params else "huber_delta"
    perturbation = check_choice("perturbation", params["perturbation"], tuple(_DEFAULT_NOISE))
    noise_scale = params["noise_scale"]
    if noise_scale is None:
        noise_scale = _DEFAULT_NOISE[perturbation]
    weighting = params["weighting"]
    if not callable(weighting):
        check_choice("weighting", weighting, STRATEGIES)
    steps, every = params["n_newton_steps"], params["reanchor_every"]
    check_bool("fit_intercept", params["fit_intercept"])
    check_workers(params["n_jobs"], params["verbose"])
    for name in ("log_path", "state_path"):
        check_path(name, params[name])
    settings = Settings(
        loss=params["loss"],
        loss_scale=check_real(scale_name, params[scale_name], low=0.0, closed="neither"),
        scheme=_scheme(params, n_classes, n_features),
        n_classes=n_classes,
        alpha=check_real("alpha", params["alpha"], low=0.0, closed="neither"),
        perturbation=perturbation,
        noise_scale=check_real("noise_scale", noise_scale, low=0.0),
        epsilon=check_real("epsilon", params["epsilon"], low=0.0, closed="neither"),
        delta=check_real("delta", params["delta"], low=0.0, high=1.0, closed="neither"),
        accounting=check_choice("accounting", params["accounting"], ("gaussian", "strict")),
        certificate=check_choice(
            "certificate", params["certificate"], ("data_dependent", "worst_case", "exact")
        ),
        weighting=weighting,
        weight_role=check_choice("weight_role", params["weight_role"], ("objective", "forget", "retain")),
        weight_floor=check_real("weight_floor", params["weight_floor"], low=0.0, high=1.0),
        value_update=check_choice("value_update", params["value_update"], ("frozen", "recompute")),
        values_public=check_bool("values_public", params["values_public"]),
        update=check_choice("update", params["update"], ("newton", "descent")),
        n_newton_steps=None if steps is None else check_int("n_newton_steps", steps, minimum=1),
        on_exhausted=check_choice("on_exhausted", params["on_exhausted"], ("reanchor", "retrain")),
        reanchor_every=None if every is None else check_int("reanchor_every", every, minimum=1),
        tol=check_real("tol", params["tol"], low=0.0, closed="neither"),
        max_iter=check_int("max_iter", params["max_iter"], minimum=1),
    )
    _check_combinations(settings)
    return settings


def _scheme(params: dict[str, Any], n_classes: int, n_features: int) -> str:
    if "multi_class" not in params:
        return "single"
    choice = check_choice("multi_class", params["multi_class"], ("auto", "multinomial", "ovr"))
    if choice == "multinomial" and params["loss"] == "smooth_hinge":
        raise ValueError("multi_class='multinomial' needs loss='log_loss'; got loss='smooth_hinge'")
    if n_classes <= 2:
        return "single"
    if choice == "auto":
        small = n_classes * n_features <= _LARGEST_SOFTMAX
        return "softmax" if params["loss"] == "log_loss" and small else "ovr"
    return "softmax" if choice == "multinomial" else "ovr"


def _check_combinations(settings: Settings) -> None:
    if settings.weight_role == "forget" and settings.update == "descent":
        raise ValueError(
            "weight_role='forget' needs update='newton': gradient steps on the retained rows complete the "
            "removal, so forget multipliers would do nothing"
        )
    if settings.weight_role == "forget" and settings.value_update == "recompute":
        raise ValueError(
            "weight_role='forget' needs value_update='frozen': the reference has no weights to recompute"
        )
    if settings.accounting != "strict":
        return
    # The log-Jacobian is bounded for one thing only: a single removal step of the weighted objective itself.
    if settings.weight_role != "objective":
        raise ValueError(
            "accounting='strict' needs weight_role='objective': its log-Jacobian is not derived for "
            f"weight_role={settings.weight_role!r}"
        )
    if settings.value_update == "recompute":
        raise ValueError("accounting='strict' needs value_update='frozen'; got 'recompute'")
    if settings.update != "newton":
        raise ValueError(f"accounting='strict' needs update='newton'; got {settings.update!r}")
    if (settings.n_newton_steps or 1) > 1:
        raise ValueError(f"accounting='strict' needs n_newton_steps=1; got {settings.n_newton_steps}")
