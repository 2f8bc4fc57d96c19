"""Rows for a torch model: arrays, tensors or a Dataset, taken in random batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import plain_array

if TYPE_CHECKING:
    import torch

Positions = NDArray[np.int64] | slice


class TorchRows:
    """A finite set of (x, y) pairs that can be taken by position, on the model's device.

    Parameters
    ----------
    name : str
        What the caller calls them, for error messages.
    source : (X, y) of tensors or arrays, or Dataset of (x, y)
        Arrays are copied; their floating-point entries become `dtype`. Tensors keep their type.
    device : torch.device
    dtype : torch.dtype
    """

    def __init__(self, name: str, source: Any, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        self.device = device
        self._dataset = None
        if isinstance(source, torch.utils.data.Dataset):
            if not hasattr(source, "__len__"):
                raise TypeError(f"{name} must be a Dataset with a length; got {type(source).__name__}")
            self._dataset = source
            self._n = len(source)
        else:
            if not isinstance(source, tuple | list) or len(source) != 2:
                raise TypeError(
                    f"{name} must be a pair (X, y) or a torch Dataset; got {type(source).__name__}"
                )
            self._X, self._y = (_as_tensor(name, part, dtype) for part in source)
            if self._X.ndim == 0 or self._y.ndim == 0 or len(self._X) != len(self._y):
                raise ValueError(
                    f"{name} must hold as many rows in X as in y; "
                    f"got {tuple(self._X.shape)} and {tuple(self._y.shape)}"
                )
            self._n = len(self._X)
        if self._n == 0:
            raise ValueError(f"{name} must hold at least one row; got none")

    def __len__(self) -> int:
        return self._n

    def take(self, positions: Positions) -> tuple[Any, Any]:
        """Return x and y of the rows at `positions`."""
        import torch

        if self._dataset is not None:
            chosen = np.arange(self._n)[positions]
            pairs = [self._dataset[position] for position in chosen.tolist()]
            x, y = torch.utils.data.default_collate(pairs)
        elif isinstance(positions, slice):
            x, y = self._X[positions], self._y[positions]
        else:
            index = torch.from_numpy(positions)
            x, y = self._X[index.to(self._X.device)], self._y[index.to(self._y.device)]
        return _moved(x, self.device), _moved(y, self.device)


class RandomBatches:
    """Positions of random batches: without replacement until all rows were seen, then in a new order.

    Where an order has fewer rows left than a batch takes, a new one begins, so that every batch is a uniform
    random subset.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int or None
        All of them where None, or more than there are.
    rng : Generator
    """

    def __init__(self, n: int, batch_size: int | None, rng: np.random.Generator) -> None:
        self.size = n if batch_size is None else min(batch_size, n)
        self._n, self._rng = n, rng
        self._order, self._next = np.empty(0, dtype=np.int64), n

    def draw(self) -> Positions:
        """Return the positions of the next batch."""
        if self.size == self._n:
            return slice(0, self._n)
        if self._next + self.size > self._n:
            self._order, self._next = self._rng.permutation(self._n), 0
        batch = self._order[self._next : self._next + self.size]
        self._next += self.size
        return batch


def _as_tensor(name: str, part: Any, dtype: torch.dtype) -> torch.Tensor:
    import torch

    if isinstance(part, torch.Tensor):
        return part.detach()
    array = plain_array(part)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers, and labels as class numbers from 0; got {array.dtype}")
    tensor = torch.tensor(array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_moved(item, device) for item in value]
    return value.to(device) if hasattr(value, "to") else value
