"""Pooling of near windows in Triton: some rows of a plane a program, each input row joined along itself once.

A window's rows are shared by the outputs above and below, so a program joins the taps along each row of the
input that its outputs meet, and then those rows by output. Where nothing of a block meets the border no load
has a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mlpapers.kernels.dsl.launches import Sizes
from mlpapers.kernels.dsl.statements import power_of_two
from mlpapers.kernels.dsl.triton.function import function_text

# Outputs of a program, its most rows, and the longest block along a row.
_OUTPUTS, _ROWS, _WIDEST = 2048, 8, 1024
# More loads than this in one program are not written out.
_LOADS = 512


def near(spec: dict[str, Any]) -> bool:
    """Whether neighbouring lanes, one output each, read near each other, and few enough loads."""
    loads = spec["kernel"][-1] * (spec["kernel"][0] if len(spec["kernel"]) == 3 else 1)
    rows = _ROWS * (spec["stride"][-2] if len(spec["kernel"]) > 1 else 1)
    high = spec["kernel"][-2] * spec["dilation"][-2] if len(spec["kernel"]) > 1 else 1
    return spec["stride"][-1] < 4 and loads * (rows + high) <= _LOADS


def near_block(spec: dict[str, Any], sizes: Sizes) -> tuple[int, int]:
    """Return the rows and columns of outputs of a program."""
    extent = sizes.known(spec["outs"][-1])
    columns = min(power_of_two(extent), _WIDEST) if extent else _WIDEST
    if len(spec["kernel"]) == 1:
        return 1, columns
    known = sizes.known(spec["outs"][-2])
    rows = min(_ROWS, power_of_two(known)) if known else _ROWS
    return max(min(rows, _OUTPUTS // columns), 1), columns


def near_programs(spec: dict[str, Any], sizes: Sizes, number: Callable[[str], str]) -> str:
    """Return the number of programs as Python; `number` writes a size."""
    rows, columns = near_block(spec, sizes)
    outs = [f"({number(size)})" for size in spec["outs"]]
    along = f"(({outs[-1]} + {columns - 1}) // {columns})"
    down = f" * (({outs[-2]} + {rows - 1}) // {rows})" if len(outs) > 1 else ""
    deep = f" * {outs[-3]}" if len(outs) > 2 else ""
    return f"({number(spec['planes'])}){deep}{down} * {along}"


def near_warps(spec: dict[str, Any], sizes: Sizes) -> int:
    """Return the warps of a program: two outputs of a row per thread, or more."""
    return max(1, min(4, near_block(spec, sizes)[1] // 64))


def near_function(name: str, dtype: str, spec: dict[str, Any], sizes: Sizes) -> str:
    """Return the function of a pooling call over the grid (planes x depths x rows x columns of outputs).

    Parameters
    ----------
    name : str
    dtype : str
    spec : dict
    sizes : Sizes
        Collects the sizes that the function takes as arguments.

    Returns
    -------
    text : str
    """
    rank = len(spec["kernel"])
    kernel, stride, dilation = ([1] * (3 - rank) + list(spec[k]) for k in ("kernel", "stride", "dilation"))
    padding = [0] * (3 - rank) + list(spec["padding"])
    ins, outs = (["1"] * (3 - rank) + [sizes.text(size) for size in spec[key]] for key in ("sizes", "outs"))
    rows, columns = near_block(spec, sizes)
    kind = "tl.float64" if dtype == "f64" else "tl.float32"
    body = [
        "pid = tl.program_id(0)",
        "if WIDE:",
        "    pid = pid.to(tl.int64)",
        f"along = ({outs[2]} + {columns - 1}) // {columns}",
        f"down = ({outs[1]} + {rows - 1}) // {rows}",
        f"left = (pid % along) * {columns}",
        f"first = (pid // along % down) * {rows}",
        f"d = pid // (along * down) % {outs[0]}",
        f"plane = pid // (along * down) // {outs[0]}",
        f"p_x += plane * {ins[0]} * {ins[1]} * {ins[2]}",
        f"p_y += (plane * {outs[0]} + d) * {outs[1]} * {outs[2]}",
        f"w = left + tl.arange(0, {columns})",
        f"top = d * {stride[0]} - {padding[0]}",
        f"high = first * {stride[1]} - {padding[1]}",
        f"wide = w * {stride[2]} - {padding[2]}",
    ]
    spans = [
        (f"{start}", (count - 1) * step + (size - 1) * far, whole)
        for start, count, step, size, far, whole in zip(
            ("top", "high", f"(left * {stride[2]} - {padding[2]})"), (1, rows, columns), stride, kernel,
            dilation, ins,
        )
    ]  # fmt: skip
    inside = " & ".join(f"({start} >= 0) & ({start} + {reach} < {whole})" for start, reach, whole in spans)
    # The rows' own masks are needed where a block reaches over the outputs.
    body.append(f"whole = {inside} & (first + {rows} <= {outs[1]}) & (left + {columns} <= {outs[2]})")
    arguments = (kernel, stride, padding, dilation, ins, outs, rows, columns, kind)
    for test, masked in (("if whole:", False), ("else:", True)):
        body.append(test)
        body += [f"    {line}" for line in _block(spec, masked, *arguments)]
    head = ["p_x", "p_y", *(f"e{k}" for k in range(len(sizes.arguments))), "WIDE: tl.constexpr"]
    return function_text(name, head, body)


def _block(
    spec: dict[str, Any], masked: bool, kernel: Any, stride: Any, padding: Any, dilation: Any, ins: Any,
    outs: Any, rows: int, columns: int, kind: str,
) -> list[str]:  # fmt: skip
    """Return the statements of a block, with masks or without."""
    maximum = spec["reduce"] == "max"
    start = 'float("-inf")' if maximum else "0.0"
    tag = "m" if masked else "f"
    join = "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)" if maximum else "{0} + {1}"
    lines = [f"{tag}{j} = tl.full([{columns}], {start}, {kind})" for j in range(rows)]
    meets: dict[int, list[int]] = {}
    for j in range(rows):
        for k in range(kernel[1]):
            meets.setdefault(j * stride[1] + k * dilation[1], []).append(j)
    for shift in sorted(meets):
        value = ""
        for kd in range(kernel[0]):
            for kw in range(kernel[2]):
                place = f"((top + {kd * dilation[0]}) * {ins[1]} + high + {shift}) * {ins[2]}"
                load = f"tl.load(p_x + {place} + (wide + {kw * dilation[2]})"
                if masked:
                    terms = [(f"top + {kd * dilation[0]}", ins[0]), (f"high + {shift}", ins[1])]
                    terms.append((f"wide + {kw * dilation[2]}", ins[2]))
                    mask = " & ".join(f"({at} >= 0) & ({at} < {size})" for at, size in terms)
                    load += f", mask={mask}, other={start}"
                load += f").to({kind})"
                value = f"{tag}r"
                lines.append(f"{value} = {join.format(value, load)}" if kd + kw else f"{value} = {load}")
        lines += [f"{tag}{j} = {join.format(f'{tag}{j}', value)}" for j in meets[shift]]
    for j in range(rows):
        if not maximum:
            lines.append(
                f"{tag}{j} = {tag}{j} / {_terms(spec, masked, j, kernel, stride, padding, ins, kind)}"
            )
        mask = f", mask=(w < {outs[2]}) & (first + {j} < {outs[1]})" if masked else ""
        lines.append(f"tl.store(p_y + (first + {j}) * {outs[2]} + w, {tag}{j}{mask})")
    return lines


def _terms(
    spec: dict[str, Any], masked: bool, row: int, kernel: Any, stride: Any, padding: Any, ins: Any, kind: str
) -> str:
    """Return the number of terms of a mean: a given one, the padded window, or what lies inside."""
    if spec["divisor"] or not masked:
        return str(float(spec["divisor"] or math.prod(kernel)))
    starts = ("top", f"(high + {row * stride[1]})", "wide")
    counts = []
    for start, size, pad, whole in zip(starts, kernel, padding, ins):
        if spec["include"]:
            counts.append(f"(tl.minimum({start} + {size}, {whole} + {pad}) - {start})")
        else:
            counts.append(f"(tl.minimum({start} + {size}, {whole}) - tl.maximum({start}, 0))")
    number = f"({' * '.join(counts)}).to({kind})"
    return number if spec["include"] else f"tl.where({number} > 0.0, {number}, 1.0)"
