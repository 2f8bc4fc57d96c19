"""Formulas that take numpy arrays or torch tensors and give back what they were given."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from mlpapers.core._tensors import is_tensor

__all__ = ["is_tensor", "like", "namespace"]


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
