"""Attention with temperatures: folded into query and value in front of torch's fused kernels."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from mlpapers.attention._checks import check_floating, check_shape, check_tensor
from mlpapers.attention._fold import scale_rows
from mlpapers.attention._masks import Visibility, hidden_rows, opened
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real

__all__ = ["selective_attention"]

BACKENDS = ("sdpa", "flex", "math")
# Queries for which a mask is built at once: memory grows with this times the keys, not with their square.
_CHUNK_SIZE = 1024
# Half precision ends at 65504; logits of tens times such a temperature come near it.
_LARGE_TEMPERATURE = 50.0


def selective_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    q_temperature: torch.Tensor | None = None,
    v_temperature: torch.Tensor | None = None,
    attn_mask: torch.Tensor | None = None,
    is_causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: int | None = None,
    backend: str = "sdpa",
) -> torch.Tensor:
    r"""Attention whose logits and values are scaled per token and head.

    .. math:: y_t = \sum_s \mathrm{softmax}_s\bigl(\tau^q_t\, q_t^\top k_s / \sqrt d\bigr)\, \tau^v_s v_s

    A scalar per row commutes with everything the kernels do, so it is multiplied into query and value, and
    the T x S map is never formed.

    Parameters
    ----------
    query : tensor of shape (B, H_q, T, d)
    key : tensor of shape (B, H_kv, S, d)
    value : tensor of shape (B, H_kv, S, d_v)
    q_temperature : tensor broadcastable to (B, H_q, T), optional
        Inverse temperature of each query; None is 1.
    v_temperature : tensor broadcastable to (B, H_kv, S), optional
    attn_mask : tensor broadcastable to (B, H_q, T, S), optional
        bool: True = attend; floating: added to the logits.
    is_causal : bool, default=False
        The queries are the last T of S tokens, and each sees itself and what is before it. (For T = S that is
        torch's flag; for T < S torch counts from the start, which is wrong with a cache.) Joined with
        `attn_mask` by "and".
    dropout_p : float, default=0.0
    scale : float, optional
        Default: :math:`1/\sqrt d`.
    enable_gqa : bool, default=False
        H_q may be a multiple of H_kv.
    window : int, optional
        A causal query sees at most this many keys.
    backend : {"sdpa", "flex", "math"}, default="sdpa"
        torch's scaled_dot_product_attention; FlexAttention (compiled on a GPU); the explicit map, for
        reference.

    Returns
    -------
    y : tensor of shape (B, H_q, T, d_v), in the query's dtype; zeros where a query sees no key

    Raises
    ------
    TypeError
        If an argument is not a tensor.
    ValueError
        For shapes that do not fit, a window without is_causal, or dropout with "flex".

    Warns
    -----
    RuntimeWarning
        If a half-precision query has a temperature above 50 in size: logits may overflow.

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, equation (SSA).

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(3)[None, None]
    >>> flat = selective_attention(x, x, x, q_temperature=torch.zeros(3))
    >>> [round(entry, 3) for entry in flat[0, 0, 0].tolist()]
    [0.333, 0.333, 0.333]
    """
    _check_qkv(query, key, value, enable_gqa)
    batch, heads, queries = query.shape[:3]
    kv_heads, keys = key.shape[1:3]
    check_choice("backend", backend, BACKENDS)
    check_bool("is_causal", is_causal)
    check_real("dropout_p", dropout_p, low=0.0, high=1.0)
    if scale is not None:
        check_real("scale", scale)
    if window is not None:
        check_int("window", window, minimum=1)
        if not is_causal:
            raise ValueError("window needs is_causal=True: it counts the keys before a query")
    if attn_mask is not None:
        check_tensor("attn_mask", attn_mask)
        if attn_mask.dtype != torch.bool and not attn_mask.is_floating_point():
            raise ValueError(f"attn_mask must be bool or floating; got {attn_mask.dtype}")
        check_shape("attn_mask", attn_mask, (batch, heads, queries, keys))
        attn_mask = attn_mask.reshape((1,) * (2 - attn_mask.ndim) + tuple(attn_mask.shape))
    if q_temperature is not None:
        query = _scale("q_temperature", q_temperature, query, (batch, heads, queries))
    if v_temperature is not None:
        value = _scale("v_temperature", v_temperature, value, (batch, kv_heads, keys))
    visibility = Visibility(queries, keys, is_causal, window, attn_mask)
    return attend(query, key, value, visibility, dropout_p=dropout_p, scale=scale, backend=backend)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visibility: Visibility,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
    backend: str = "sdpa",
) -> torch.Tensor:
    """Return the attention of scaled queries over scaled values; arguments are not checked."""
    if query.numel() == 0 or key.shape[2] == 0:
        return query.new_zeros((*query.shape[:3], value.shape[3]))
    needs_gradient = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    if backend == "flex" and needs_gradient and query.device.type == "cpu":
        # FlexAttention has no backward pass on the CPU; the explicit map gives the same numbers.
        backend = "math"
    if backend == "flex":
        return _flex(query, key, value, visibility, dropout_p, scale)
    if backend == "math":
        weights = explicit_weights(query, key, visibility, scale=scale)
        weights = functional.dropout(weights, dropout_p)
        return (weights @ repeat_heads(value, query.shape[1]).to(weights.dtype)).to(query.dtype)
    if visibility.is_plain_causal or visibility.is_full:
        return _sdpa(query, key, value, None, visibility.is_plain_causal, dropout_p, scale)
    outputs = []
    for start in range(0, visibility.queries, _CHUNK_SIZE):
        stop = min(start + _CHUNK_SIZE, visibility.queries)
        mask, keys = visibility.block(start, stop, query.device)
        assert mask is not None
        hidden = hidden_rows(mask)
        part = _sdpa(
            query[:, :, start:stop],
            key[:, :, keys],
            value[:, :, keys],
            _as_sdpa_mask(opened(mask, hidden), query.dtype),
            False,
            dropout_p,
            scale,
        )
        outputs.append(part.masked_fill(hidden, 0.0))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)


def explicit_weights(
    query: torch.Tensor, key: torch.Tensor, visibility: Visibility, *, scale: float | None = None
) -> torch.Tensor:
    """Return the attention map (B, H_q, T, S) in float32 (float64 for float64); rows without keys are 0."""
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query.to(dtype) * factor) @ repeat_heads(key, query.shape[1]).to(dtype).transpose(-1, -2)
    whole = Visibility(
        visibility.queries, visibility.keys, visibility.causal, visibility.window, visibility.mask
    )
    # All keys, so that the map has its full width.
    mask = _full_mask(whole, query.device)
    if mask is None:
        return torch.softmax(logits, -1)
    hidden = hidden_rows(mask)
    mask = opened(mask, hidden)
    logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask.to(dtype)
    return torch.softmax(logits, -1).masked_fill(hidden, 0.0)


def repeat_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (B, H_kv, S, d) with each head repeated for its group of queries."""
    groups = heads // tensor.shape[1]
    return tensor if groups == 1 else tensor.repeat_interleave(groups, 1)


def _full_mask(visibility: Visibility, device: torch.device) -> torch.Tensor | None:
    mask, keys = visibility.block(0, visibility.queries, device)
    if mask is None or keys == slice(0, visibility.keys):
        return mask
    closed = False if mask.dtype == torch.bool else float("-inf")
    return functional.pad(mask, (keys.start, visibility.keys - keys.stop), value=closed)


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    dropout_p: float,
    scale: float | None,
) -> torch.Tensor:
    grouped = bool(query.shape[1] != key.shape[1])
    if grouped and (mask is not None or query.device.type == "cpu"):
        # Only the flash kernel for GPUs takes groups as they are; others would form the whole map.
        key, value = repeat_heads(key, query.shape[1]), repeat_heads(value, query.shape[1])
        grouped = False
    return functional.scaled_dot_product_attention(
        query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=grouped
    )


def _as_sdpa_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask.to(dtype)


def _flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visibility: Visibility,
    dropout_p: float,
    scale: float | None,
) -> torch.Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    if dropout_p > 0.0:
        raise ValueError(f"dropout_p must be 0 with backend='flex', which has no dropout; got {dropout_p}")
    given = visibility.mask
    shape = (query.shape[0], query.shape[1], visibility.queries, visibility.keys)
    full = None if given is None else given.expand(shape)
    offset, window, causal = visibility.keys - visibility.queries, visibility.window, visibility.causal

    def sees(b: Any, h: Any, t: Any, s: Any) -> torch.Tensor:
        behind = t + offset - s
        seen = behind >= 0 if causal else behind == behind
        if window is not None:
            seen = seen & (behind < window)
        if full is not None and full.dtype == torch.bool:
            seen = seen & full[b, h, t, s]
        return seen

    def add(score: torch.Tensor, b: Any, h: Any, t: Any, s: Any) -> torch.Tensor:
        assert full is not None
        return score + full[b, h, t, s]

    per_head = full is not None and full.dtype == torch.bool
    block_mask = create_block_mask(
        sees,
        shape[0] if per_head else None,
        shape[1] if per_head else None,
        shape[2],
        shape[3],
        device=str(query.device),
    )
    is_float = full is not None and full.dtype != torch.bool
    grouped = bool(query.shape[1] != key.shape[1])
    with _reference_flex_allowed(query.device):
        y = _flex_kernel(query.device.type)(
            query,
            key,
            value,
            score_mod=add if is_float else None,
            block_mask=block_mask,
            scale=scale,
            enable_gqa=grouped,
        )
    if is_float:
        mask = _full_mask(visibility, query.device)
        assert mask is not None
        y = y.masked_fill(hidden_rows(mask), 0.0)
    return y


@functools.cache
def _flex_kernel(device_type: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # Without a GPU the reference formula is taken as it is: compiling it would need a C++ compiler.
    return torch.compile(flex_attention, dynamic=False) if device_type == "cuda" else flex_attention


@contextlib.contextmanager
def _reference_flex_allowed(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*flex_attention called without torch.compile.*")
        yield


def _scale(name: str, tau: torch.Tensor, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    check_floating(name, tau)
    check_shape(name, tau, shape)
    if x.dtype == torch.float16 and not torch.compiler.is_compiling() and tau.numel():
        largest = tau.detach().abs().amax().item()
        if largest > _LARGE_TEMPERATURE:
            warnings.warn(
                f"{name} reaches {largest:.3g}: logits of float16 may overflow; use bfloat16 or float32",
                RuntimeWarning,
                stacklevel=3,
            )
    return scale_rows(x, tau.expand(shape))


def _check_qkv(query: Any, key: Any, value: Any, enable_gqa: bool) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_floating(name, tensor, ndim=4)
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            f"query, key and value must have one dtype; got {query.dtype}, {key.dtype}, {value.dtype}"
        )
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        raise ValueError(f"query, key and value must have one batch size; got {shapes}")
    if query.shape[3] != key.shape[3]:
        raise ValueError(f"query and key must have one head dimension; got {shapes}")
    if key.shape[1:3] != value.shape[1:3]:
        raise ValueError(f"key and value must have the same heads and length; got {shapes}")
    check_bool("enable_gqa", enable_gqa)
    if query.shape[1] != key.shape[1] and (not enable_gqa or query.shape[1] % key.shape[1]):
        expected = "a multiple of" if enable_gqa else "equal to (or, with enable_gqa=True, a multiple of)"
        raise ValueError(f"the heads of query must be {expected} those of key; got {shapes}")
