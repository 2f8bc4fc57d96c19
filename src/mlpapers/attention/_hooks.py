"""Hooks that scale projections inside a Hugging Face model; all that a call needs is kept per thread.

An attention module's pre-hook finds the number n of each token and leaves it, with the module's temperatures,
where the hooks of the projections find it. Nothing is kept on modules, so that threads and replicas do not
meet, and nothing is left behind by a call that raises.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mlpapers.attention._checks import check_at_least
from mlpapers.attention._families import Site
from mlpapers.attention._observe import observer
from mlpapers.attention.temperature import TemperatureModule

# Set on the position ids that a model makes for itself: a layer that gradient checkpointing runs again sees
# the same tensor, while the call of the model is long over.
_MARK = "_ssa_call"


@dataclass
class ModelCall:
    """What the model's own arguments say.

    Attributes
    ----------
    numbers : tensor of shape (B, T) or None
        Number of each token, counted from the attention mask.
    feature : tensor of shape (B, T) or None
    """

    numbers: torch.Tensor | None
    feature: torch.Tensor | None


@dataclass
class LayerCall:
    """What the projections of one attention module need while it runs."""

    temperatures: SelectiveTemperatures
    roles: dict[int, str]
    n: torch.Tensor
    hidden: torch.Tensor
    feature: torch.Tensor | None
    raw: dict[str, torch.Tensor] = field(default_factory=dict)


class _Calls(threading.local):
    model: ModelCall | None = None
    layer: LayerCall | None = None


_CALLS = _Calls()


class SelectiveTemperatures(nn.Module):
    """The temperatures of one converted attention module: its sub-module ``ssa``.

    Attributes
    ----------
    q, k, v : TemperatureModule or None
    """

    def __init__(self, site: Site, modules: dict[str, TemperatureModule]) -> None:
        super().__init__()
        for role in "qkv":
            self.add_module(role, modules.get(role))
        self.layout = site.layout
        self.sizes = (site.num_heads, site.num_kv_heads, site.head_dim, site.width)
        self.window = site.window

    def site(self, owner: nn.Module) -> Site:
        """Return the site with `owner`, which may be a replica of the module that was converted."""
        return Site("", owner, self.layout, *self.sizes, self.window)

    def roles(self) -> list[str]:
        """Return the roles that have a temperature."""
        return [role for role in "qkv" if getattr(self, role) is not None]

    def scale(
        self, role: str, x: torch.Tensor, call: LayerCall, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return x (B, T, H, d) times the temperatures of `role`."""
        module: TemperatureModule = getattr(self, role)
        n = call.n
        if role == "q" and self.window is not None:
            n = n.clamp_max(self.window)
        rows = x.transpose(1, 2)
        raw = None if features is None else features.transpose(1, 2)
        watcher = observer()
        if watcher is not None:
            watcher.temperature(role, module(rows if raw is None else raw, n, call.hidden, call.feature))
        y = module.scale(rows, n, features=raw, hidden=call.hidden, feature=call.feature)
        return y.transpose(1, 2)


def enter_model(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Pre-hook of the base model: count tokens by the mask where positions are not given."""
    ids = args[0] if args else kwargs.get("input_ids")
    mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    positions = kwargs.get("position_ids")
    numbers = feature = None
    if positions is not None:
        check_at_least("position_ids", positions, 0)
    elif isinstance(mask, torch.Tensor) and mask.ndim == 2:
        numbers = mask.to(torch.int64).cumsum(-1).clamp_min(1)
    table = getattr(module, "ssa_token_feature", None)
    if table is not None:
        if not isinstance(ids, torch.Tensor):
            raise ValueError("input_ids must be given: the temperature is a function of the tokens")
        feature = table[ids]
    _CALLS.model = ModelCall(numbers, feature) if numbers is not None or feature is not None else None


def leave_model(_module: nn.Module, _args: Any, _output: Any) -> None:
    """Forward hook of the base model, called after an exception too."""
    _CALLS.model = None


def enter_attention(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Pre-hook of an attention module: find n, and say which projection plays which role."""
    temperatures: Any = module.ssa
    hidden = args[0] if args else kwargs["hidden_states"]
    positions = kwargs.get("position_ids")
    call = _CALLS.model
    if positions is not None:
        if call is not None:
            setattr(positions, _MARK, call)
        else:
            call = getattr(positions, _MARK, None)
    length = hidden.shape[1]
    if call is not None and call.numbers is not None:
        n = call.numbers[:, -length:]
    elif positions is not None:
        n = positions + 1
    else:
        n = _numbers_from_cache(module, kwargs, length, hidden.device)
    site = temperatures.site(module)
    # Read from _modules: getattr would not find replicas' children otherwise than by the same way, slower.
    children = module._modules
    roles = {id(children[name]): role for name, role in {**site.projections, **site.norms}.items()}
    _CALLS.layer = LayerCall(temperatures, roles, n, hidden, None if call is None else call.feature)


def leave_attention(_module: nn.Module, _args: Any, _output: Any) -> None:
    """Forward hook of an attention module, called after an exception too."""
    _CALLS.layer = None


def scale_projection(module: nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor | None:
    """Forward hook of a projection: scale what it makes, or keep it for the norm behind it."""
    call = _CALLS.layer
    role = None if call is None else call.roles.get(id(module))
    if call is None or role is None:
        return None
    temperatures = call.temperatures
    if role == "qkv":
        parts = temperatures.site(module).split(output)
        for active in temperatures.roles():
            parts[active] = temperatures.scale(active, parts[active], call)
        return temperatures.site(module).join(parts)
    if getattr(temperatures, role) is None:
        return None
    heads = output.view(*output.shape[:-1], -1, temperatures.sizes[2])
    if temperatures.layout == "normed" and role in "qk":
        call.raw[role] = heads
        return None
    return temperatures.scale(role, heads, call).reshape(output.shape)


def scale_normed(module: nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor | None:
    """Forward hook of a query or key norm: scale behind it, by features from before it."""
    call = _CALLS.layer
    role = None if call is None else call.roles.get(id(module))
    if call is None or role is None or getattr(call.temperatures, role) is None:
        return None
    return call.temperatures.scale(role, output, call, call.raw.pop(role))


def attach_layer(site: Site, temperatures: SelectiveTemperatures) -> None:
    """Give an attention module its temperatures and hooks."""
    owner = site.module
    owner.add_module("ssa", temperatures)
    owner.register_forward_pre_hook(enter_attention, with_kwargs=True)
    owner.register_forward_hook(leave_attention, always_call=True)
    for name in site.projections:
        getattr(owner, name).register_forward_hook(scale_projection)
    for name in site.norms:
        getattr(owner, name).register_forward_hook(scale_normed)


def detach_layer(site: Site) -> None:
    """Take temperatures and hooks away."""
    owner = site.module
    del owner.ssa
    for child in (owner, *(getattr(owner, name) for name in {**site.projections, **site.norms})):
        remove_hooks(child)


def attach_model(base: nn.Module) -> None:
    """Give the base model its hooks."""
    base.register_forward_pre_hook(enter_model, with_kwargs=True)
    base.register_forward_hook(leave_model, always_call=True)


def remove_hooks(module: nn.Module) -> None:
    """Remove this module's hooks, found by their functions: handles don't survive copying a model."""
    ours = (enter_model, leave_model, enter_attention, leave_attention, scale_projection, scale_normed)
    for hooks, companions in (
        (module._forward_hooks, (module._forward_hooks_with_kwargs, module._forward_hooks_always_called)),
        (module._forward_pre_hooks, (module._forward_pre_hooks_with_kwargs,)),
    ):
        for key in [key for key, hook in hooks.items() if hook in ours]:
            for registry in (hooks, *companions):
                registry.pop(key, None)  # type: ignore[attr-defined]


def _numbers_from_cache(
    module: Any, kwargs: dict[str, Any], length: int, device: torch.device
) -> torch.Tensor:
    cache: Any = kwargs.get("past_key_values", kwargs.get("layer_past"))
    past = int(cache.get_seq_length(module.layer_idx)) if hasattr(cache, "get_seq_length") else 0
    return torch.arange(past + 1, past + length + 1, device=device)
