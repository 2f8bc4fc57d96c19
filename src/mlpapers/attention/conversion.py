"""Hugging Face models with selective temperatures: conversion in place, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn

from mlpapers.attention._checks import check_floating
from mlpapers.attention._families import Site, attention_sites, family_of
from mlpapers.attention._hooks import (
    SelectiveTemperatures,
    attach_layer,
    attach_model,
    detach_layer,
    remove_hooks,
)
from mlpapers.attention.layer import check_roles
from mlpapers.attention.temperature import IDENTITY_KINDS, TemperatureModule
from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result, transient
from mlpapers.core.validation import check_bool, check_indices, check_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ConversionResult",
    "convert_to_ssa",
    "count_parameters",
    "revert_ssa",
    "ssa_parameters",
]

# What a model keeps about its conversion, for checkpoints and for the way back.
RECORD = "_ssa_conversion"


@dataclass(frozen=True, kw_only=True, eq=False)
class ConversionResult(Result):
    """A converted model and what was added.

    Attributes
    ----------
    model : PreTrainedModel or None
        The model that was given, changed in place; None in a result that was loaded from a file.
    family : str
    n_layers : int
        Attention modules converted.
    n_new_parameters, n_base_parameters : int
    fraction : float
        New parameters over those of the model before.
    parameter_names : list of str
        Of the new parameters.
    identity_at_init : bool
        Whether every temperature is exactly 1, so that outputs are unchanged to the last bit.
    """

    model: Any = transient()
    family: str
    n_layers: int
    n_new_parameters: int
    n_base_parameters: int
    fraction: float
    parameter_names: list[str]
    identity_at_init: bool

    def to_frame(self) -> pd.DataFrame:
        """Return one row per new parameter: name, role, kind.

        Returns
        -------
        pandas.DataFrame
        """
        rows = [name.rsplit(".", 2) for name in self.parameter_names]
        return pd.DataFrame(
            {
                "parameter": self.parameter_names,
                "role": [row[-2] for row in rows],
                "what": [row[-1] for row in rows],
            }
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the numbers of old and new parameters as bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.bar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        ax.bar(["base", "temperatures"], [self.n_base_parameters, max(self.n_new_parameters, 1)], **options)
        ax.set(yscale="log", ylabel="parameters", title=f"{100 * self.fraction:.3g} % added")
        return ax


def convert_to_ssa(
    model: Any,
    *,
    temperatures: Sequence[str] = ("q", "v"),
    token: str = "shared",
    position: str = "linear",
    alpha_init: float | None = None,
    layers: Sequence[int] | None = None,
    freeze_base: bool = False,
    max_fraction: float | None = 0.005,
    bias: bool = False,
    token_feature: torch.Tensor | None = None,
) -> ConversionResult:
    """Give every self-attention of a Hugging Face model temperatures, in place.

    Nothing of the model is replaced: hooks scale what its projections make, so every attention implementation
    (sdpa, flash, flex, eager) and every cache works as before; scaled values go into the cache. With the
    defaults all temperatures are exactly 1 at first, and logits are bit-identical.

    Parameters
    ----------
    model : PreTrainedModel
        Of the families llama (SmolLM2 too), mistral, qwen2, qwen3, gpt2, gpt_neox, phi3.
    temperatures : sequence of {"q", "k", "v"}, default=("q", "v")
    token, position, alpha_init
        As for :class:`TemperatureModule`. "sigmoid" on a trained model needs ``alpha_init=-6``.
    layers : sequence of int, optional
        Numbers of the attention modules to convert. Default: all.
    freeze_base : bool, default=False
        Train the temperatures only.
    max_fraction : float or None, default=0.005
        Most new parameters as a share of the model's; None for no limit ("mlp" needs about 5 %).
    bias : bool, default=False
        One more scalar per head, inside the tanh.
    token_feature : tensor of shape (vocab_size,), optional
        For ``token="feature"``; see :func:`token_log_frequency`.

    Returns
    -------
    ConversionResult

    Raises
    ------
    ValueError
        If the model is converted already or of no supported family, or more parameters would be added than
        `max_fraction` allows.

    See Also
    --------
    revert_ssa : the way back.
    finetune : train the temperatures.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=100))
    >>> convert_to_ssa(model).identity_at_init
    True
    """
    family = family_of(model)
    if is_converted(model):
        raise ValueError("model must not be converted already; revert_ssa(model) first")
    roles = check_roles(temperatures)
    if not roles:
        raise ValueError("temperatures must name at least one of q, k, v")
    check_bool("freeze_base", freeze_base)
    sites = attention_sites(model)
    if layers is not None:
        sites = [sites[index] for index in check_indices("layers", layers, len(sites))]
        if not sites:
            raise ValueError("layers must name at least one attention module; got none")
    options = {"token": token, "position": position, "alpha_init": alpha_init, "bias": bias}
    added = [(site, _temperatures(site, roles, options)) for site in sites]
    table = _check_feature(model, token, token_feature)
    n_base = sum(parameter.numel() for parameter in model.parameters())
    n_new = sum(parameter.numel() for _, module in added for parameter in module.parameters())
    if max_fraction is not None:
        check_real("max_fraction", max_fraction, low=0.0)
        if n_new > max_fraction * n_base:
            raise ValueError(
                f"max_fraction={max_fraction:g} allows {int(max_fraction * n_base)} new parameters; this "
                f"conversion "
                f"needs {n_new} ({100 * n_new / n_base:.3g} %)"
            )
    frozen = [name for name, parameter in model.named_parameters() if freeze_base and parameter.requires_grad]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    base = model.base_model
    if table is not None:
        base.register_buffer("ssa_token_feature", table, persistent=False)
    for site, module in added:
        attach_layer(site, module.train(model.training))
    attach_model(base)
    record = {**options, "temperatures": list(roles), "family": family, "frozen": frozen}
    record["layers"] = None if layers is None else [int(index) for index in layers]
    setattr(model, RECORD, record)
    return ConversionResult(
        model=model,
        family=family,
        n_layers=len(sites),
        n_new_parameters=n_new,
        n_base_parameters=n_base,
        fraction=n_new / n_base,
        parameter_names=[name for name, _ in named_ssa_parameters(model)],
        identity_at_init=_is_identity(position, alpha_init),
    )


def revert_ssa(model: Any) -> None:
    """Take all temperatures out of a converted model; its outputs are what they were before, to the last bit.

    Constants that :func:`merge_constant_temperatures` has moved into the weights stay there.

    Parameters
    ----------
    model : PreTrainedModel

    Raises
    ------
    ValueError
        If the model is not converted.
    """
    record = check_converted(model)
    for site in converted_sites(model):
        detach_layer(site)
    remove_hooks(model.base_model)
    if hasattr(model.base_model, "ssa_token_feature"):
        del model.base_model.ssa_token_feature
    for name in record["frozen"]:
        model.get_parameter(name).requires_grad_(True)
    delattr(model, RECORD)


def ssa_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all temperatures, of a converted model or of one built with them.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    parameters : list of nn.Parameter

    Examples
    --------
    >>> from mlpapers.attention import SelectiveTransformerLM, ssa_parameters
    >>> model = SelectiveTransformerLM(16, dim=8, num_layers=1, num_heads=2)
    >>> sum(parameter.numel() for parameter in ssa_parameters(model))
    20
    """
    return [parameter for _, parameter in named_ssa_parameters(model)]


def count_parameters(model: nn.Module) -> dict[str, Any]:
    """Count parameters, shared ones once.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    counts : dict
        ``base``, ``ssa``, and ``fraction`` = ssa / base.

    Examples
    --------
    >>> from mlpapers.attention import SelectiveTransformerLM, count_parameters
    >>> model = SelectiveTransformerLM(100, dim=32, num_layers=2, num_heads=4, random_state=0)
    >>> counts = count_parameters(model)
    >>> counts["base"], counts["ssa"]
    (28416, 144)
    """
    ssa = sum(parameter.numel() for parameter in ssa_parameters(model))
    base = sum(parameter.numel() for parameter in model.parameters()) - ssa
    return {"base": base, "ssa": ssa, "fraction": ssa / base if base else float("nan")}


def named_ssa_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return names and parameters of all temperatures."""
    return [
        (f"{prefix}.{name}" if prefix else name, parameter)
        for prefix, module in model.named_modules()
        if isinstance(module, TemperatureModule)
        for name, parameter in module.named_parameters()
    ]


def is_converted(model: Any) -> bool:
    """Return whether the model carries a conversion."""
    return hasattr(model, RECORD)


def check_converted(model: Any) -> dict[str, Any]:
    """Return the record of the conversion; ValueError where there is none."""
    if not is_converted(model):
        raise ValueError(f"model must be converted by convert_to_ssa first; {type(model).__name__} is not")
    record: dict[str, Any] = getattr(model, RECORD)
    return record


def converted_sites(model: nn.Module) -> list[Site]:
    """Return the attention modules that have temperatures."""
    return [site for site in attention_sites(model) if hasattr(site.module, "ssa")]


def _is_identity(position: str, alpha_init: float | None) -> bool:
    """Return whether new temperatures are exactly 1: token weights start at 0, so alpha decides."""
    neutral = 1.0 if position == "yarn" else 0.0
    return position == "none" or (position in IDENTITY_KINDS and alpha_init in (None, neutral))


def _temperatures(site: Site, roles: Sequence[str], options: dict[str, Any]) -> SelectiveTemperatures:
    modules = {
        role: TemperatureModule(site.heads(role), site.head_dim, input_dim=site.width, **options)
        for role in roles
    }
    weight: Any = site.weight_rows("q")[0].weight
    # float32 also beside half-precision weights: steps of training would be lost in the rounding.
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return SelectiveTemperatures(site, modules).to(device=weight.device, dtype=dtype)


def _check_feature(model: Any, token: str, table: Any) -> torch.Tensor | None:
    if token != "feature":
        if table is not None:
            raise ValueError(f"token_feature must be None with token={token!r}")
        return None
    if table is None:
        raise ValueError(
            "token_feature must be given with token='feature': one number per token of the vocabulary"
        )
    check_floating("token_feature", table, ndim=1)
    embedding = model.get_input_embeddings().weight
    check_token_feature(model, table)
    return table.to(embedding.device)


def check_token_feature(model: Any, table: torch.Tensor) -> None:
    """Raise ValueError unless there is one number for each token of the model."""
    size = model.get_input_embeddings().weight.shape[0]
    if table.shape[0] != size:
        raise ValueError(f"token_feature must have shape ({size},); got {tuple(table.shape)}")
