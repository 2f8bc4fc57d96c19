"""Pooling windows in Triton: a block of outputs of one plane, the taps unrolled or side by side."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.launches import Sizes
from mlpapers.kernels.dsl.statements import power_of_two
from mlpapers.kernels.dsl.triton.function import function_text

# Elements of a program's block.
_LANES = 1024
_TAPS = 256
# From this stride on lanes that hold one output each read less than a quarter of the sectors they touch.
_WIDE_STRIDE = 4


def block_of(spec: dict[str, Any]) -> tuple[int, int]:
    """Return the outputs of a program, and the lanes of each along the last dimension of its window.

    Where windows lie far apart, neighbouring lanes take neighbouring taps, so that what a warp reads is
    contiguous: with a stride of 11 it touches 4 sectors instead of 32.

    Parameters
    ----------
    spec : dict

    Returns
    -------
    outputs, lanes : int
    """
    if spec["stride"][-1] < _WIDE_STRIDE or spec["kernel"][-1] == 1:
        return _TAPS, 1
    lanes = power_of_two(spec["kernel"][-1])
    return max(_LANES // lanes, 1), lanes


def window_function(name: str, dtype: str, spec: dict[str, Any], sizes: Sizes) -> str:
    """Return the function of a pooling call over the grid (planes x blocks of outputs).

    Parameters
    ----------
    name : str
    dtype : str
    spec : dict
        reduce ("max" or "mean"), kernel, stride, padding, dilation, include, divisor, planes, sizes, outs.
    sizes : Sizes
        Collects the sizes that the function takes as arguments.

    Returns
    -------
    text : str
    """
    block, lanes = block_of(spec)
    rank = len(spec["kernel"])
    letters = "dhw"[3 - rank :]
    ins, outs = ([sizes.text(size) for size in spec[key]] for key in ("sizes", "outs"))
    accumulate = "tl.float64" if dtype == "f64" else "tl.float32"
    maximum = spec["reduce"] == "max"
    body = [
        "pid = tl.program_id(0)",
        "if WIDE:",
        "    pid = pid.to(tl.int64)",
        f"area = {' * '.join(outs)}",
        f"blocks = (area + {block - 1}) // {block}",
        "plane = pid // blocks",
        f"j = (pid % blocks) * {block} + tl.arange(0, {block})",
        "valid = j < area",
        "rest = j",
    ]
    for a, out in reversed(list(zip(letters, outs))):
        body += [f"{a} = rest % {out}", f"rest = rest // {out}"]
    shape, wide = (f"[{block}]", "") if lanes == 1 else (f"[{block}, {lanes}]", "[:, None]")
    start = 'float("-inf")' if maximum else "0.0"
    body += [
        f"acc = tl.full({shape}, {start}, {accumulate})",
        f"count = tl.full({shape}, 0.0, {accumulate})",
    ]
    depth = 0
    dims = list(zip(letters, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"], ins))
    inside, place = [f"valid{wide}"], "plane"
    for a, kernel, stride, padding, dilation, size in dims:
        if lanes > 1 and a == letters[-1]:
            body.append("    " * depth + f"k{a} = tl.arange(0, {lanes})[None, :]")
            inside += [f"(k{a} < {kernel})"] if kernel < lanes else []
        else:
            body.append("    " * depth + f"for k{a} in tl.static_range({kernel}):")
            depth += 1
        body.append("    " * depth + f"s{a} = {a}{wide} * {stride} + (k{a} * {dilation} - {padding})")
        inside += (
            [f"(s{a} >= 0)", f"(s{a} < {size})"]
            if padding or spec.get("ceil") or maximum
            else [f"(s{a} < {size})"]
        )
        place = f"({place}) * {size} + s{a}"
    pad = "    " * depth
    body += [
        pad + f"there = {' & '.join(inside)}",
        pad + f"x = tl.load(p_x + {place}, mask=there, other={start}).to({accumulate})",
    ]
    if maximum:
        body.append(pad + "acc = tl.where((x > acc) | (x != x), x, acc)")
    else:
        body += [pad + "acc += x", pad + f"count += there.to({accumulate})"]
    if lanes > 1:
        body += _joined(maximum)
    if not maximum:
        body.append(_mean(spec, dims, accumulate))
    body.append("tl.store(p_y + plane * area + j, acc, mask=valid)")
    arguments = ["p_x", "p_y", *(f"e{k}" for k in range(len(sizes.arguments))), "WIDE: tl.constexpr"]
    return function_text(name, arguments, body)


def _joined(maximum: bool) -> list[str]:
    """Return the statements that join the lanes of each output; nan wins a maximum."""
    if maximum:
        return [
            'acc = tl.where(tl.max((acc != acc).to(tl.int32), 1) > 0, float("nan"), tl.max(acc, 1))',
        ]
    return ["acc = tl.sum(acc, 1)", "count = tl.sum(count, 1)"]


def _mean(spec: dict[str, Any], dims: list[Any], accumulate: str) -> str:
    """Return the statement that divides the sum: by a number, the padded window, or what lies inside."""
    if spec["divisor"]:
        return f"acc = acc / {float(spec['divisor'])}"
    if not spec["include"]:
        return "acc = acc / tl.where(count > 0.0, count, 1.0)"
    spans = [
        f"(tl.minimum({a} * {stride} - {padding} + {kernel}, {size} + {padding})"
        f" - ({a} * {stride} - {padding}))"
        for a, kernel, stride, padding, _, size in dims
    ]
    return f"acc = acc / ({' * '.join(spans)}).to({accumulate})"
