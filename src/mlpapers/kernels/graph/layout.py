"""Strided layouts: how the elements of a view lie in a contiguous buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlpapers.kernels.graph.size import Size, exact_ratio, product


@dataclass(frozen=True)
class Layout:
    """Element (i_1, .., i_r) of the view is element offset + sum_k i_k stride_k of the buffer.

    Parameters
    ----------
    shape, strides : tuple of int or Sym
    offset : int or Sym
    """

    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size = 0

    @classmethod
    def contiguous(cls, shape: Sequence[Size]) -> Layout:
        """Return the row-major layout."""
        strides: list[Size] = []
        step: Size = 1
        for size in reversed(shape):
            strides.append(step)
            step = step * size
        return cls(tuple(shape), tuple(reversed(strides)))

    @classmethod
    def ordered(cls, shape: Sequence[Size], memory: Sequence[int]) -> Layout:
        """Return the layout of a dense buffer whose dims, outermost first, are `memory` of the view's."""
        dense = cls.contiguous([shape[d] for d in memory])
        places = dict(zip(memory, dense.strides))
        return cls(tuple(shape), tuple(places[d] for d in range(len(shape))))

    @property
    def is_contiguous(self) -> bool:
        """Whether the view is the whole buffer in order (strides of size-1 dims don't matter)."""
        expected = Layout.contiguous(self.shape)
        return self.offset == 0 and all(
            size == 1 or a == b for size, a, b in zip(self.shape, self.strides, expected.strides)
        )

    def permute(self, order: Sequence[int]) -> Layout:
        """Return the layout with dims in the given order."""
        return Layout(tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order), self.offset)

    def expand(self, shape: Sequence[Size]) -> Layout:
        """Return the layout broadcast to `shape`: new and size-1 dims get stride 0."""
        lead = len(shape) - len(self.shape)
        strides = [0] * lead + [
            0 if size == 1 and new != 1 else stride
            for size, stride, new in zip(self.shape, self.strides, shape[lead:])
        ]
        return Layout(tuple(shape), tuple(strides), self.offset)

    def slice(self, dim: int, start: Size, length: Size, step: int) -> Layout:
        """Return the layout of elements start, start + step, ... of one dim."""
        shape = (*self.shape[:dim], length, *self.shape[dim + 1 :])
        strides = (*self.strides[:dim], self.strides[dim] * step, *self.strides[dim + 1 :])
        return Layout(shape, strides, self.offset + self.strides[dim] * start)

    def flip(self, dims: Sequence[int]) -> Layout:
        """Return the layout with the given dims reversed."""
        layout = self
        for dim in dims:
            layout = layout.slice(dim, layout.shape[dim] - 1, layout.shape[dim], -1)
        return layout

    def reshape(self, shape: Sequence[Size]) -> Layout | None:
        """Return the layout under a new shape, or None where no strides express it."""
        if any(size == 0 for size in self.shape):
            return Layout.contiguous(shape)
        # Runs of dims that lie in the buffer as one dim.
        runs: list[tuple[Size, Size]] = []
        for size, stride in zip(self.shape, self.strides):
            if size == 1:
                continue
            if runs and runs[-1][1] == stride * size:
                runs[-1] = (runs[-1][0] * size, stride)
            else:
                runs.append((size, stride))
        strides: list[Size] = []
        remaining: Size = 1
        stride_of_run: Size = 0
        for size in shape:
            if size == 1:
                strides.append(0)
                continue
            if remaining == 1:
                if not runs:
                    return None
                remaining, stride_of_run = runs.pop(0)
            rest = exact_ratio(remaining, size)
            if rest is None:
                return None
            strides.append(stride_of_run * rest)
            remaining = rest
        return Layout(tuple(shape), tuple(strides), self.offset) if remaining == 1 and not runs else None

    def apply(self, op: str, attrs: dict[str, Any], shape: Sequence[Size]) -> Layout | None:
        """Return the layout after one view operation of the graph, or None where it has no strides."""
        if op == "permute":
            return self.permute(attrs["order"])
        if op == "expand":
            return self.expand(shape)
        if op == "slice":
            return self.slice(attrs["dim"], attrs["start"], attrs["length"], attrs["step"])
        if op == "flip":
            return self.flip(attrs["dims"])
        return self.reshape(shape)

    @property
    def numel(self) -> Size:
        """Number of elements."""
        return product(self.shape)
