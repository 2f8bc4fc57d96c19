"""Rules for reductions, row composites, norms and scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.graph.lowering import Lowering, rule
from mlpapers.kernels.graph.size import Size, at_least_zero, product


def dims_of(value: Any, rank: int) -> list[int]:
    """Return the dims that an argument names: all for None or an empty list."""
    if value is None or (isinstance(value, list | tuple) and not value):
        return list(range(rank))
    values = value if isinstance(value, list | tuple) else [value]
    return sorted({d % rank if rank else 0 for d in values}) if rank else []


def count(lo: Lowering, position: int, dims: Sequence[int]) -> Size:
    """Return how many elements a reduction over `dims` takes in."""
    shape = lo.b.node(position).shape
    return product(shape[d] for d in dims)


def scaled(lo: Lowering, op: str, position: int, number: Any, dtype: str) -> int:
    """Return x op number for a number or a size."""
    return lo.apply(op, [position, lo.b.scalar(number, dtype)], dtype)


def reduced(lo: Lowering, op: str, position: int, dims: Sequence[int], dtype: str, keepdim: bool) -> int:
    """Add a reduction; over no dims (a 0-d operand) it is the operand itself."""
    if not lo.b.node(position).shape:
        value = lo.b.cast(position, dtype) if op in ("sum", "prod", "amax", "amin") else None
        if value is not None:
            return value
        position = lo.b.reshape(position, [1])
        dims = [0]
    return lo.b.reduce(op, position, dims, dtype, keepdim)


def extreme_of(lo: Lowering, op: str, position: int, dims: Sequence[int], dtype: str, keepdim: bool) -> int:
    """Add a maximum, a minimum or the place of one, of at least one element."""
    lo.b.require_positive(count(lo, position, dims))
    return reduced(lo, op, position, dims, dtype, keepdim)


@rule("sum", "prod", "amax", "amin", "any", "all")
def reduction(lo: Lowering, call: Any) -> Any:
    """One reduction over dims."""
    op = call.target.__name__.split(".")[0]
    x, dim, keepdim = lo.arguments(call, x=None, dim=None, keepdim=False)
    dtype = lo.dtype(call)
    position = lo.values[x]
    node = lo.b.node(position)
    if op in ("any", "all") and node.dtype != "b1":
        position = lo.apply("ne", [position, lo.b.scalar(0, node.dtype)], "b1")
    if op in ("sum", "prod"):
        position = lo.b.cast(position, dtype)
    add = extreme_of if op in ("amax", "amin") else reduced
    return add(lo, op, position, dims_of(dim, len(node.shape)), dtype, bool(keepdim))


@rule("mean")
def mean(lo: Lowering, call: Any) -> Any:
    """Sum over dims divided by their count."""
    x, dim, keepdim = lo.arguments(call, x=None, dim=None, keepdim=False)
    dtype = lo.dtype(call)
    position = lo.b.cast(lo.values[x], dtype)
    dims = dims_of(dim, len(lo.b.node(position).shape))
    total = reduced(lo, "sum", position, dims, dtype, bool(keepdim))
    return scaled(lo, "div", total, count(lo, position, dims), dtype)


def moments(lo: Lowering, position: int, dims: Sequence[int], dtype: str, keepdim: bool) -> tuple[int, int]:
    """Return the mean and the sum of squared deviations over dims."""
    return (
        lo.b.reduce("mean", position, dims, dtype, keepdim),
        lo.b.reduce("m2", position, dims, dtype, keepdim),
    )


@rule("var", "std", "var_mean", "std_mean")
def variance(lo: Lowering, call: Any) -> Any:
    """Sum of squared deviations over n - correction, its root for std."""
    name = call.target.__name__.split(".")[0]
    x = call.args[0]
    node = lo.node(x)
    if not node.shape:
        return None
    if len(call.args) > 1 and isinstance(call.args[1], bool):
        dim, correction = None, int(call.args[1])
    else:
        dim = lo.arguments(call, x=None, dim=None)[1]
        unbiased = call.args[2] if len(call.args) > 2 else call.kwargs.get("unbiased", True)
        correction = call.kwargs.get("correction", 1 if unbiased else 0)
        correction = 1 if correction is None else correction
    if correction != int(correction):
        return None
    keepdim = bool(call.kwargs.get("keepdim", call.args[3] if len(call.args) > 3 else False))
    dtype = lo.dtype(call)
    dims = dims_of(dim, len(node.shape))
    centre, deviation = moments(lo, lo.values[x], dims, dtype, keepdim)
    size = count(lo, lo.values[x], dims)
    value = scaled(lo, "div", deviation, at_least_zero(size - int(correction)), dtype)
    if name.startswith("std"):
        value = lo.apply("sqrt", [value], dtype)
    return [value, centre] if name.endswith("mean") else value


@rule("argmax", "argmin")
def arg_reduction(lo: Lowering, call: Any) -> Any:
    """First index of the largest or smallest element; nan comes first."""
    op = call.target.__name__.split(".")[0]
    x, dim, keepdim = lo.arguments(call, x=None, dim=None, keepdim=False)
    position = lo.values[x]
    node = lo.b.node(position)
    if dim is None:
        lo.b.require_positive(node.numel)
        flat = lo.b.reshape(position, [node.numel])
        index = lo.b.reduce(op, flat, [0], "i64")
        return lo.b.reshape(index, lo.shape(call))
    return extreme_of(lo, op, position, dims_of(dim, len(node.shape)), "i64", bool(keepdim))


@rule("max", "min")
def extreme(lo: Lowering, call: Any) -> Any:
    """Elementwise for two tensors; else the extreme, with its index where a dim is named."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    if len(call.args) > 1 and hasattr(call.args[1], "meta"):
        op = "maximum" if name == "max" else "minimum"
        return lo.apply(op, [lo.operand(value, dtype) for value in call.args[:2]], dtype, lo.shape(call))
    x, dim, keepdim = lo.arguments(call, x=None, dim=None, keepdim=False)
    position = lo.values[x]
    dims = dims_of(dim, len(lo.b.node(position).shape))
    value = extreme_of(lo, "a" + name, position, dims, dtype, bool(keepdim))
    if dim is None:
        return value
    return [value, reduced(lo, "arg" + name, position, dims, "i64", bool(keepdim))]


@rule("linalg_vector_norm", "norm")
def vector_norm(lo: Lowering, call: Any) -> Any:
    """(sum |x|^p)^(1/p), max |x| for p = inf, the count of non-zeros for p = 0."""
    x, order, dim, keepdim = lo.arguments(call, x=None, ord=2, dim=None, keepdim=False)
    dtype = lo.dtype(call)
    order = 2 if order is None else order
    position = lo.b.cast(lo.values[x], dtype)
    dims = dims_of(dim, len(lo.b.node(position).shape))
    if math.isinf(order):
        magnitude = lo.apply("abs", [position], dtype)
        return extreme_of(lo, "amax" if order > 0 else "amin", magnitude, dims, dtype, bool(keepdim))
    if order == 2:
        power = lo.apply("square", [position], dtype)
    elif order == 0:
        power = lo.b.cast(lo.apply("ne", [position, lo.b.scalar(0.0, dtype)], "b1"), dtype)
    else:
        power = lo.apply("abs", [position], dtype)
        if order != 1:
            power = lo.apply("pow", [power, lo.b.scalar(float(order), dtype)], dtype)
    total = reduced(lo, "sum", power, dims, dtype, bool(keepdim))
    if order in (0, 1):
        return total
    return lo.apply("sqrt", [total], dtype) if order == 2 else scaled(lo, "pow", total, 1 / order, dtype)


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax")
def softmax(lo: Lowering, call: Any) -> Any:
    """exp(x - m) / s with m the row's maximum and s = sum exp(x - m); x - m - log s for the logarithm."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    position = lo.b.cast(lo.values[call.args[0]], dtype)
    rank = len(lo.b.node(position).shape)
    if rank == 0 or name == "_safe_softmax":
        return None
    dims = dims_of(call.args[1], rank)
    top = lo.b.reduce("amax", position, dims, dtype, True)
    shifted = lo.apply("sub", [position, top], dtype)
    power = lo.apply("exp", [shifted], dtype)
    total = lo.b.reduce("sum", power, dims, dtype, True)
    if "log" in name:
        return lo.apply("sub", [shifted, lo.apply("log", [total], dtype)], dtype)
    return lo.apply("mul", [power, lo.apply("reciprocal", [total], dtype)], dtype)


@rule("logsumexp")
def logsumexp(lo: Lowering, call: Any) -> Any:
    """M + log sum exp(x - m), with m = 0 where the maximum is infinite."""
    x, dim, keepdim = lo.arguments(call, x=None, dim=None, keepdim=False)
    dtype = lo.dtype(call)
    position = lo.b.cast(lo.values[x], dtype)
    shape = lo.b.node(position).shape
    if not shape:
        return None
    dims = dims_of(dim, len(shape))
    top = lo.b.reduce("amax", position, dims, dtype, True)
    infinite = lo.apply("isinf", [top], "b1")
    safe = lo.apply("where", [infinite, lo.b.scalar(0.0, dtype), top], dtype)
    power = lo.apply("exp", [lo.apply("sub", [position, safe], dtype)], dtype)
    total = lo.apply("log", [lo.b.reduce("sum", power, dims, dtype, True)], dtype)
    value = lo.apply("add", [total, safe], dtype)
    return value if keepdim else lo.b.reshape(value, lo.shape(call))


def normalise(
    lo: Lowering, position: int, dims: Sequence[int], eps: float, dtype: str
) -> tuple[int, int, int]:
    """Return (x - mean) / sqrt(var + eps) over dims, the mean and the reciprocal deviation (dims kept)."""
    centre, deviation = moments(lo, position, dims, dtype, True)
    var = scaled(lo, "div", deviation, count(lo, position, dims), dtype)
    inverse = lo.apply("rsqrt", [scaled(lo, "add", var, float(eps), dtype)], dtype)
    return lo.apply("mul", [lo.apply("sub", [position, centre], dtype), inverse], dtype), centre, inverse


def affine(lo: Lowering, value: int, weight: int | None, bias: int | None, dtype: str) -> int:
    """Return value weight + bias, each where it is there."""
    if weight is not None:
        value = lo.apply("mul", [value, weight], dtype)
    return lo.apply("add", [value, bias], dtype) if bias is not None else value


@rule("native_layer_norm", "layer_norm")
def layer_norm(lo: Lowering, call: Any) -> Any:
    """Normalise over the last dims, then scale and shift."""
    x, shape, weight, bias, eps = lo.arguments(call, x=None, shape=None, weight=None, bias=None, eps=1e-5)
    dtype = lo.dtype(call)
    position = lo.values[x]
    rank = len(lo.b.node(position).shape)
    dims = list(range(rank - len(shape), rank))
    value, centre, inverse = normalise(lo, position, dims, eps, dtype)
    scale, shift = (lo.values[w] if w is not None else None for w in (weight, bias))
    value = affine(lo, value, scale, shift, dtype)
    return value if call.target.__name__.startswith("layer_norm") else [value, centre, inverse]


@rule("native_group_norm")
def group_norm(lo: Lowering, call: Any) -> Any:
    """Normalise over each group of channels and all positions, then scale and shift per channel."""
    x, weight, bias, n, c, _, groups, eps = call.args
    dtype = lo.dtype(call)
    shape = lo.shape(call)
    n, c = lo.size(n), lo.size(c)
    if c != shape[1] or n != shape[0]:
        return None
    split = (shape[0], groups, c // groups, *shape[2:])
    position = lo.b.reshape(lo.values[x], split)
    value, centre, inverse = normalise(lo, position, list(range(2, len(split))), eps, dtype)
    per_channel = [1, groups, c // groups, *[1] * (len(shape) - 2)]
    scale, shift = (
        lo.b.reshape(lo.values[w], per_channel) if w is not None else None for w in (weight, bias)
    )
    value = lo.b.reshape(affine(lo, value, scale, shift, dtype), shape)
    return [value, lo.b.reshape(centre, (*shape[:1], groups)), lo.b.reshape(inverse, (*shape[:1], groups))]


@rule(
    "_native_batch_norm_legit_functional", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"
)
def batch_norm(lo: Lowering, call: Any) -> Any:
    """Normalise each channel by the batch's statistics (train) or the running ones; move the running ones."""
    name = call.target.__name__
    dtype = lo.dtype(call)
    shape = lo.shape(call)
    if "no_training" in name:
        x, weight, bias, running_mean, running_var, momentum, eps = call.args
        training = False
    elif name.endswith("no_stats"):
        x, weight, bias, training, momentum, eps = call.args
        running_mean = running_var = None
    else:
        x, weight, bias, running_mean, running_var, training, momentum, eps = call.args
    position = lo.values[x]
    channel = [1, shape[1], *[1] * (len(shape) - 2)]

    def spread(value: Any) -> int | None:
        return lo.b.reshape(lo.values[value], channel) if value is not None else None

    if not training:
        inverse = lo.apply("rsqrt", [scaled(lo, "add", lo.values[running_var], float(eps), dtype)], dtype)
        centred = lo.apply("sub", [position, lo.b.reshape(lo.values[running_mean], channel)], dtype)
        value = lo.apply("mul", [centred, lo.b.reshape(inverse, channel)], dtype)
        value = affine(lo, value, spread(weight), spread(bias), dtype)
        empty = lo.b.scalar(0.0, dtype)
        return [value, empty, empty, *(lo.values[r] for r in (running_mean, running_var))]
    dims = [0, *range(2, len(shape))]
    value, centre, inverse = normalise(lo, position, dims, eps, dtype)
    value = affine(lo, value, spread(weight), spread(bias), dtype)
    flat = [lo.b.reshape(statistic, (shape[1],)) for statistic in (centre, inverse)]
    if running_mean is None:
        return [value, *flat]
    size = count(lo, position, dims)
    deviation = lo.b.reduce("m2", position, dims, dtype)
    unbiased = scaled(lo, "div", deviation, size - 1, dtype)

    def moved(running: Any, batch: int) -> int:
        kept = scaled(lo, "mul", lo.values[running], 1 - momentum, dtype)
        return lo.apply("add", [kept, scaled(lo, "mul", batch, momentum, dtype)], dtype)

    return [value, *flat, moved(running_mean, flat[0]), moved(running_var, unbiased)]


@rule("cumsum", "cumprod")
def scan(lo: Lowering, call: Any) -> Any:
    """Take the running sum or product along a dim."""
    op = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    position = lo.b.cast(lo.values[call.args[0]], dtype)
    rank = len(lo.b.node(position).shape)
    if rank == 0:
        return position
    return lo.b.add(op, (position,), lo.shape(call), dtype, dim=call.args[1] % rank, reverse=False)
