"""Formulas that take numpy arrays or torch tensors and give back what they were given."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from mlpapers.core._tensors import is_tensor

__all__ = ["check_prompts", "is_tensor", "like", "namespace"]


def namespace(*arrays: Any) -> Any:
    """Return torch where one of the arrays is a tensor, else numpy."""
    return sys.modules["torch"] if any(is_tensor(array) for array in arrays) else np


def like(array: Any, reference: Any) -> Any:
    """Return `array` as a tensor of the reference's dtype and device, or as a float64 array."""
    if is_tensor(reference):
        torch = sys.modules["torch"]
        # A copy: torch warns of arrays that are read-only.
        return torch.tensor(np.array(array), dtype=reference.dtype, device=reference.device)
    return np.asarray(array, dtype=np.float64)


def check_prompts(X: Any, y: Any, x_query: Any, n_features: int | None = None) -> None:
    """Raise ValueError unless X (B, n, d), y (B, n) and x_query (B, d) belong together, and n >= 1."""
    if len(X.shape) != 3 or X.shape[1] < 1 or X.shape[2] != (n_features or X.shape[2]):
        d = "d" if n_features is None else n_features
        raise ValueError(f"X must have shape (B, n, {d}) with n >= 1 context rows; got {tuple(X.shape)}")
    B, n, d = X.shape
    for name, part, expected in (("y", y, (B, n)), ("x_query", x_query, (B, d))):
        if tuple(part.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}, as X; got {tuple(part.shape)}")
