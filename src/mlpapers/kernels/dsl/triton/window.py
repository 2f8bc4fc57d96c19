"""Pooling windows in Triton: a block of outputs of one plane, the taps unrolled."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.launches import Sizes

BLOCK = 256


def window_function(name: str, dtype: str, spec: dict[str, Any], sizes: Sizes, block: int = BLOCK) -> str:
    """Return the function of a pooling call over the grid (planes x blocks of outputs).

    Parameters
    ----------
    name : str
    dtype : str
    spec : dict
        reduce ("max" or "mean"), kernel, stride, padding, dilation, include, divisor, planes, sizes, outs.
    sizes : Sizes
        Collects the sizes that the function takes as arguments.
    block : int

    Returns
    -------
    text : str
    """
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
    start = 'float("-inf")' if maximum else "0.0"
    body += [
        f"acc = tl.full([{block}], {start}, {accumulate})",
        f"count = tl.full([{block}], 0.0, {accumulate})",
    ]
    depth = 0
    dims = list(zip(letters, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"], ins))
    inside, place = ["valid"], "plane"
    for a, kernel, stride, padding, dilation, size in dims:
        body.append("    " * depth + f"for k{a} in tl.static_range({kernel}):")
        depth += 1
        body.append("    " * depth + f"s{a} = {a} * {stride} + (k{a} * {dilation} - {padding})")
        inside += (
            [f"(s{a} >= 0)", f"(s{a} < {size})"]
            if padding or spec.get("ceil") or maximum
            else [f"(s{a} < {size})"]
        )
        place = f"({place}) * {size} + s{a}"
    pad = "    " * depth
    other = 'float("-inf")' if maximum else "0.0"
    body += [
        pad + f"there = {' & '.join(inside)}",
        pad + f"x = tl.load(p_x + {place}, mask=there, other={other}).to({accumulate})",
    ]
    if maximum:
        body.append(pad + "acc = tl.where((x > acc) | (x != x), x, acc)")
    else:
        body += [pad + "acc += x", pad + f"count += there.to({accumulate})"]
    if not maximum:
        body.append(_mean(spec, dims, accumulate))
    body.append("tl.store(p_y + plane * area + j, acc, mask=valid)")
    arguments = ["p_x", "p_y", *(f"e{k}" for k in range(len(sizes.arguments))), "WIDE: tl.constexpr"]
    return "\n".join([f"@triton.jit\ndef {name}({', '.join(arguments)}):", *(f"    {line}" for line in body)])


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
