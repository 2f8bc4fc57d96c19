"""Rotary position embedding."""

from __future__ import annotations

import torch


def rotation(positions: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of every position's angles, (..., T, d), in float32.

    Parameters
    ----------
    positions : tensor of shape (T,) or (B, T)
    head_dim : int, even
    theta : float
        Angle j of d/2 turns by theta^(-2j/d) per position.
    """
    rates = theta ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    angles = positions.to(torch.float32).unsqueeze(-1) * rates
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x (B, H, T, d) rotated, in its dtype; halves of the head dimension make the pairs."""
    if cos.ndim == 3:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    first, second = x.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (x * cos + turned * sin).to(x.dtype)
