r"""Rows scaled by their temperature, with a backward pass that keeps only the rows.

.. math:: y = \tau x, \qquad \tau = b + \tanh u, \qquad u = \langle w, \mathrm{GELU}(f) \rangle + \beta

for rows x, features f (often x itself), weights w, a bias :math:`\beta` and a base b (the position's part).
With :math:`s = \langle g, x \rangle` and :math:`\delta = s (1 - \tanh^2 u)`,

.. math:: dx = \tau g, \quad df = \delta\, w\, \mathrm{GELU}'(f), \quad dw = \sum \delta\, \mathrm{GELU}(f),
          \quad d\beta = \sum \delta, \quad db = s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from mlpapers.attention._checks import compute_dtype


def fold(
    x: torch.Tensor,
    base: torch.Tensor,
    *,
    features: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return x times its temperature, in x's dtype.

    Parameters
    ----------
    x : tensor of shape (..., d)
    base : tensor broadcastable to (...)
        The part of the temperature that does not depend on features.
    features : tensor of shape (..., d), optional
        Default: `x`.
    weight : tensor broadcastable to (..., d), optional
        None leaves out the features.
    bias : tensor broadcastable to (...), optional

    Returns
    -------
    y : tensor of the shape of `x`
    """
    if weight is None:
        return scale_rows(x, base)
    if torch._C._are_functorch_transforms_active():
        # vmap, grad and jvp derive the plain formula.
        return _plain(x, features, weight, bias, base)
    if torch.compiler.is_compiling():
        # The compiler fuses the plain formula, its derivative included, into what is around it.
        if heads_inside(x) and base.ndim > 1 and weight.ndim == 3:
            # Written in the order of the memory, sum and product are one pass over the rows, each way.
            rows = x.transpose(1, 2)
            own = rows if features is None else features.transpose(1, 2)
            part = token_part(own, weight.transpose(0, 1), None if bias is None else bias.mT)
            return scale_rows(rows, base.mT + part).transpose(1, 2)
        return _plain(x, features, weight, bias, base)
    return _Fold.apply(x, features, weight, bias, base)


def heads_inside(x: torch.Tensor) -> bool:
    """Return whether x (B, H, T, d) lies in memory as (B, T, H, d), as a projection leaves it."""
    return x.ndim == 4 and x.stride(1) < x.stride(2)


def scale_rows(x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """Return the rows of x (..., d) times tau (...); tau is rounded to x's dtype, as fused kernels need."""
    return x * tau.to(x.dtype).unsqueeze(-1)


def token_part(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return tanh(<weight, GELU(features)> + bias), computed in float32 (float64 for float64)."""
    dtype = compute_dtype(features.dtype)
    u = (functional.gelu(features.to(dtype)) * weight.to(dtype)).sum(-1)
    return torch.tanh(u if bias is None else u + bias.to(dtype))


def _plain(
    x: torch.Tensor,
    features: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    base: torch.Tensor,
) -> torch.Tensor:
    """Return the rows times their temperatures, as operators of torch that it derives itself."""
    return scale_rows(x, base + token_part(x if features is None else features, weight, bias))


class _Fold(torch.autograd.Function):
    """The formulas above; what is kept are the rows, their temperature and its tanh."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        features: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        base: torch.Tensor,
    ) -> torch.Tensor:
        own = x if features is None else features
        dtype = compute_dtype(own.dtype)
        # As in token_part. On a CPU new memory costs as much as what is written to it: one tensor as wide as
        # the rows has to do, here and below.
        wide = functional.gelu(own.to(dtype)).mul_(weight.to(dtype))
        u = wide.sum(-1)
        part = torch.tanh(u if bias is None else u + bias.to(dtype))
        tau = base.to(dtype) + part
        ctx.save_for_backward(x, features, weight, bias, base, part, tau)
        return torch.mul(x, tau.unsqueeze(-1), out=wide) if x.dtype == dtype else scale_rows(x, tau)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, own, weight, bias, base, part, tau = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable(ctx.needs_input_grad, g, x, own, weight, bias, base)
        need_x, need_features, need_weight, need_bias, need_base = ctx.needs_input_grad
        features = (x if own is None else own).to(part.dtype)
        # In the order of the features' memory: fused kernels answer with gradients in another one, and a pass
        # over two orders takes several times as long.
        wide = torch.empty_like(features)
        s = torch.mul(g.to(part.dtype), x.to(part.dtype), out=wide).sum(-1)
        delta = s * (1.0 - part * part)
        dx = df = dw = db = None
        if need_weight:
            torch.ops.aten.gelu.out(features, out=wide)
            # A copy: a weight as large as the rows is summed over nothing, and `wide` is written again.
            dw = torch.empty_like(weight).copy_(wide.mul_(delta.unsqueeze(-1)).sum_to_size(weight.shape))
        if (own is None and need_x) or need_features:
            torch.mul(delta.unsqueeze(-1), weight.to(part.dtype), out=wide)
            torch.ops.aten.gelu_backward.grad_input(wide, features, grad_input=wide)
            df = wide.to(x.dtype if own is None else own.dtype)
            if own is None:
                dx, df = df.addcmul_(g, tau.to(g.dtype).unsqueeze(-1)), None
        if need_x and dx is None:
            dx = scale_rows(g, tau)
        if need_bias:
            db = delta.sum_to_size(bias.shape)
        return dx, df, dw, db, s.sum_to_size(base.shape) if need_base else None


def _differentiable(
    needed: tuple[bool, ...],
    g: torch.Tensor,
    x: torch.Tensor,
    features: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    base: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Return what `backward` returns, as something that can be differentiated again."""
    y = _plain(x, features, weight, bias, base)
    inputs = (x, features, weight, bias, base)
    wanted = [value for value, need in zip(inputs, needed) if need and value is not None]
    found = iter(torch.autograd.grad(y, wanted, g, create_graph=True))
    return tuple(next(found) if need and value is not None else None for value, need in zip(inputs, needed))
