"""Checks of tensors; each message names the argument, what came, and what was expected."""

from __future__ import annotations

from typing import Any

import torch


def check_tensor(name: str, value: Any, *, ndim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Return `value`; TypeError unless it is a tensor, ValueError unless it has `ndim` dimensions."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}")
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and value.ndim not in allowed:
        expected = " or ".join(f"{number}" for number in allowed)
        raise ValueError(f"{name} must have {expected} dimensions; got shape {tuple(value.shape)}")
    return value


def check_floating(name: str, value: Any, *, ndim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """As :func:`check_tensor`, and ValueError unless the dtype is a floating one."""
    tensor = check_tensor(name, value, ndim=ndim)
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must have a floating dtype; got {tensor.dtype}")
    return tensor


def check_ids(name: str, value: Any, *, ndim: int | tuple[int, ...] = 2) -> torch.Tensor:
    """As :func:`check_tensor`, and ValueError unless the dtype is an integer one."""
    tensor = check_tensor(name, value, ndim=ndim)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{name} must have an integer dtype; got {tensor.dtype}")
    return tensor


def check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `tensor` broadcasts to `shape`."""
    given = tuple(tensor.shape)
    fits = len(given) <= len(shape) and all(
        size in (1, wanted) for size, wanted in zip(reversed(given), reversed(shape))
    )
    if not fits:
        raise ValueError(f"{name} must broadcast to shape {shape}; got {given}")


def check_rows(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `tensor` has this shape; the first of several dimensions may be 1."""
    given = tuple(tensor.shape)
    if given != shape and not (len(shape) > 1 and given == (1, *shape[1:])):
        raise ValueError(f"{name} must have shape {shape}; got {given}")


def check_floating_dtype(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is None or a floating dtype."""
    if value is not None and not (isinstance(value, torch.dtype) and value.is_floating_point):
        raise ValueError(f"{name} must be a floating torch.dtype; got {value!r}")


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute temperatures of such tensors in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_at_least(name: str, tensor: torch.Tensor, minimum: float) -> None:
    """Raise ValueError where an entry is below `minimum`; not while torch.compile traces."""
    if torch.compiler.is_compiling() or tensor.numel() == 0:
        return
    smallest = tensor.detach().amin()
    # The other way round NaN would pass.
    if not bool(smallest >= minimum):
        raise ValueError(f"{name} must be at least {minimum:g}; got {smallest.item():g}")
