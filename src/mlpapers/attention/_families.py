"""Where Hugging Face models keep query, key and value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Family (the config's model_type) -> how its attention makes query, key and value.
LAYOUTS = {
    "llama": "separate",
    "mistral": "separate",
    "qwen2": "separate",
    "qwen3": "normed",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "phi3": "phi3",
}
_FUSED = {"gpt2": "c_attn", "gpt_neox": "query_key_value", "phi3": "qkv_proj"}
# In these the window stands in the config and holds for every layer; others have it in each module or not.
_WINDOW_IN_CONFIG = ("mistral", "phi3")


@dataclass(frozen=True)
class Site:
    """One self-attention module of a model and the shapes inside it.

    Attributes
    ----------
    name : str
        Its name in the model.
    module : nn.Module
    layout : str
    num_heads, num_kv_heads, head_dim, width : int
        Width is that of the layer's input.
    window : int or None
    """

    name: str
    module: nn.Module
    layout: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    width: int
    window: int | None

    def heads(self, role: str) -> int:
        """Return the number of heads that the role has."""
        return self.num_heads if role == "q" else self.num_kv_heads

    @property
    def projections(self) -> dict[str, str]:
        """Attribute name -> role of the projections; "qkv" where one makes all three."""
        if self.layout in _FUSED:
            return {_FUSED[self.layout]: "qkv"}
        return {"q_proj": "q", "k_proj": "k", "v_proj": "v"}

    @property
    def norms(self) -> dict[str, str]:
        """Attribute name -> role of norms between projection and attention."""
        return {"q_norm": "q", "k_norm": "k"} if self.layout == "normed" else {}

    def split(self, fused: torch.Tensor) -> dict[str, torch.Tensor]:
        """Split a fused projection (B, T, ...) into views (B, T, H, d) of the three."""
        lead = fused.shape[:-1]
        if self.layout == "gpt_neox":
            parts = fused.view(*lead, self.num_heads, 3, self.head_dim).unbind(-2)
            return dict(zip("qkv", parts))
        sizes = [self.heads(role) * self.head_dim for role in "qkv"]
        parts = fused.split(sizes, -1)
        return {role: part.view(*lead, -1, self.head_dim) for role, part in zip("qkv", parts)}

    def join(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Undo :meth:`split`."""
        if self.layout == "gpt_neox":
            return torch.stack([parts[role] for role in "qkv"], -2).flatten(-3)
        return torch.cat([parts[role].flatten(-2) for role in "qkv"], -1)

    def weight_rows(self, role: str) -> tuple[nn.Module, torch.Tensor]:
        """Return the projection that makes `role`, and the indices (H, d) of its outputs by head."""
        name = next(name for name, made in self.projections.items() if made in (role, "qkv"))
        projection = getattr(self.module, name)
        if self.layout not in _FUSED:
            return projection, torch.arange(self.heads(role) * self.head_dim).view(-1, self.head_dim)
        total = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        return projection, self.split(torch.arange(total)[None])[role][0]

    def head_weights(self, role: str) -> torch.Tensor:
        """Return the projection of each head, (H, d, width)."""
        projection, rows = self.weight_rows(role)
        weight: Any = projection.weight
        # GPT-2 keeps its matrices transposed.
        return (weight.T if self.layout == "gpt2" else weight)[rows.to(weight.device)]


def family_of(model: Any) -> str:
    """Return the model's family; ValueError where it is none that is supported."""
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family not in LAYOUTS:
        raise ValueError(
            f"model must be a Hugging Face model of one of the families {', '.join(LAYOUTS)}; "
            f"got {type(model).__name__}" + (f" of family {family!r}" if family else "")
        )
    return str(family)


def attention_sites(model: nn.Module) -> list[Site]:
    """Return the self-attention modules of a supported model, in order."""
    family = family_of(model)
    layout = LAYOUTS[family]
    found = list(_modules_with_projections(model, layout))
    if not found:
        raise ValueError(f"model of family {family!r} has no self-attention module of the known layout")
    return [_site(name, module, family, layout) for name, module in found]


def _modules_with_projections(model: nn.Module, layout: str) -> Iterator[tuple[str, nn.Module]]:
    wanted = [_FUSED[layout]] if layout in _FUSED else ["q_proj", "k_proj", "v_proj"]
    for name, module in model.named_modules():
        children = dict(module.named_children())
        if all(child in children for child in wanted) and not getattr(module, "is_cross_attention", False):
            yield name, module


def _site(name: str, module: Any, family: str, layout: str) -> Site:
    config = module.config
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(config.hidden_size)
    head_dim = int(getattr(module, "head_dim", None) or getattr(module, "head_size", None) or width // heads)
    window = getattr(config if family in _WINDOW_IN_CONFIG else module, "sliding_window", None)
    return Site(name, module, layout, heads, kv_heads, head_dim, width, int(window) if window else None)
