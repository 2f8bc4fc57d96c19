"""Selective self-attention as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Self

import torch
from torch import nn

from mlpapers.attention._checks import (
    check_at_least,
    check_floating,
    check_floating_dtype,
    check_ids,
    check_tensor,
)
from mlpapers.attention._masks import Visibility
from mlpapers.attention._observe import observer
from mlpapers.attention._rope import rotate, rotation
from mlpapers.attention.cache import KVCache
from mlpapers.attention.functional import BACKENDS, attend, explicit_weights, repeat_heads
from mlpapers.attention.temperature import TemperatureModule
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real

__all__ = ["SelectiveSelfAttention"]

ROLES = ("q", "k", "v")


def check_roles(temperatures: Any) -> tuple[str, ...]:
    """Return the roles that get a temperature; ValueError unless they are a subset of q, k, v."""
    if not isinstance(temperatures, str | Sequence | AbstractSet):
        raise TypeError(f"temperatures must be a sequence of {ROLES}; got {temperatures!r}")
    roles = (temperatures,) if isinstance(temperatures, str) else tuple(temperatures)
    if not set(roles) <= set(ROLES) or len(set(roles)) != len(roles):
        raise ValueError(f"temperatures must be a subset of {ROLES}; got {temperatures!r}")
    return roles


class SelectiveSelfAttention(nn.Module):
    r"""Self-attention with a temperature for every query and every value.

    .. math:: K = \tau^k(X) \odot X W_k, \quad Q = \tau^q(X) \odot X W_q, \quad V = \tau^v(X) \odot X W_v,
              \qquad Y = S(Q K^\top / \sqrt d)\, V

    with temperatures from :class:`TemperatureModule`. They start at 1: a new layer computes what plain
    attention with the same weights does. Values are scaled on the key's side, before the sum over keys.

    Parameters
    ----------
    embed_dim : int
    num_heads : int
    num_kv_heads : int, optional
        Heads of keys and values; `num_heads` must be a multiple. Default: `num_heads`.
    head_dim : int, optional
        Default: ``embed_dim // num_heads``.
    bias : bool, default=False
        Of the four projections.
    dropout : float, default=0.0
        Of the attention weights, in training mode.
    causal : bool, default=True
        A token sees itself and what is before it. Otherwise every token sees all real ones, and n is their
        number.
    token, position : str
        As for :class:`TemperatureModule`. "feature" needs `feature` in every call.
    temperatures : sequence of {"q", "k", "v"}, default=("q", "v")
        Temperatures of keys reorder similarities and rarely help; they are there for comparison.
    rope : bool, default=True
        Rotary position embedding.
    rope_theta : float, default=10000.0
    window : int, optional
        A query sees at most so many keys (causal only).
    window_n : {"clip", "absolute"}, default="clip"
        With a window, the n of a query's temperature is at most the window ("clip"), or its number all the
        same.
    qk_norm : bool, default=False
        RMS norm of each head's query and key. Temperatures come after it, their features from before it.
    backend : {"sdpa", "flex", "math"}, default="sdpa"
    device, dtype : as in torch

    Attributes
    ----------
    q_proj, k_proj, v_proj, o_proj : nn.Linear
    q_temp, k_temp, v_temp : TemperatureModule or None

    Examples
    --------
    >>> import torch
    >>> layer = SelectiveSelfAttention(32, 4, num_kv_heads=2)
    >>> layer(torch.randn(2, 10, 32)).shape
    torch.Size([2, 10, 32])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        causal: bool = True,
        token: str = "shared",
        position: str = "linear",
        temperatures: Sequence[str] = ("q", "v"),
        rope: bool = True,
        rope_theta: float = 10000.0,
        window: int | None = None,
        window_n: str = "clip",
        qk_norm: bool = False,
        backend: str = "sdpa",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = check_int("embed_dim", embed_dim, minimum=1)
        self.num_heads = check_int("num_heads", num_heads, minimum=1)
        self.num_kv_heads = (
            num_heads if num_kv_heads is None else check_int("num_kv_heads", num_kv_heads, minimum=1)
        )
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads; got {num_heads} and {self.num_kv_heads}"
            )
        if head_dim is None and embed_dim % num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, or head_dim be given; got {embed_dim} and "
                f"{num_heads}"
            )
        self.head_dim = (
            embed_dim // num_heads if head_dim is None else check_int("head_dim", head_dim, minimum=1)
        )
        self.rope = check_bool("rope", rope)
        if rope and self.head_dim % 2:
            raise ValueError(f"head_dim must be even with rope=True; got {self.head_dim}")
        self.rope_theta = check_real("rope_theta", rope_theta, low=0.0, closed="neither")
        self.causal = check_bool("causal", causal)
        self.window = None if window is None else check_int("window", window, minimum=1)
        if window is not None and not causal:
            raise ValueError("window needs causal=True: it counts the keys before a query")
        self.window_n = check_choice("window_n", window_n, ("clip", "absolute"))
        self.dropout = check_real("dropout", dropout, low=0.0, high=1.0)
        self.backend = check_choice("backend", backend, BACKENDS)
        check_floating_dtype("dtype", dtype)
        roles = check_roles(temperatures)
        made: dict[str, Any] = {"bias": check_bool("bias", bias), "device": device, "dtype": dtype}
        self.q_proj = nn.Linear(embed_dim, self.num_heads * self.head_dim, **made)
        self.k_proj = nn.Linear(embed_dim, self.num_kv_heads * self.head_dim, **made)
        self.v_proj = nn.Linear(embed_dim, self.num_kv_heads * self.head_dim, **made)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, embed_dim, **made)
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        self.q_norm = (
            nn.RMSNorm(self.head_dim, eps=1e-6, **placed) if check_bool("qk_norm", qk_norm) else None
        )
        self.k_norm = nn.RMSNorm(self.head_dim, eps=1e-6, **placed) if qk_norm else None
        for role in ROLES:
            heads = self.num_heads if role == "q" else self.num_kv_heads
            module = (
                TemperatureModule(heads, self.head_dim, token=token, position=position, input_dim=embed_dim)
                if role in roles
                else None
            )
            self.add_module(f"{role}_temp", module.to(device=device, dtype=dtype) if module else None)

    @classmethod
    def from_multihead(cls, mha: nn.MultiheadAttention, **kw: Any) -> Self:
        """Make a layer with the weights of torch's attention, which it equals until it is trained.

        Parameters
        ----------
        mha : nn.MultiheadAttention
            With keys and values as wide as queries and without extra biases of keys and values; batch_first
            or not (the layer itself always takes (B, T, D)).
        **kw
            Parameters of the layer; by default not causal and without rotation, as torch's is.

        Returns
        -------
        layer : SelectiveSelfAttention

        Raises
        ------
        TypeError
            If `mha` is something else.
        ValueError
            If its kind cannot be copied.
        """
        if not isinstance(mha, nn.MultiheadAttention):
            raise TypeError(f"mha must be an nn.MultiheadAttention; got {type(mha).__name__}")
        # Torch's annotations leave out that it can be None.
        packed: Any = mha.in_proj_weight
        if packed is None or mha.bias_k is not None or mha.add_zero_attn:
            raise ValueError(
                "mha must have keys and values as wide as queries, and neither bias_k nor add_zero_attn"
            )
        weight: torch.Tensor = packed
        options: dict[str, Any] = {
            "bias": mha.in_proj_bias is not None,
            "causal": False,
            "rope": False,
            "dropout": mha.dropout,
            "device": weight.device,
            "dtype": weight.dtype,
        }
        layer = cls(mha.embed_dim, mha.num_heads, **{**options, **kw})
        with torch.no_grad():
            for projection, part in zip((layer.q_proj, layer.k_proj, layer.v_proj), weight.chunk(3)):
                projection.weight.copy_(part)
            layer.o_proj.weight.copy_(mha.out_proj.weight)
            if mha.in_proj_bias is not None:
                for projection, part in zip(
                    (layer.q_proj, layer.k_proj, layer.v_proj), mha.in_proj_bias.chunk(3)
                ):
                    projection.bias.copy_(part)
                layer.o_proj.bias.copy_(mha.out_proj.bias)
        return layer.train(mha.training)

    def forward(
        self,
        x: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
        feature: torch.Tensor | None = None,
    ) -> Any:
        """Return the attention's output.

        Parameters
        ----------
        x : tensor of shape (B, T, embed_dim)
        attention_mask : tensor of shape (B, S), optional
            1 or True = real token (the opposite of nn.MultiheadAttention's key_padding_mask); S counts the
            cached tokens and the T new ones. Padding may stand anywhere; the first real token has n = 1.
        position_ids : integer tensor of shape (T,) or (B, T), optional
            Positions from 0, for the rotation and for n = position + 1. Default: counted from the mask and
            the cache. Give positions that begin anew with each document where several share a row.
        cache : KVCache, optional
            Keys and values read before; updated in place.
        need_weights : bool, default=False
            Return the attention map too, which takes memory T x S.
        feature : tensor of shape (B, T), optional
            For ``token="feature"``.

        Returns
        -------
        y : tensor of shape (B, T, embed_dim)
        weights : tensor of shape (B, H_q, T, S), float32
            With ``need_weights=True``; without dropout.

        Raises
        ------
        ValueError
            For wrong shapes or negative positions.
        """
        batch, length = self._check_input(x)
        if cache is not None and not isinstance(cache, KVCache):
            raise TypeError(f"cache must be a KVCache; got {type(cache).__name__}")
        past = 0 if cache is None else cache.length
        total = past + length
        mask = self._check_mask(attention_mask, batch, total, past)
        positions, numbers = self._count(mask, position_ids, batch, length, past, x.device)
        query, key, value = self._project(x, positions, numbers, feature)
        if cache is not None:
            key, value = cache.update(key, value)
        seen = None if mask is None else mask[:, None, None, :]
        visibility = Visibility(length, total, self.causal, self.window, seen)
        watcher = observer()
        if watcher is not None:
            watcher.attention(query, key, visibility, None)
        dropout_p = self.dropout if self.training else 0.0
        if need_weights:
            weights = explicit_weights(query, key, visibility)
            values = repeat_heads(value, self.num_heads)
            y = (nn.functional.dropout(weights, dropout_p) @ values.to(weights.dtype)).to(query.dtype)
        else:
            y = attend(query, key, value, visibility, dropout_p=dropout_p, backend=self.backend)
        y = self.o_proj(y.transpose(1, 2).reshape(batch, length, self.num_heads * self.head_dim))
        return (y, weights) if need_weights else y

    def temperatures(
        self,
        x: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        *,
        feature: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the temperatures of an input.

        Parameters
        ----------
        x : tensor of shape (B, T, embed_dim)
        position_ids : integer tensor of shape (T,) or (B, T), optional
        feature : tensor of shape (B, T), optional

        Returns
        -------
        temperatures : dict
            ``"q"``: (B, H_q, T), ``"k"`` and ``"v"``: (B, H_kv, T), for those that the layer has; float32.
        """
        batch, length = self._check_input(x)
        _, numbers = self._count(None, position_ids, batch, length, 0, x.device)
        found = {}
        for role in ROLES:
            module, projection = getattr(self, f"{role}_temp"), getattr(self, f"{role}_proj")
            if module is not None:
                n = self._query_numbers(numbers) if role == "q" else numbers
                found[role] = module(self._heads(projection(x)), n, hidden=x, feature=feature)
        return found

    def _project(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        numbers: torch.Tensor,
        feature: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values (B, H, T, d): normalised, scaled, rotated."""
        raw = {role: self._heads(getattr(self, f"{role}_proj")(x)) for role in ROLES}
        ready = {}
        for role in ROLES:
            norm = getattr(self, f"{role}_norm", None)
            rows = raw[role] if norm is None else norm(raw[role])
            module = getattr(self, f"{role}_temp")
            if module is not None:
                n = self._query_numbers(numbers) if role == "q" else numbers
                features = None if norm is None else raw[role]
                watcher = observer()
                if watcher is not None:
                    watcher.temperature(role, module(raw[role], n, hidden=x, feature=feature))
                rows = module.scale(rows, n, features=features, hidden=x, feature=feature)
            ready[role] = rows
        if self.rope:
            cos, sin = rotation(positions, self.head_dim, self.rope_theta)
            ready["q"], ready["k"] = rotate(ready["q"], cos, sin), rotate(ready["k"], cos, sin)
        return ready["q"], ready["k"], ready["v"]

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        heads = projected.shape[2] // self.head_dim
        return projected.view(*projected.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _query_numbers(self, numbers: torch.Tensor) -> torch.Tensor:
        if self.window is None or self.window_n == "absolute":
            return numbers
        return numbers.clamp_max(self.window)

    def _count(
        self,
        mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        batch: int,
        length: int,
        past: int,
        device: torch.device,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions for the rotation, and the n of each new token."""
        if mask is not None:
            numbers = mask.cumsum(-1)[:, past:].clamp_min(1)
        else:
            numbers = torch.arange(past + 1, past + length + 1, device=device)
        positions = numbers - 1
        if position_ids is not None:
            check_ids("position_ids", position_ids, ndim=(1, 2))
            if position_ids.shape[-1] != length or (
                position_ids.ndim == 2 and position_ids.shape[0] not in (1, batch)
            ):
                raise ValueError(
                    f"position_ids must have shape ({length},) or ({batch}, {length}); got "
                    f"{tuple(position_ids.shape)}"
                )
            check_at_least("position_ids", position_ids, 0)
            positions, numbers = position_ids, position_ids + 1
        if not self.causal:
            visible = past + length
            numbers = (
                torch.full((length,), visible, device=device)
                if mask is None
                else mask.sum(-1, keepdim=True).clamp_min(1).expand(batch, length)
            )
        return positions, numbers

    def _check_input(self, x: torch.Tensor) -> tuple[int, int]:
        check_floating("x", x, ndim=3)
        if x.shape[2] != self.embed_dim:
            raise ValueError(f"x must have shape (B, T, {self.embed_dim}); got {tuple(x.shape)}")
        return x.shape[0], x.shape[1]

    def _check_mask(self, mask: Any, batch: int, total: int, past: int) -> torch.Tensor | None:
        if mask is None:
            return None
        check_tensor("attention_mask", mask)
        if tuple(mask.shape) != (batch, total):
            raise ValueError(
                f"attention_mask must have shape (B, S) = {(batch, total)}, with S the {past} cached tokens "
                f"and "
                f"the new ones; got {tuple(mask.shape)}"
            )
        return mask.to(torch.bool)

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.embed_dim}, heads={self.num_heads}/{self.num_kv_heads}, causal={self.causal}"
