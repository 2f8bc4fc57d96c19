"""The transformer behind MiniPFN: context rows attend to context rows, queries to the context alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MiniPFN"]

N_INPUTS = 16

# Keys and values of the context rows, one pair per layer, each (batch, heads, n, width / heads).
Memory = list[tuple[Tensor, Tensor]]


class _Layer(nn.Module):
    """One pre-norm layer: attention to the context, then a GELU network of four times the width."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def remember(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (batch, heads, n, width / heads) of context rows."""
        batch, n, width = normed.shape
        heads = self.key_value(normed).view(batch, n, 2, self.n_heads, width // self.n_heads)
        key, value = heads.permute(2, 0, 3, 1, 4)
        return key, value

    def attend(self, rows: Tensor, normed: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """Return the rows (batch, t, width) after this layer."""
        batch, t, width = rows.shape
        query = self.query(normed).view(batch, t, self.n_heads, -1).transpose(1, 2)
        heads = F.scaled_dot_product_attention(query, *memory)  # (batch, heads, t, width / heads)
        rows = rows + self.project(heads.transpose(1, 2).reshape(batch, t, width))
        update: Tensor = self.contract(F.gelu(self.expand(self.norm_feed(rows))))
        return rows + update


class MiniPFN(nn.Module):
    r"""A prior-fitted transformer for binary tables, 201,473 parameters.

    A context row with features x and soft label s in [-1, 1] (0 = unknown) is the token
    :math:`W_x x + W_s (s, |s|)`, a query the token :math:`W_x x + u`. Four pre-norm layers of four heads take
    keys and values from the context rows only; a linear head gives the logit of the label +1.

    Parameters
    ----------
    width, n_layers, n_heads : int

    Notes
    -----
    Rows carry no positions: permuting the context leaves every logit as it is, and a query's logit does not
    depend on the other queries.
    """

    def __init__(self, width: int = 64, n_layers: int = 4, n_heads: int = 4) -> None:
        super().__init__()
        self.embed_x = nn.Linear(N_INPUTS, width)
        self.embed_y = nn.Linear(2, width)
        self.query_mark = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(_Layer(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, s: Tensor, x_query: Tensor) -> Tensor:
        """Return the logits (batch, q) of the label +1.

        Parameters
        ----------
        x : Tensor of shape (batch, n, 16)
            Context rows, prepared by :func:`pad_features`.
        s : Tensor of shape (batch, n)
            Soft labels in [-1, 1].
        x_query : Tensor of shape (batch, q, 16)
        """
        return self.answer(x_query, self.read(x, s))

    def read(self, x: Tensor, s: Tensor) -> Memory:
        """Return what queries need of a context: keys and values of every layer."""
        rows = self.embed_x(x) + self.embed_y(torch.stack([s, s.abs()], dim=-1))
        memory: Memory = []
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, _Layer)
            normed = layer.norm_attention(rows)
            memory.append(layer.remember(normed))
            if number < len(self.layers):
                rows = layer.attend(rows, normed, memory[-1])
        return memory

    def answer(self, x_query: Tensor, memory: Memory) -> Tensor:
        """Return the logits (batch, q) of queries, given the context's keys and values."""
        rows = self.embed_x(x_query) + self.query_mark
        for layer, pair in zip(self.layers, memory, strict=True):
            assert isinstance(layer, _Layer)
            rows = layer.attend(rows, layer.norm_attention(rows), pair)
        logits: Tensor = self.head(self.norm(rows))
        return logits.squeeze(-1)


def pad_features(x: Tensor) -> Tensor:
    """Return rows (..., d <= 16) with zeros behind, scaled by sqrt(16/d) to keep their norm."""
    d = x.shape[-1]
    return F.pad(x * math.sqrt(N_INPUTS / d), (0, N_INPUTS - d))
