"""Statistics of every head of a model over a text, in memory that grows with the text only."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from mlpapers.attention._checks import check_tensor
from mlpapers.attention._families import attention_sites, family_of
from mlpapers.attention._masks import Visibility
from mlpapers.attention._observe import observer, observing
from mlpapers.attention.functional import repeat_heads
from mlpapers.attention.layer import SelectiveSelfAttention
from mlpapers.attention.lm import SelectiveTransformerLM
from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import chunk_slices
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AttentionStats", "attention_statistics"]

Array = NDArray[np.float64]

_MEASURES = ("entropy", "spikiness", "top1_mass", "sink_mass")
_IMPLEMENTATION = "mlpapers_statistics"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionStats(Result):
    """How the heads of a model attend to a text.

    Attributes
    ----------
    entropy, spikiness, top1_mass, sink_mass : ndarray of shape (n_layers, H_q, T)
        Of each query's row, mean over the batch without padding (NaN where all is padding): entropy in nats;
        spikiness in (0, 1], 1 = uniform; largest probability; probability of the first real key.
    visible : ndarray of shape (n_layers, T)
        Keys that a query sees, mean over the batch.
    norms : ndarray of shape (n_layers, H_q)
        Spectral norm of W_q W_k^T of each head, without scale, rotation and temperature.
    tau_q : ndarray of shape (n_layers, H_q, T)
    tau_v : ndarray of shape (n_layers, H_kv, T)
        Temperatures, mean over the batch; 1 where there are none.
    """

    entropy: Array
    spikiness: Array
    top1_mass: Array
    sink_mass: Array
    visible: Array
    norms: Array
    tau_q: Array
    tau_v: Array

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer and head, with means over positions.

        Returns
        -------
        pandas.DataFrame
        """
        n_layers, heads, _ = self.entropy.shape
        layer, head = np.divmod(np.arange(n_layers * heads), heads)
        columns: dict[str, Any] = {"layer": layer, "head": head}
        for name in _MEASURES:
            columns[name] = np.nanmean(getattr(self, name), -1).ravel()
        columns["evenness"] = self.evenness().ravel()
        columns["norm"] = self.norms.ravel()
        columns["tau_q"] = np.nanmean(self.tau_q, -1).ravel()
        columns["tau_q_low"], columns["tau_q_high"] = (
            bound(self.tau_q, axis=-1).ravel() for bound in (np.nanmin, np.nanmax)
        )
        columns["tau_v"] = np.repeat(np.nanmean(self.tau_v, -1), heads // self.tau_v.shape[1], axis=1).ravel()
        return pd.DataFrame(columns)

    def evenness(self) -> Array:
        """Return entropy over that of uniform attention, mean over positions with more than one key.

        Returns
        -------
        evenness : ndarray of shape (n_layers, H_q), in [0, 1]
        """
        several = self.visible > 1.0
        share = self.entropy / np.log(np.where(several, self.visible, np.nan))[:, None, :]
        if not several.any():
            return np.zeros(share.shape[:2])
        return np.nanmean(share, -1)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the evenness of every layer and head as a heat-map.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.imshow``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        picture = ax.imshow(self.evenness(), **{"aspect": "auto", "vmin": 0.0, "vmax": 1.0, **options})
        ax.figure.colorbar(picture, ax=ax, label="entropy / log n")
        ax.set(xlabel="head", ylabel="layer")
        return ax


@torch.no_grad()
def attention_statistics(model_or_layer: nn.Module, inputs: Any, *, chunk_size: int = 256) -> AttentionStats:
    """Measure how every head attends.

    Rows of the map are made for `chunk_size` queries at a time and dropped: O(T^2) time, O(chunk_size T)
    memory.

    Parameters
    ----------
    model_or_layer : nn.Module
        A supported Hugging Face model (converted or not), :class:`SelectiveTransformerLM`, or a
        :class:`SelectiveSelfAttention`.
    inputs : tensor or mapping
        Token ids (B, T) of a model, hidden states (B, T, embed_dim) of a layer, or what a tokenizer returns:
        ``{"input_ids": ..., "attention_mask": ...}``.
    chunk_size : int, default=256

    Returns
    -------
    AttentionStats

    Raises
    ------
    ValueError
        If the model is of no supported kind.
    """
    check_int("chunk_size", chunk_size, minimum=1)
    given = dict(inputs) if isinstance(inputs, Mapping) or hasattr(inputs, "keys") else {"input_ids": inputs}
    if "input_ids" not in given:
        raise ValueError(f"inputs must have the key 'input_ids'; got {', '.join(given)}")
    ids = check_tensor("inputs", given["input_ids"])
    mask = given.get("attention_mask")
    watcher = _Watcher(chunk_size, ids.shape[:2], mask, ids.device)
    training = model_or_layer.training
    model_or_layer.eval()
    try:
        if isinstance(model_or_layer, SelectiveSelfAttention | SelectiveTransformerLM):
            with observing(watcher):
                model_or_layer(ids, attention_mask=mask)
        else:
            family_of(model_or_layer)
            model: Any = model_or_layer
            known = {
                name: value for name, value in given.items() if name in ("attention_mask", "position_ids")
            }
            with observing(watcher), _statistics_implementation(model):
                model.base_model(ids, use_cache=False, **known)
    finally:
        model_or_layer.train(training)
    return watcher.result(_norms(model_or_layer))


class _Watcher:
    """Collects the measures of each layer as it is computed."""

    def __init__(self, chunk_size: int, shape: Any, mask: torch.Tensor | None, device: torch.device) -> None:
        batch, length = shape
        self.chunk_size = chunk_size
        self.real = (
            torch.ones(batch, length, dtype=torch.bool, device=device) if mask is None else mask.bool()
        )
        self.first = self.real.int().argmax(1)
        self.layers: list[dict[str, Array]] = []
        self.pending: dict[str, Array] = {}

    def temperature(self, role: str, tau: torch.Tensor) -> None:
        self.pending[f"tau_{role}"] = self._mean(tau.double())

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, visibility: Visibility, scale: float | None
    ) -> None:
        batch, heads, length, width = query.shape
        kv_heads = key.shape[1]
        factor = 1.0 / math.sqrt(width) if scale is None else scale
        keys = repeat_heads(key, heads).float().transpose(-1, -2)
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in (*_MEASURES, "visible")}
        sink = self.first.view(batch, 1, 1, 1).expand(batch, heads, 1, 1)
        for rows in chunk_slices(length, self.chunk_size):
            logits = (query[:, :, rows].float() * factor) @ keys
            visible = self._visible(visibility, rows, logits)
            logits = logits.masked_fill(~visible, float("-inf"))
            lse = torch.logsumexp(logits, -1)
            p = torch.where(visible, torch.exp(logits - lse.unsqueeze(-1)), 0.0)
            count = visible.sum(-1).to(p.dtype)
            parts["entropy"].append(lse - (p * logits.masked_fill(~visible, 0.0)).sum(-1))
            parts["spikiness"].append(1.0 / ((p**2).sum(-1) * count))
            parts["top1_mass"].append(p.amax(-1))
            parts["sink_mass"].append(p.gather(-1, sink.expand(-1, -1, p.shape[2], -1)).squeeze(-1))
            parts["visible"].append(count)
        found = {name: self._mean(torch.cat(chunks, -1).double()) for name, chunks in parts.items()}
        found["visible"] = found["visible"].mean(0)
        found["tau_q"] = self.pending.pop("tau_q", np.ones((heads, length)))
        found["tau_v"] = self.pending.pop("tau_v", np.ones((kv_heads, length)))
        self.pending.clear()
        self.layers.append(found)

    def result(self, norms: Array) -> AttentionStats:
        names = (*_MEASURES, "visible", "tau_q", "tau_v")
        stacked = {name: np.stack([layer[name] for layer in self.layers]) for name in names}
        return AttentionStats(norms=norms, **stacked)

    def _visible(self, visibility: Visibility, rows: slice, logits: torch.Tensor) -> torch.Tensor:
        mask, keys = visibility.block(rows.start, rows.stop, logits.device)
        if mask is None:
            return torch.ones_like(logits, dtype=torch.bool)
        if mask.dtype != torch.bool:
            mask = mask > torch.finfo(mask.dtype).min
        visible = torch.zeros_like(logits, dtype=torch.bool)
        visible[..., keys] = mask
        return visible

    def _mean(self, values: torch.Tensor) -> Array:
        """Mean over the batch (B, H, T) -> (H, T), without padding; NaN where all is padding."""
        real = self.real[:, None, -values.shape[-1] :]
        total = torch.where(real, values, 0.0).sum(0)
        count = real.sum(0).expand_as(total)
        mean: Array = torch.where(count > 0, total / count, math.nan).cpu().numpy()
        return mean


@contextlib.contextmanager
def _statistics_implementation(model: Any) -> Iterator[None]:
    """Let the model call an attention that shows itself to the observer."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    if _IMPLEMENTATION not in AttentionInterface():
        AttentionInterface.register(_IMPLEMENTATION, _observed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_IMPLEMENTATION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    owners: list[Any] = [model, *(site.module for site in attention_sites(model))]
    configs = {id(owner.config): owner.config for owner in owners}
    before = [(config, config._attn_implementation) for config in configs.values()]
    try:
        for config in configs.values():
            config._attn_implementation = _IMPLEMENTATION
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


def _observed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    watcher = observer()
    if watcher is not None:
        seen = attention_mask
        if seen is not None and seen.shape[-1] > key.shape[2]:
            seen = seen[..., : key.shape[2]]
        visibility = Visibility(query.shape[2], key.shape[2], seen is None, None, seen)
        watcher.attention(query, key, visibility, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _norms(model: nn.Module) -> Array:
    """Spectral norms of W_q W_k^T: products of the triangular factors, d x d instead of D x D."""
    if isinstance(model, SelectiveSelfAttention | SelectiveTransformerLM):
        layers = [module for module in model.modules() if isinstance(module, SelectiveSelfAttention)]
        pairs = [
            tuple(
                projection.weight.view(-1, layer.head_dim, layer.embed_dim)
                for projection in (layer.q_proj, layer.k_proj)
            )
            for layer in layers
        ]
    else:
        pairs = [(site.head_weights("q"), site.head_weights("k")) for site in attention_sites(model)]
    found = []
    for query, key in pairs:
        left = torch.linalg.qr(query.float().transpose(1, 2), mode="r").R
        right = torch.linalg.qr(key.float().transpose(1, 2), mode="r").R
        right = right.repeat_interleave(left.shape[0] // right.shape[0], 0)
        found.append(torch.linalg.matrix_norm(left @ right.transpose(1, 2), 2).double().cpu().numpy())
    return np.stack(found)
