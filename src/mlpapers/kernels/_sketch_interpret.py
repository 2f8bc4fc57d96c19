"""The reference interpreter: runs a sketch in NumPy, so that designs are tested before any code exists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlpapers.kernels.ops import NUMPY_DTYPES, POINTWISE
from mlpapers.kernels.sketch import SIZE_FUNCTIONS, Alloc, Call, Compute, For, Load, Sketch, Store, Tensor

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class Interpreter:
    """Executes the statements one after the other; a tile is an array, an accumulator a mutable array.

    Parameters
    ----------
    sketch : Sketch
    inputs : sequence or mapping of array_like
    state : mapping of str to array_like
    """

    def __init__(
        self, sketch: Sketch, inputs: Sequence[Any] | Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        self.sketch = sketch
        self.buffers: dict[str, np.ndarray] = {}
        self.values: dict[str, int] = dict(sketch.constexprs)
        for tensor in sketch.tensors:
            if tensor.role == "input":
                by_name = isinstance(inputs, Mapping)
                value = inputs[tensor.name if by_name else int(tensor.key.split(" ", 1)[0])]  # type: ignore[index]
                self.buffers[tensor.name] = self._array(value, tensor)
            elif tensor.role == "state":
                if tensor.key not in state:
                    raise ValueError(f"state must hold {tensor.key!r}; got {sorted(state)}")
                self.buffers[tensor.name] = self._array(state[tensor.key], tensor)
            elif tensor.role == "const":
                self.buffers[tensor.name] = np.array(json.loads(tensor.key), NUMPY_DTYPES[tensor.dtype])
        for symbol in sketch.symbols:
            self.values[symbol.name] = self.buffers[symbol.tensor].shape[symbol.dim]
        self.tiles: dict[str, Any] = {}
        self.views = {view.name: view for view in sketch.views}
        self.bounds: dict[str, int] = {}
        # Extent of the innermost tile: less than the step of its loop at the end.
        self.width: int | None = None

    @staticmethod
    def _array(value: Any, tensor: Tensor) -> np.ndarray:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = (
                value.float() if value.is_floating_point() and value.element_size() < 4 else value
            ).numpy()
        return np.array(value, dtype=NUMPY_DTYPES[tensor.dtype], order="C")

    def number(self, text: str) -> int:
        """Evaluate a size."""
        if text.isdigit():
            return int(text)
        names = {name: self.values[name] for name in _IDENTIFIER.findall(text) if name not in SIZE_FUNCTIONS}
        return int(eval(compile(text, "<size>", "eval"), {"__builtins__": {}, **SIZE_FUNCTIONS}, names))

    def buffer(self, name: str) -> np.ndarray:
        """Return a tensor, made when first touched (filled with nan where it can hold one)."""
        if name not in self.buffers:
            tensor = self.sketch.tensor(name)
            shape = tuple(self.number(dim) for dim in tensor.dims)
            made = np.empty(shape, NUMPY_DTYPES[tensor.dtype])
            if np.issubdtype(made.dtype, np.floating):
                made.fill(np.nan)
            self.buffers[name] = made
        return self.buffers[name]

    def view(self, name: str) -> np.ndarray:
        """Return a tensor or a strided view of one."""
        view = self.views.get(name)
        if view is None:
            return self.buffer(name)
        shape = tuple(self.number(dim) for dim in view.dims)
        strides = tuple(self.number(stride) for stride in view.strides)
        offset = self.number(view.offset)
        if view.base == "iota":
            grids = np.ogrid[tuple(slice(size) for size in shape)] if shape else ()
            return offset + sum((g * s for g, s in zip(grids, strides)), np.zeros(shape, np.int64))
        base = self.buffer(view.base).reshape(-1)
        if not all(shape):
            return np.empty(shape, base.dtype)
        width = base.itemsize
        return np.lib.stride_tricks.as_strided(
            base[offset:], shape, tuple(stride * width for stride in strides)
        )

    def run(self) -> tuple[np.ndarray, ...]:
        """Execute the sketch and return its results."""
        with np.errstate(all="ignore"):
            self.body(self.sketch.body)
        return tuple(np.array(self.view(name)) for name in self.sketch.results)

    def state_after(self) -> dict[str, np.ndarray]:
        """Return the state that the call changes, after ``run``."""
        return {key: np.array(self.view(name)) for key, name in self.sketch.updates}

    def body(self, body: Sequence[Any]) -> None:
        """Execute statements."""
        for s in body:
            if isinstance(s, For):
                low, high, step = self.number(s.lo), self.number(s.hi), self.number(s.step)
                self.bounds[s.var] = high
                for value in range(low, high, step):
                    self.values[s.var] = value
                    outer, self.width = self.width, min(step, high - value) if step != 1 else self.width
                    self.body(s.body)
                    self.width = outer
                self.values.pop(s.var, None)
            elif isinstance(s, Alloc):
                self.tiles[s.name] = self._alloc(s)
            elif isinstance(s, Load):
                source = self.tiles[s.source] if s.source in self.tiles else self.view(s.source)
                self.tiles[s.dst] = np.array(source[self.index(s.index)])
            elif isinstance(s, Store):
                target = self.tiles[s.target] if s.target in self.tiles else self.view(s.target)
                target[self.index(s.index)] = self._fitted(self.operand(s.src), target, s.index)
            elif isinstance(s, Call):
                self.call(s)
            else:
                self.compute(s)

    def _alloc(self, s: Alloc) -> np.ndarray:
        start = float(s.init) if s.init else 0.0
        dtype = NUMPY_DTYPES[s.dtype]
        value = dtype(start) if np.issubdtype(dtype, np.floating) else dtype(int(s.init) if s.init else 0)
        return np.full(tuple(self.number(dim) for dim in s.dims), value, dtype)

    def _fitted(self, value: Any, target: np.ndarray, index: Sequence[str]) -> Any:
        """Cut a tile of the full width to the extent of the last tile of a loop."""
        value = np.asarray(value)
        wanted = target[self.index(index)].shape
        return value[tuple(slice(size) for size in wanted)] if value.ndim == len(wanted) else value

    def index(self, index: Sequence[str]) -> tuple[Any, ...]:
        """Return the NumPy index of a place."""
        found: list[Any] = []
        for item in index:
            if item.startswith("@"):
                found.append(np.asarray(self.tiles[item[1:]], np.int64))
            elif item == ":":
                found.append(slice(0, self.width))
            elif ":" in item:
                variable = item.split(":")[0]
                stop = min(self.number(item.split(":")[1]), self.bounds[variable])
                found.append(slice(self.values[variable], stop))
            else:
                found.append(self.number(item))
        if any(isinstance(item, np.ndarray) for item in found):
            found = [np.arange(item.start, item.stop) if isinstance(item, slice) else item for item in found]
        return tuple(found)

    def operand(self, name: str) -> Any:
        """Return a tile or a literal."""
        if name in self.tiles:
            return self.tiles[name]
        try:
            return int(name)
        except ValueError:
            pass
        try:
            return float(name)
        except ValueError:
            return self.number(name)

    def compute(self, s: Compute) -> None:
        """Execute an operation on tiles."""
        args = [self.operand(name) for name in s.args]
        if s.op.startswith("scan_"):
            self.tiles[s.dst[0]] = self._scan(s.op, args[0], self.tiles[s.dst[1]])
        elif s.op.startswith(("reduce_", "merge_")):
            self._reduce(s.op, args, [self.tiles[name] for name in s.dst])
        elif s.op == "cast":
            self.tiles[s.dst[0]] = np.asarray(args[0]).astype(NUMPY_DTYPES[s.dtype])
        else:
            dtype = NUMPY_DTYPES[s.dtype] if s.dtype else None
            shapes = {np.shape(arg)[0] for arg in args if np.ndim(arg)}
            if len(shapes) > 1:
                width = min(shapes)
                args = [arg[:width] if np.ndim(arg) else arg for arg in args]
            if dtype is not None and s.op not in ("eq", "ne", "lt", "le", "gt", "ge", "where"):
                args = [np.asarray(arg, dtype) if isinstance(arg, int | float) else arg for arg in args]
            value = np.asarray(POINTWISE[s.op].function(*args))
            self.tiles[s.dst[0]] = value.astype(dtype) if dtype is not None else value

    @staticmethod
    def _scan(op: str, tile: Any, carry: np.ndarray) -> np.ndarray:
        function = {
            "scan_cumsum": np.add, "scan_cumprod": np.multiply, "scan_cummax": np.maximum, "scan_cummin":
            np.minimum,
        }[op]  # fmt: skip
        tile = np.asarray(tile)
        if carry.ndim == tile.ndim:
            width = tile.shape[0] if tile.ndim else None
            part = carry[:width] if tile.ndim else carry
            part[...] = function(part, tile)
            return np.array(part, tile.dtype)
        result = function(carry, function.accumulate(tile.astype(carry.dtype)))
        carry[...] = result[-1]
        return result.astype(tile.dtype)

    def _reduce(self, op: str, args: list[Any], into: list[np.ndarray]) -> None:
        value = np.asarray(args[0])
        if into[0].ndim and value.ndim == into[0].ndim:
            into = [part[: value.shape[0]] if part.ndim else part for part in into]
        whole = value.ndim > into[0].ndim
        if op in ("reduce_moments", "merge_moments"):
            _moments(op, args, into, whole)
        elif op in ("reduce_argmax", "reduce_argmin"):
            _extreme(op, value, np.asarray(args[1]), into, whole)
        else:
            function = {
                "reduce_sum": np.add, "reduce_prod": np.multiply, "reduce_amax": np.maximum, "reduce_amin":
                np.minimum,
                "reduce_any": np.logical_or, "reduce_all": np.logical_and,
            }[op]  # fmt: skip
            part = function.reduce(value.astype(into[0].dtype)) if whole else value
            into[0][...] = function(into[0], part)

    def call(self, s: Call) -> None:
        """Execute a library call (by PyTorch on the same arrays) or a window."""
        import torch

        spec = json.loads(s.spec)
        tensors = [torch.from_numpy(np.array(self.view(name))) for name in s.args]
        if s.target == "window":
            self.buffers[s.dst[0]] = (
                _window(torch, spec, tensors[0]).numpy().reshape(self.buffer(s.dst[0]).shape)
            )
            return

        def decode(value: Any) -> Any:
            if isinstance(value, str) and value.startswith("%"):
                return tensors[int(value[1:])]
            if isinstance(value, str) and value.startswith("="):
                return self.number(value[1:])
            return [decode(item) for item in value] if isinstance(value, list) else value

        function = torch.ops
        for name in s.target.removeprefix("own.").split("."):
            function = getattr(function, name)
        result = function(*map(decode, spec["args"]), **{key: decode(v) for key, v in spec["kwargs"].items()})  # type: ignore[operator]
        if "memory" in spec:
            result = result.permute(spec["memory"])
        results = result if spec.get("several") else [result]
        for name, tensor in zip(s.dst, results):
            self.buffers[name] = np.ascontiguousarray(tensor.numpy())


def _window(torch: Any, spec: dict[str, Any], x: Any) -> Any:
    functional = torch.nn.functional
    rank = len(spec["kernel"])
    planes = x.reshape(1, -1, *x.shape[-rank:])
    outs = None
    if spec["reduce"] == "max":
        pool = getattr(functional, f"max_pool{rank}d")
        outs = [
            pool(planes, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"], ceil)
            for ceil in (False, True)
        ]
    else:
        pool = getattr(functional, f"avg_pool{rank}d")
        more = {} if rank == 1 else {"divisor_override": spec["divisor"]}
        outs = [
            pool(planes, spec["kernel"], spec["stride"], spec["padding"], bool(ceil), spec["include"], **more)
            for ceil in (0, 1)
        ]
    return outs[1] if spec.get("ceil") else outs[0]


def _moments(op: str, args: list[Any], into: list[np.ndarray], whole: bool) -> None:
    mean, square, count = into
    if op == "merge_moments":
        other_mean, other_square, other = (np.asarray(arg, float) for arg in args)
    else:
        value = np.asarray(args[0], float)
        other_mean = value.mean() if whole else value
        other_square = ((value - other_mean) ** 2).sum() if whole else np.zeros_like(value)
        other = np.asarray(float(value.size if whole else 1))
    if not other.any():
        return
    total = count + other
    gap = other_mean - mean
    square += other_square + gap**2 * count * other / total
    mean += gap * other / total
    count[...] = total


def _extreme(op: str, value: np.ndarray, index: np.ndarray, into: list[np.ndarray], whole: bool) -> None:
    best, place = into
    if whole:
        found = (np.argmax if op == "reduce_argmax" else np.argmin)(value)
        value, index = value[found], np.broadcast_to(index, value.shape)[found]
    beats = value > best if op == "reduce_argmax" else value < best
    beats = beats | (np.isnan(value) & ~np.isnan(best)) | (place < 0)
    np.copyto(best, value, where=beats)
    np.copyto(place, index, where=beats)
