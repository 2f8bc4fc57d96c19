"""Depthwise convolutions in Triton: planes in float32, each row loaded once for all outputs that meet it."""

from __future__ import annotations

from mlpapers.kernels.dsl.statements import power_of_two
from mlpapers.kernels.dsl.triton.convolution import Axis, Convolution
from mlpapers.kernels.dsl.triton.function import function_text

# Rows of outputs of a program, the longest block along a row, and the warps.
ROWS, _WIDEST, WARPS = 8, 512, 4
# More taps than this would not stay in registers; with more outputs per channel a product is the better way.
_TAPS, _OUTPUTS = 64, 4


def is_depthwise(c: Convolution) -> bool:
    """Whether each output channel has one input channel, in at most two dimensions, with few taps."""
    few = c.group_outputs <= _OUTPUTS and not c.transposed
    apart = c.groups == c.channels and few and c.axes[0] == Axis(1, 1, 1, 1, 0, 1, False)
    return apart and c.axes[1].kernel * c.axes[2].kernel <= _TAPS


def plane_block(c: Convolution) -> tuple[int, int]:
    """Return the rows and columns of outputs of a program."""
    return min(ROWS, power_of_two(c.axes[1].out)), min(power_of_two(c.axes[2].out), _WIDEST)


def plane_programs(c: Convolution) -> int:
    """Return the programs per image."""
    rows, columns = plane_block(c)
    return c.outputs * -(-c.axes[1].out // rows) * -(-c.axes[2].out // columns)


def plane_function(name: str, c: Convolution, bias: bool) -> str:
    """Return the function of a depthwise convolution, a program for some rows of an output plane.

    Parameters
    ----------
    name : str
    c : Convolution
    bias : bool

    Returns
    -------
    text : str
    """
    _, high, wide = c.axes
    rows, columns = plane_block(c)
    down, along = -(-high.out // rows), -(-wide.out // columns)
    taps = high.kernel * wide.kernel
    body = [
        "pid = tl.program_id(0)",
        f"ow = (pid % {along}) * {columns} + tl.arange(0, {columns})",
        f"pid = pid // {along}",
        f"first = (pid % {down}) * {rows}",
        f"pid = pid // {down}",
        f"o = pid % {c.outputs}",
        f"image = (pid // {c.outputs}).to(tl.int64)",
        f"x = p_x + (image * {c.channels} + o // {c.group_outputs}) * {high.size * wide.size}",
        f"y = p_y + (image * {c.outputs} + o) * {high.out * wide.out}",
        *(f"w{k} = tl.load(p_w + o * {taps} + {k})" for k in range(taps)),
        "start = tl.load(p_b + o)" if bias else "start = 0.0",
        *(f"acc{j} = tl.full([{columns}], 0.0, tl.float32) + start" for j in range(rows)),
        *(f"sw{k} = ow * {wide.stride} + {k * wide.dilation - wide.padding}" for k in range(wide.kernel)),
        *(f"in{k} = (sw{k} >= 0) & (sw{k} < {wide.size})" for k in range(wide.kernel)),
    ]
    met = {j * high.stride + k * high.dilation for j in range(rows) for k in range(high.kernel)}
    for shift in sorted(met):
        body += [
            f"sh = first * {high.stride} + {shift - high.padding}",
            f"there = (sh >= 0) & (sh < {high.size})",
        ]
        for kw in range(wide.kernel):
            body.append(f"v = tl.load(x + (sh * {wide.size} + sw{kw}), mask=there & in{kw}, other=0.0)")
            for j in range(rows):
                kh, rest = divmod(shift - j * high.stride, high.dilation)
                if rest == 0 and 0 <= kh < high.kernel:
                    body.append(f"acc{j} += v * w{kh * wide.kernel + kw}")
    for j in range(rows):
        place = f"y + ((first + {j}) * {wide.out} + ow)"
        body.append(f"tl.store({place}, acc{j}, mask=(ow < {wide.out}) & (first + {j} < {high.out}))")
    pointers = ["p_x", "p_w", *(["p_b"] if bias else []), "p_y"]
    return function_text(name, pointers, body)
