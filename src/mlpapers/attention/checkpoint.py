"""Checkpoints of temperatures alone: a hundred kilobytes beside a model of hundreds of megabytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mlpapers.attention._families import Site, family_of
from mlpapers.attention._hooks import SelectiveTemperatures
from mlpapers.attention.conversion import (
    check_converted,
    check_token_feature,
    convert_to_ssa,
    converted_sites,
    is_converted,
    named_ssa_parameters,
    revert_ssa,
)
from mlpapers.attention.temperature import TemperatureModule
from mlpapers.core._files import atomic_write
from mlpapers.core.validation import check_bool, join_names

__all__ = [
    "load_ssa",
    "load_ssa_state_dict",
    "merge_constant_temperatures",
    "save_ssa",
    "ssa_state_dict",
]

_FORMAT = "mlpapers-ssa-1"
_SETTINGS = ("temperatures", "token", "position", "alpha_init", "bias", "layers")


def ssa_state_dict(model: Any) -> dict[str, torch.Tensor]:
    """Return the parameters of all temperatures by name, detached.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    state : dict of str to tensor

    Examples
    --------
    >>> from mlpapers.attention import SelectiveTransformerLM, ssa_state_dict
    >>> model = SelectiveTransformerLM(16, dim=8, num_layers=1, num_heads=2)
    >>> for name, value in ssa_state_dict(model).items():
    ...     print(name, tuple(value.shape))
    blocks.0.attention.q_temp.weight (2, 4)
    blocks.0.attention.q_temp.alpha (2,)
    blocks.0.attention.v_temp.weight (2, 4)
    blocks.0.attention.v_temp.alpha (2,)
    """
    return {name: parameter.detach() for name, parameter in named_ssa_parameters(model)}


def load_ssa_state_dict(model: Any, sd: Mapping[str, torch.Tensor], strict: bool = True) -> None:
    """Copy parameters of temperatures into a model that has them.

    Parameters
    ----------
    model : nn.Module
    sd : mapping of str to tensor
        What :func:`ssa_state_dict` returned.
    strict : bool, default=True
        Names must be the same on both sides. Otherwise the common ones are copied.

    Raises
    ------
    ValueError
        If names or shapes differ; nothing is changed then.

    Examples
    --------
    >>> from mlpapers.attention import SelectiveTransformerLM, load_ssa_state_dict, ssa_state_dict
    >>> tuned = SelectiveTransformerLM(16, dim=8, num_layers=1, num_heads=2, random_state=0)
    >>> fresh = SelectiveTransformerLM(16, dim=8, num_layers=1, num_heads=2, random_state=1)
    >>> load_ssa_state_dict(fresh, ssa_state_dict(tuned))
    """
    check_bool("strict", strict)
    own = dict(named_ssa_parameters(model))
    missing, foreign = set(own) - set(sd), set(sd) - set(own)
    if strict and (missing or foreign):
        absent, unknown = join_names(sorted(missing)[:3]), join_names(sorted(foreign)[:3])
        raise ValueError(
            f"sd must have the temperatures of the model; missing: {absent or 'none'}, "
            f"not in the model: {unknown or 'none'}"
        )
    for name in own.keys() & sd.keys():
        if own[name].shape != sd[name].shape:
            raise ValueError(
                f"sd[{name!r}] must have shape {tuple(own[name].shape)}; got {tuple(sd[name].shape)}"
            )
    with torch.no_grad():
        for name in own.keys() & sd.keys():
            own[name].copy_(sd[name])


def save_ssa(model: Any, path: str | os.PathLike[str]) -> Path:
    """Write the temperatures of a converted model to a safetensors file.

    Parameters
    ----------
    model : PreTrainedModel
    path : path

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If the model is not converted.
    """
    from safetensors.torch import save

    target = _as_path(path)
    record = check_converted(model)
    settings = {name: record[name] for name in _SETTINGS}
    metadata = {"format": _FORMAT, "family": record["family"], "conversion": json.dumps(settings)}
    state = {name: value.cpu().contiguous() for name, value in ssa_state_dict(model).items()}
    if record["token"] == "feature":
        state["token_feature"] = model.base_model.ssa_token_feature.cpu()
    with atomic_write(target) as file:
        file.write(save(state, metadata=metadata))
    return target


def load_ssa(model: Any, path: str | os.PathLike[str]) -> None:
    """Read temperatures from a file into a model, which is converted as the saved one was if it is not yet.

    Parameters
    ----------
    model : PreTrainedModel
    path : path
        Written by :func:`save_ssa`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such checkpoint, or of another family, kind or shape; nothing is changed then.
    """
    from safetensors import SafetensorError, safe_open

    source = _as_path(path)
    if not source.is_file():
        raise FileNotFoundError(f"path names no file: {source}")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"path must be a safetensors file: {source} ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"path must be a checkpoint of save_ssa; {source} is not")
    family = family_of(model)
    if metadata["family"] != family:
        raise ValueError(
            f"path holds temperatures of the family {metadata['family']!r}; the model is {family!r}"
        )
    settings = json.loads(metadata["conversion"])
    table = state.pop("token_feature", None)
    if not is_converted(model):
        convert_to_ssa(model, max_fraction=None, token_feature=table, **settings)
        try:
            load_ssa_state_dict(model, state)
        except ValueError:
            revert_ssa(model)
            raise
        return
    record = check_converted(model)
    # Parameters of other kinds may have the same names and shapes, and mean something else.
    for name in ("token", "position"):
        if settings[name] != record[name]:
            raise ValueError(
                f"path holds temperatures with {name}={settings[name]!r}; the model was converted with "
                f"{record[name]!r}: revert_ssa(model) first"
            )
    if table is not None:
        check_token_feature(model, table)
    load_ssa_state_dict(model, state)
    if table is not None:
        model.base_model.ssa_token_feature.copy_(table)


def _as_path(path: Any) -> Path:
    """Return a path; TypeError that says what stands where, as for swapped arguments."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, the argument after the model; got {type(path).__name__}")
    return Path(path)


@torch.no_grad()
def merge_constant_temperatures(model: Any) -> int:
    """Move temperatures that are the same for every token into the weights; outputs stay what they are.

    A head's temperature is constant where its token weights are 0 and its coefficient of log n is 0. Its
    constant goes into the rows of the projection, and the temperature is 1 from then on. Heads behind a query
    norm are left: the norm would undo it.

    Parameters
    ----------
    model : PreTrainedModel
        Converted; changed in place.

    Returns
    -------
    n_merged : int
        Heads whose constant was not 1.

    Raises
    ------
    ValueError
        If the model is not converted.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from mlpapers.attention import convert_to_ssa, merge_constant_temperatures
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=16, bos_token_id=1, eos_token_id=2, **sizes))
    >>> result = convert_to_ssa(model, max_fraction=0.1)
    >>> merge_constant_temperatures(model)  # those of a fresh conversion are all 1
    0
    """
    check_converted(model)
    n_merged = 0
    for site in converted_sites(model):
        temperatures: Any = site.module.ssa
        for role in temperatures.roles():
            if role not in site.norms.values():
                n_merged += _merge(site, temperatures, role)
    return n_merged


def _merge(site: Site, temperatures: SelectiveTemperatures, role: str) -> int:
    module: TemperatureModule = getattr(temperatures, role)
    heads = module.num_heads
    device = site.head_weights(role).device
    constant = torch.ones(heads, device=device)
    fixed = torch.ones(heads, dtype=torch.bool, device=device)
    if module.token == "shared_all":
        # One sum over all heads makes the temperature of each.
        assert module.weight is not None
        fixed &= not bool((module.weight != 0).any())
    elif module.token != "none":
        assert module.weight is not None
        fixed &= ~(module.weight != 0).reshape(heads, -1).any(-1)
    if module.position == "ssmax":
        return 0
    if module.position == "yarn":
        constant *= (1.0 + 0.1 * torch.log(module.alpha)) ** 2
    elif module.position != "none":
        fixed &= (module.coefficient() == 0).expand(heads)
    if module.bias is not None:
        constant = constant + torch.tanh(module.bias)
    change = fixed & (constant != 1.0)
    if module.position == "yarn":
        # The buffer may be one number for all heads: then all are moved, or none.
        change = change if module.alpha.ndim else change & change.all()
    if not bool(change.any()):
        return 0
    factor = torch.where(change, constant, torch.ones_like(constant))
    projection: Any
    projection, rows = site.weight_rows(role)
    weight = projection.weight
    flat, per_row = rows.reshape(-1).to(device), factor.repeat_interleave(site.head_dim).to(weight.dtype)
    if site.layout == "gpt2":
        weight[:, flat] *= per_row
    else:
        weight[flat] *= per_row[:, None]
    if getattr(projection, "bias", None) is not None:
        projection.bias[flat] *= per_row
    if module.bias is not None:
        module.bias[change] = 0.0
    if module.position == "yarn":
        module.alpha.copy_(torch.where(change, torch.ones_like(module.alpha), module.alpha))
    return int(change.sum())
