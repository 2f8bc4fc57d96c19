"""Contractions without the library: which calls become products or convolutions of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mlpapers.kernels.dsl.cpp.gemm import Operand, times
from mlpapers.kernels.sketch import Call, Sketch

_PREFIX = "own."


def with_own_contractions(sketch: Sketch) -> Sketch:
    """Return the sketch with every call of the library that we can make ourselves marked as our own.

    The mark is the target's prefix ``own.``; the call keeps the library's arguments, by which the
    interpreter executes it, beside the plan of ours.

    Parameters
    ----------
    sketch : Sketch

    Returns
    -------
    sketch : Sketch
    """
    return replace(sketch, body=tuple(_own(sketch, s) if isinstance(s, Call) else s for s in sketch.body))


def _own(sketch: Sketch, call: Call) -> Call:
    name = call.target.removeprefix("aten.").split(".")[0]
    planner = _PLANNERS.get(name)
    operands = [Operand(sketch, arg) for arg in call.args]
    if planner is None or any(sketch.tensor(o.base).dtype != "f32" for o in operands):
        return call
    spec = json.loads(call.spec)
    plan = planner(name, spec, operands, sketch, call)
    if plan is None:
        return call
    order = plan.pop("order")
    args = [spec["args"][slot] for slot in range(len(spec["args"]))]
    # Operands are named by their place, which follows the plan's order from now on.
    places = {f"%{old}": f"%{new}" for new, old in enumerate(order)}
    args = [places.get(value, value) if isinstance(value, str) else value for value in args]
    spec = {**spec, "args": args, "own": plan}
    return Call(_PREFIX + call.target, json.dumps(spec), tuple(call.args[k] for k in order), call.dst)


def _product(name: str, spec: dict[str, Any], operands: Sequence[Operand], *_: Any) -> dict[str, Any] | None:
    """Plan mm, bmm, addmm, baddbmm, linear, matmul, mv and dot."""
    added = name in ("addmm", "baddbmm", "addmv")
    order = [1, 2, 0] if added else [0, 1]
    if name == "linear" and len(operands) == 3:
        order = [0, 1, 2]
    if len(operands) != len(order) or any(f"%{k}" != spec["args"][k] for k in range(len(order))):
        return None
    a, b = operands[order[0]], operands[order[1]]
    scale = spec["kwargs"] if added else {}
    left = _matrix(a, row=True)
    right = _matrix(b, row=False)
    if name == "linear":
        # The weight is (N, K): its transpose is the right factor.
        batch, (n, k), (sb, sn, sk) = _matrix(b, row=False)
        right = (batch, (k, n), (sb, sk, sn))
    batches = left[0] or right[0]
    if left[0] and not right[0]:
        # Rows of all batches at once, where they lie evenly.
        if not _even(a):
            return None
        left = ("", (times(*a.dims[:-1]), a.dims[-1]), ("0", a.strides[-2], a.strides[-1]))
        batches = ""
    elif left[0] != right[0] or (left[0] and not (_even_batches(a) and _even_batches(b))):
        return None
    strides = [left[2], right[2]]
    if len(order) == 3:
        strides.append(_start(operands[order[2]], bool(batches)))
    return {
        "form": "product",
        "order": order,
        "sizes": [batches or "1", left[1][0], right[1][1], left[1][1]],
        "strides": strides,
        "alpha": scale.get("alpha", 1),
        "beta": scale.get("beta", 1),
    }


def _matrix(x: Operand, *, row: bool) -> tuple[str, tuple[str, str], tuple[str, str, str]]:
    """Return batch size ("" for none), the two sizes, and strides (batch, first, second) of a factor."""
    if x.rank == 1:
        stride = x.strides[0]
        return (
            ("", ("1", x.dims[0]), ("0", "0", stride)) if row else ("", (x.dims[0], "1"), ("0", stride, "0"))
        )
    batch = times(*x.dims[:-2]) if x.rank > 2 else ""
    return batch, (x.dims[-2], x.dims[-1]), (x.strides[-3] if batch else "0", x.strides[-2], x.strides[-1])


def _even(x: Operand) -> bool:
    """Whether all dims but the last can be crossed as one."""
    return all(x.follows(d) for d in range(x.rank - 2))


def _even_batches(x: Operand) -> bool:
    return all(x.follows(d) for d in range(x.rank - 3))


def _start(x: Operand, batched: bool) -> tuple[str, str, str]:
    """Return strides (batch, row, column) of what a product is added to, 0 along sizes it is broadcast."""
    strides = ["0" if dim == "1" else stride for dim, stride in zip(x.dims, x.strides)]
    strides = ["0"] * (3 - len(strides)) + strides
    return (strides[0] if batched else "0", strides[-2], strides[-1])


def _convolution(
    _: str, spec: dict[str, Any], operands: Sequence[Operand], sketch: Sketch, call: Call
) -> dict[str, Any] | None:
    """Plan a convolution, plain or transposed, of dense operands."""
    bias, stride, padding, dilation, transposed, _, groups = spec["args"][2:]
    x, weight = operands[:2]
    if any(not isinstance(v, int) for v in (*stride, *padding, *dilation, groups)):
        return None
    dense = all(operand.strides[-1] == "1" and _dense(operand) for operand in operands)
    rank = x.rank - 2
    if not dense or not all(dim.isdigit() for dim in weight.dims) or len(operands) != 2 + (bias is not None):
        return None

    def spread(values: Sequence[int]) -> list[int]:
        return list(values) * rank if len(values) == 1 else list(values)

    # A transposed convolution's weight is (channels, outputs of a group, ...).
    first, second, *kernel = map(int, weight.dims)
    rows, channels = (second, first // groups) if transposed else (first // groups, second)
    return {
        "form": "convolution",
        "order": list(range(len(operands))),
        "input": x.dims,
        "output": Operand(sketch, call.dst[0]).dims,
        "kernel": kernel,
        "stride": spread(stride),
        "padding": spread(padding),
        "dilation": spread(dilation),
        "groups": groups,
        "transposed": bool(transposed),
        "rows": rows,
        "channels": channels,
    }


def _dense(x: Operand) -> bool:
    return all(x.follows(d) for d in range(x.rank - 1))


_PLANNERS: dict[str, Callable[..., dict[str, Any] | None]] = {
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "mv", "dot"), _product),
    "convolution": _convolution,
}
