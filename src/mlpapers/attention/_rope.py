"""Rotary position embedding."""

from __future__ import annotations

import torch

from mlpapers.attention._fold import heads_inside


def rotation(positions: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of every position's angles, (..., T, d), in float32.

    Parameters
    ----------
    positions : tensor of shape (T,) or (B, T)
    head_dim : int, even
    theta : float
        Angle j of d/2 turns by theta^(-2j/d) per position.
    """
    return (_table if torch.compiler.is_compiling() else _angles)(positions, head_dim, theta)


def _angles(positions: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    rates = theta ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    angles = positions.to(torch.float32).unsqueeze(-1) * rates
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


# The compiler would find powers, cosines and sines again for every element that they multiply, forward and
# backward, which costs more than all the rest of a rotation. It does not look into an operator of one's own.
_table = torch.library.custom_op(
    "mlpapers::rotation",
    _angles,
    mutates_args=(),
    schema="(Tensor positions, int head_dim, float theta) -> (Tensor, Tensor)",
)
_table.register_fake(_angles)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x (B, H, T, d) rotated, in its dtype; halves of the head dimension make the pairs."""
    if torch.compiler.is_compiling() and heads_inside(x):
        # Compiled code runs through a tensor in the order it is written in: here that of the memory.
        return _turn(x.transpose(1, 2), cos.unsqueeze(-2), sin.unsqueeze(-2)).transpose(1, 2)
    if cos.ndim == 3:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _turn(x, cos, sin)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (x * cos + turned * sin).to(x.dtype)
