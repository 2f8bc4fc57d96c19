"""Rules for contractions (left to the library, with their operation counts) and pooling windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.graph.lowering import Lowering, rule
from mlpapers.kernels.graph.size import Size, Sym, exact_ratio


@rule("mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "mv", "dot", "addmv", "_scaled_mm")
def matmul(lo: Lowering, call: Any) -> Any:
    """Matrix products: 2 M N K operations."""
    name = call.target.__name__.split(".")[0]
    right = call.args[2] if name.startswith(("add", "badd")) else call.args[1]
    shape = lo.node(right).shape
    inner = shape[-1] if name == "linear" or len(shape) == 1 else shape[-2]
    return lo.library(call, 2.0 * math.prod(int(size) for size in lo.shape(call)) * int(inner), True)


@rule("convolution")
def convolution(lo: Lowering, call: Any) -> Any:
    """Convolutions: 2 operations per output (transposed: input) element and weight of one output channel."""
    weight, transposed = lo.node(call.args[1]).shape, call.args[6]
    sizes = lo.node(call.args[0]).shape if transposed else lo.shape(call)
    return lo.library(call, 2.0 * math.prod(map(int, sizes)) * math.prod(map(int, weight[1:])), True)


@rule("scaled_dot_product_attention")
def attention(lo: Lowering, call: Any) -> Any:
    """softmax(Q K^T) V: two matrix products."""
    query, key = lo.node(call.args[0]).shape, lo.node(call.args[1]).shape
    value = lo.node(call.args[2]).shape
    dropout = call.args[4] if len(call.args) > 4 else call.kwargs.get("dropout_p", 0.0)
    if dropout:
        lo.b.graph.random = True
    flops = 2.0 * math.prod(map(int, query[:-1])) * int(key[-2]) * (int(query[-1]) + int(value[-1]))
    return lo.library(call, flops, True)


def spread(value: Any, rank: int, default: Sequence[int]) -> tuple[int, ...]:
    """Return one number per spatial dim."""
    if value is None or (isinstance(value, list | tuple) and not value):
        return tuple(default)
    values = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(values * rank if len(values) == 1 else values)


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d", "avg_pool3d",
)  # fmt: skip
def pool(lo: Lowering, call: Any) -> Any:
    """Maximum or mean over windows."""
    name = call.target.__name__.split(".")[0]
    rank = int(name[name.index("pool") + 4])
    average = name.startswith("avg")
    if average:
        x, kernel, stride, padding, ceil_mode, include, divisor = lo.arguments(
            call, x=None, kernel=None, stride=None, padding=0, ceil_mode=False, include=True, divisor=None
        )
        dilation: Any = 1
    else:
        x, kernel, stride, padding, dilation, ceil_mode = lo.arguments(
            call, x=None, kernel=None, stride=None, padding=0, dilation=1, ceil_mode=False
        )
        include, divisor = True, None
    indices = name.endswith("indices") and any(
        user.target.__name__ == "getitem" and user.args[1] == 1 and user.users for user in call.users
    )
    if indices:
        return None
    kernel = spread(kernel, rank, ())
    stride = spread(stride, rank, kernel)
    padding, dilation = spread(padding, rank, ()), spread(dilation, rank, ())
    position = lo.values[x]
    value = lo.b.add(
        "pool", (position,), lo.shape(call), lo.dtype(call), reduce="mean" if average else "max",
        kernel=kernel,
        stride=stride, padding=padding, dilation=dilation, include=bool(include), divisor=divisor,
        ceil=bool(ceil_mode),
    )  # fmt: skip
    return [value, value] if name.endswith("indices") else value


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d")
def adaptive_pool(lo: Lowering, call: Any) -> Any:
    """Average over equal windows where the sizes divide."""
    shape, out = lo.node(call.args[0]).shape, lo.shape(call)
    rank = len(call.args[1])
    kernel: list[Size] = []
    for size, wanted in zip(shape[-rank:], out[-rank:]):
        ratio = exact_ratio(size, wanted)
        if ratio is None or isinstance(ratio, Sym):
            return None
        kernel.append(ratio)
    return lo.b.add(
        "pool", (lo.values[call.args[0]],), out, lo.dtype(call), reduce="mean", kernel=tuple(kernel),
        stride=tuple(kernel), padding=(0,) * rank, dilation=(1,) * rank, include=True, divisor=None,
        ceil=False,
    )  # fmt: skip
