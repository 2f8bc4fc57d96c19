"""Rules for views, moves, constants and indexing."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.lowering import Lowering, rule
from mlpapers.kernels.graph.size import Size, Sym, text


@rule(
    "view",
    "reshape",
    "_unsafe_view",
    "unsqueeze",
    "flatten",
    "unflatten",
    "squeeze_copy",
    "view_copy",
)
def reshape(lo: Lowering, call: Any) -> Any:
    """Keep the elements in row-major order under another shape."""
    return lo.b.reshape(lo.values[call.args[0]], lo.shape(call))


@rule("squeeze")
def squeeze(lo: Lowering, call: Any) -> Any:
    """Drop dims of size 1; a free size is kept, and must not be 1 then."""
    shape = lo.node(call.args[0]).shape
    dims = call.args[1] if len(call.args) > 1 else range(len(shape))
    for dim in dims if not isinstance(dims, int) else [dims]:
        if shape and isinstance(shape[dim], Sym):
            lo.b.require(f"{text(shape[dim])} != 1")
    return reshape(lo, call)


@rule("permute", "transpose", "t", "numpy_T")
def permute(lo: Lowering, call: Any) -> Any:
    """Dims in another order."""
    name = call.target.__name__.split(".")[0]
    position = lo.values[call.args[0]]
    rank = len(lo.b.node(position).shape)
    order = list(range(rank))
    if name == "permute":
        order = [d % rank for d in call.args[1]]
    elif name == "transpose":
        a, b = (d % rank if rank else 0 for d in call.args[1:3])
        if rank:
            order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    return lo.b.permute(position, order)


@rule("expand", "broadcast_to")
def expand(lo: Lowering, call: Any) -> Any:
    """Broadcast to a larger shape."""
    return lo.b.expand(lo.values[call.args[0]], lo.shape(call))


@rule("slice")
def slice_(lo: Lowering, call: Any) -> Any:
    """Elements start, start + step, ... of a dim."""
    x, dim, start, _, step = lo.arguments(call, x=None, dim=0, start=None, end=None, step=1)
    position = lo.values[x]
    shape = lo.b.node(position).shape
    dim %= len(shape)
    size, first = shape[dim], lo.size(start if start is not None else 0)
    length = lo.shape(call)[dim]
    if first < 0:
        first = size + first
    if first > size:
        first = size
    return lo.b.slice(position, dim, max_zero(first), length, int(lo.size(step)))


def max_zero(value: Size) -> Size:
    """Return a start that is not negative; a formula stays as it is."""
    return value if isinstance(value, Sym) else max(value, 0)


@rule("select")
def select(lo: Lowering, call: Any) -> Any:
    """One element of a dim, the dim dropped."""
    x, dim, index = call.args
    position = lo.values[x]
    shape = lo.b.node(position).shape
    dim %= len(shape)
    first = lo.size(index)
    if first < 0:
        first = shape[dim] + first
    return lo.b.reshape(lo.b.slice(position, dim, first, 1), lo.shape(call))


@rule("split", "split_with_sizes", "chunk", "unbind")
def split(lo: Lowering, call: Any) -> Any:
    """Consecutive pieces of a dim."""
    name = call.target.__name__.split(".")[0]
    position = lo.values[call.args[0]]
    shapes = lo.shapes(call)
    rank = len(lo.b.node(position).shape)
    dim = (
        lo.arguments(call, x=None, dim=0)[1]
        if name == "unbind"
        else lo.arguments(call, x=None, s=0, dim=0)[2]
    )
    dim %= rank
    pieces, start = [], 0
    for shape in shapes:
        length = 1 if name == "unbind" else shape[dim]
        pieces.append(lo.b.reshape(lo.b.slice(position, dim, start, length), shape))
        start = start + length
    return pieces


@rule("flip")
def flip(lo: Lowering, call: Any) -> Any:
    """Dims reversed; a scan between two flips runs backwards instead."""
    position = lo.values[call.args[0]]
    node = lo.b.node(position)
    dims = sorted({d % len(node.shape) for d in call.args[1]})
    if node.kind == "scan" and dims == [node.attrs["dim"]]:
        before = lo.b.node(node.inputs[0])
        source = before.inputs[0] if before.op == "flip" and before.attrs["dims"] == tuple(dims) else None
        if source is not None:
            return lo.b.add(
                node.op, (source,), node.shape, node.dtype, dim=dims[0], reverse=not node.attrs["reverse"]
            )
    return lo.b.add("flip", (position,), node.shape, node.dtype, dims=tuple(dims))


@rule("cat")
def cat(lo: Lowering, call: Any) -> Any:
    """Tensors one after the other along a dim."""
    tensors, dim = lo.arguments(call, tensors=None, dim=0)
    dtype = lo.dtype(call)
    shape = lo.shape(call)
    parts = [lo.b.cast(lo.values[tensor], dtype) for tensor in tensors]
    parts = [part for part in parts if lo.b.node(part).shape != (0,)]
    return lo.b.add("cat", parts, shape, dtype, dim=dim % len(shape))


@rule("stack")
def stack(lo: Lowering, call: Any) -> Any:
    """Tensors one after the other along a new dim."""
    tensors, dim = lo.arguments(call, tensors=None, dim=0)
    dtype, shape = lo.dtype(call), lo.shape(call)
    dim %= len(shape)
    single = (*shape[:dim], 1, *shape[dim + 1 :])
    parts = [lo.b.reshape(lo.b.cast(lo.values[tensor], dtype), single) for tensor in tensors]
    return lo.b.add("cat", parts, shape, dtype, dim=dim)


@rule("roll")
def roll(lo: Lowering, call: Any) -> Any:
    """Elements moved along dims, those that leave coming in at the other end."""
    x, shifts, dims = lo.arguments(call, x=None, shifts=None, dims=())
    if not dims:
        return None
    position = lo.values[x]
    shape = lo.shape(call)
    for shift, dim in zip(shifts, dims):
        dim %= len(shape)
        size = shape[dim]
        if isinstance(size, Sym) or size == 0:
            return None
        start = (size - shift) % size
        tail = lo.b.slice(position, dim, start, size - start)
        head = lo.b.slice(position, dim, 0, start)
        if start:
            position = lo.b.add("cat", (tail, head), shape, lo.b.node(position).dtype, dim=dim)
    return position


@rule("repeat")
def repeat(lo: Lowering, call: Any) -> Any:
    """Repeat along each dim."""
    position = lo.values[call.args[0]]
    times = [lo.size(size) for size in call.args[1]]
    node = lo.b.node(position)
    padded = [1] * (len(times) - len(node.shape)) + list(node.shape)
    interleaved: list[Size] = []
    spread: list[Size] = []
    for copies, size in zip(times, padded):
        interleaved += [1, size]
        spread += [copies, size]
    return lo.b.reshape(lo.b.expand(lo.b.reshape(position, interleaved), spread), lo.shape(call))


@rule("constant_pad_nd")
def pad(lo: Lowering, call: Any) -> Any:
    """Add a border of one value; negative widths cut."""
    x, widths, value = lo.arguments(call, x=None, pad=None, value=0)
    position = lo.values[x]
    node = lo.b.node(position)
    rank = len(node.shape)
    pads: list[tuple[Size, Size]] = [(0, 0)] * rank
    for k in range(len(widths) // 2):
        low, high = lo.size(widths[2 * k]), lo.size(widths[2 * k + 1])
        dim = rank - 1 - k
        cut_low, cut_high = max(-low, 0), max(-high, 0)
        if cut_low or cut_high:
            position = lo.b.slice(position, dim, cut_low, lo.b.node(position).shape[dim] - cut_low - cut_high)
        pads[dim] = (max_zero(low), max_zero(high))
    if all(low == 0 and high == 0 for low, high in pads):
        return position
    return lo.b.add("pad", (position,), lo.shape(call), node.dtype, pads=tuple(pads), value=value)


@rule(
    "full",
    "full_like",
    "zeros",
    "ones",
    "zeros_like",
    "ones_like",
    "scalar_tensor",
    "empty",
    "empty_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "empty_permuted",
)
def full(lo: Lowering, call: Any) -> Any:
    """One value everywhere."""
    name = call.target.__name__.split(".")[0]
    if name in ("full", "full_like"):
        value = call.args[1]
    elif name == "scalar_tensor":
        value = call.args[0]
    elif name == "new_full":
        value = call.args[2]
    else:
        value = 1 if "ones" in name else 0
    return lo.b.expand(lo.operand(value, lo.dtype(call)), lo.shape(call))


@rule("arange", "iota")
def arange(lo: Lowering, call: Any) -> Any:
    """start, start + step, ..."""
    name = str(call.target)
    dtype = lo.dtype(call)
    start: Any = 0
    step: Any = 1
    if "iota" in name:
        start, step = call.kwargs.get("start", 0), call.kwargs.get("step", 1)
    elif "start_step" in name:
        start, _, step = lo.arguments(call, start=0, end=0, step=1)
    elif "start" in name:
        start = call.args[0]
    position = lo.b.add("iota", (), lo.shape(call), "i64")
    value = lo.b.cast(position, dtype)
    if step != 1:
        value = lo.apply("mul", [value, lo.operand(step, dtype)], dtype)
    return lo.apply("add", [value, lo.operand(start, dtype)], dtype) if start != 0 else value


@rule("gather")
def gather(lo: Lowering, call: Any) -> Any:
    """out[i, ..] = x[.., index[i, ..], ..]."""
    x, dim, index = call.args[:3]
    source, where = lo.values[x], lo.values[index]
    node, shape = lo.b.node(source), lo.shape(call)
    if not shape:
        return None
    dim %= len(shape)
    for d, (size, wanted) in enumerate(zip(node.shape, shape)):
        if d != dim and size != wanted:
            source = lo.b.slice(source, d, 0, wanted)
    return lo.b.gather(source, where, dim, shape)


def wrapped(lo: Lowering, index: int, size: Size) -> int:
    """Return an index in which the negative ones count from the end."""
    dtype = lo.b.node(index).dtype
    negative = lo.apply("lt", [index, lo.b.scalar(0, dtype)], "b1")
    from_end = lo.apply("add", [index, lo.b.scalar(size, dtype)], dtype)
    return lo.apply("where", [negative, from_end, index], dtype)


def take(lo: Lowering, source: int, dim: int, index: int, shape: Any) -> int:
    """Return x[.., index, ..] for an index of any rank that stands in place of one dim."""
    node, where = lo.b.node(source), lo.b.node(index)
    rank = len(where.shape)
    size = node.shape[dim]
    before, after = node.shape[:dim], node.shape[dim + 1 :]
    if rank == 0:
        lead = lo.b.reshape(index, [1] * len(node.shape))
        expanded = lo.b.expand(lead, (*before, 1, *after))
        out = lo.b.add("gather", (source, expanded), (*before, 1, *after), node.dtype, dim=dim)
        return lo.b.reshape(out, shape)
    lead = lo.b.reshape(index, (*[1] * len(before), *where.shape, *[1] * len(after)))
    expanded = lo.b.expand(lead, shape)
    view = lo.b.reshape(source, (*before, *[1] * (rank - 1), size, *after))
    spread = lo.b.expand(view, (*before, *where.shape[:-1], size, *after))
    return lo.b.add("gather", (spread, expanded), shape, node.dtype, dim=dim + rank - 1)


@rule("embedding")
def embedding(lo: Lowering, call: Any) -> Any:
    """Rows of a table."""
    weight, index = call.args[:2]
    return take(lo, lo.values[weight], 0, lo.values[index], lo.shape(call))


@rule("index_select")
def index_select(lo: Lowering, call: Any) -> Any:
    """Slices of a dim by their indices."""
    x, dim, index = call.args
    source = lo.values[x]
    rank = len(lo.b.node(source).shape)
    return take(lo, source, dim % rank, lo.values[index], lo.shape(call)) if rank else None


@rule("index")
def index(lo: Lowering, call: Any) -> Any:
    """x[.., index, ..] for one index tensor of integers."""
    x, indices = call.args
    named = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(named) != 1 or lo.node(named[0][1]).dtype == "b1":
        return None
    (dim, name), source = named[0], lo.values[x]
    where = wrapped(lo, lo.values[name], lo.b.node(source).shape[dim])
    return take(lo, source, dim, where, lo.shape(call))


@rule("one_hot")
def one_hot(lo: Lowering, call: Any) -> Any:
    """1 at the class and 0 elsewhere; the class is looked up, as it must be one of them."""
    x, classes = lo.arguments(call, x=None, num_classes=-1)
    position, shape = lo.values[x], lo.shape(call)
    counted = lo.b.add("iota", (), (classes,), "i64")
    table = lo.apply("identity", [counted], "i64")
    found = take(lo, table, 0, position, shape[:-1])
    return lo.b.cast(lo.apply("eq", [lo.b.reshape(found, (*shape[:-1], 1)), counted], "b1", shape), "i64")
